"""CPU time and seam error of our stitching beside two published programs.

The same tiles, whose true places are known, go to each program, uncompressed and in
the form that it reads at least cost. Each does its whole job in a process of its own:
read, register, place, join, write a pyramid. CPU time is user plus system of the
process and its children, start-up included. Prints one JSON document.
Run: `.venv/bin/python -m bench.stitch_peers --side 10`.

openflexure-stitching (LGPL) and ashlar (MIT, with Bio-Formats under the GPL) lie in
environments of their own; they are never imported here.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from bench.peer_environments import ensure_environment
from bifocus.bench_grid import GridFaults, GridScan
from bifocus.edge.loop_closure import Cell, Vector
from bifocus.edge.scan_folder import ScanFolder

ROOT = Path(__file__).parents[1]
OPENFLEXURE = ("openflexure-stitching==0.3.1", "pyvips-binary==8.18.7", "numpy<3")
ASHLAR = ("ashlar==1.20.0", "numpy<3")
PIXEL_UM = 0.25
# Pairs are off by 24 px at most; ashlar's own limit of 15 um would do as well.
ASHLAR_REACH_UM = 15
# Share of the tile's area: half of what neighbours have in common here.
OPENFLEXURE_OVERLAP = 0.5
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VIPS_CONCURRENCY")
ONE_THREAD = dict.fromkeys(_THREADS, "1")

Places = dict[Cell, Vector]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiles:
    """The tiles on the disk: `ours` (.npy), `planes` (3 pages), `rgb` (one page)."""

    grid: GridScan
    overlap: float
    ours: Path
    planes: Path
    rgb: Path
    out: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one program spent, and how far neighbours are from their true shift.

    `ratio` is its CPU time over ours.
    """

    name: str
    cpu_s: float
    ratio: float
    seam_median_px: float
    seam_max_px: float
    file_mb: float


def measure(
    rows: int,
    columns: int,
    *,
    field_px: tuple[int, int] = (1224, 1024),
    overlap: float = 0.1,
    faults: GridFaults | None = None,
    peers: tuple[str, ...] = ("openflexure", "openflexure-half", "ashlar"),
) -> list[Result]:
    """Let each program stitch the same tiles, one after the other; ours comes first.

    Raises
    ------
    PeerMissingError
        If a peer cannot be installed.
    CalledProcessError
        If a program fails.
    """
    grid = GridScan(rows, columns, field_px=field_px, overlap=overlap, faults=faults)
    with tempfile.TemporaryDirectory() as folder:
        tiles = _write_tiles(Path(folder), grid, overlap)
        cpu_s, places, written = _ours(tiles)
        results = [_judge("bifocus", cpu_s, cpu_s, grid, places, written)]
        for name in peers:
            spent_s, places, written = _PEERS[name](tiles)
            results.append(_judge(name, spent_s, cpu_s, grid, places, written))
    return results


def _judge(
    name: str,
    cpu_s: float,
    ours_s: float,
    grid: GridScan,
    places: Places,
    written: Path,
) -> Result:
    seams_px = grid.seam_errors(places)
    return Result(
        name=name,
        cpu_s=round(cpu_s, 2),
        ratio=round(cpu_s / ours_s, 1),
        seam_median_px=round(float(np.median(seams_px)), 3),
        seam_max_px=round(float(seams_px.max()), 3),
        file_mb=round(written.stat().st_size / 1e6, 1),
    )


def _write_tiles(root: Path, grid: GridScan, overlap: float) -> Tiles:
    names = ("ours", "planes", "rgb", "out")
    tiles = Tiles(grid=grid, overlap=overlap, **{name: root / name for name in names})
    for folder in (tiles.planes, tiles.rgb, tiles.out):
        folder.mkdir()
    ours = ScanFolder(tiles.ours)
    ours.create()
    step_px = [step_um / grid.plan.pixel_um for step_um in grid.plan.step_um]
    for visit in grid.plan.visits:
        pixels = grid.tile(visit.row, visit.column)
        ours.save_fused(visit.row, visit.column, pixels)
        name = f"r{visit.row:03d}_c{visit.column:03d}.tif"
        tifffile.imwrite(
            tiles.planes / name,
            np.moveaxis(pixels, -1, 0),
            photometric="minisblack",
        )
        # Its name is the stage's position, in whole pixels.
        x_px, y_px = visit.column * step_px[0], visit.row * step_px[1]
        name = f"image_{round(x_px)}_{round(y_px)}.tiff"
        tifffile.imwrite(tiles.rgb / name, pixels, photometric="rgb")
    return tiles


def _ours(tiles: Tiles) -> tuple[float, Places, Path]:
    plan = tiles.grid.plan
    numbers = [plan.rows, plan.columns, *plan.field_px, tiles.overlap]
    command = [sys.executable, "-m", "bench.stitch_folder", str(tiles.ours)]
    cpu_s, printed = _run([*command, *map(str, numbers)])
    found = json.loads(printed)
    places = {(row, column): (x, y) for row, column, x, y in found["places"]}
    return cpu_s, places, tiles.ours / "slide.ome.tiff"


def _openflexure(tiles: Tiles, *options: str) -> tuple[float, Places, Path]:
    """Run its command with correlations from scratch, and a pyramidal TIFF."""
    python = ensure_environment("openflexure-stitching", OPENFLEXURE)
    for left in tiles.rgb.iterdir():
        if left.suffix != ".tiff" or not left.name.startswith("image_"):
            left.unlink()
    out = tiles.out / f"openflexure{len(options)}"
    least = OPENFLEXURE_OVERLAP * tiles.overlap
    command = [str(python.with_name("openflexure-stitch")), "--stitch_tiff"]
    flags = ["--minimum_overlap", str(least), "-o", str(out), *options]
    cpu_s, _ = _run([*command, *flags, str(tiles.rgb)])
    text = (out / "OFMTileConfiguration.txt").read_text(encoding="utf-8")
    found = re.findall(r"image_(\d+)_(\d+)\.tiff; ; \(([^,]+), ([^)]+)\)", text)
    step_px = [step_um / PIXEL_UM for step_um in tiles.grid.plan.step_um]
    places = {
        (round(int(row_px) / step_px[1]), round(int(column_px) / step_px[0])): (
            float(x_px),
            float(y_px),
        )
        for column_px, row_px, x_px, y_px in found
    }
    (written,) = out.glob("*.ome.tif*")
    return cpu_s, places, written


def _openflexure_half(tiles: Tiles) -> tuple[float, Places, Path]:
    """Correlate at half resolution, as the OpenFlexure server does by default."""
    return _openflexure(tiles, "--resize", "0.5")


def _ashlar(tiles: Tiles) -> tuple[float, Places, Path]:
    python = ensure_environment("ashlar", ASHLAR)
    script = ROOT / "tests" / "peers" / "clients" / "drive_ashlar.py"
    found, out = tiles.out / "ashlar.json", tiles.out / "ashlar.ome.tif"
    pattern = "r{row:03}_c{col:03}.tif"
    reader = (
        f"filepattern|{tiles.planes}|pattern={pattern}|overlap={tiles.overlap}"
        f"|pixel_size={PIXEL_UM}"
    )
    # The second of its channels, green, is the one that we register by.
    flags = ["-q", "-m", str(ASHLAR_REACH_UM), "-c", "1", "-o", str(out)]
    cpu_s, _ = _run([str(python), str(script), str(found), *flags, reader])
    places = {
        (row, column): (x, y) for row, column, x, y in json.loads(found.read_text())
    }
    return cpu_s, places, out


def _run(command: list[str]) -> tuple[float, str]:
    """Run a program to its end; return its CPU time with its children's, and output."""
    before = os.times()
    done = subprocess.run(
        command,
        env=os.environ | ONE_THREAD,
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        print(done.stderr[-3000:], file=sys.stderr)
        done.check_returncode()
    after = os.times()
    user_s = after.children_user - before.children_user
    return user_s + after.children_system - before.children_system, done.stdout


_PEERS: dict[str, Callable[[Tiles], tuple[float, Places, Path]]] = {
    "openflexure": _openflexure,
    "openflexure-half": _openflexure_half,
    "ashlar": _ashlar,
}


def main() -> None:
    """Measure with the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=10, help="tiles per row and column")
    parser.add_argument("--overlap", type=float, default=0.1)
    parser.add_argument("--hard", action="store_true", help="glass, noise, shading")
    given = parser.parse_args()
    hard = GridFaults(glass=0.35, noise=5.0, shading=0.25)
    results = measure(
        given.side,
        given.side,
        overlap=given.overlap,
        faults=hard if given.hard else None,
    )
    table: dict[str, Any] = {
        "tiles": given.side**2,
        "overlap": given.overlap,
        "hard": given.hard,
        "results": [asdict(result) for result in results],
    }
    print(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
