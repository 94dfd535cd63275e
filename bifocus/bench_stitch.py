"""How well and how fast tiles become a slide while they arrive.

The tiles are those of `bench_grid`, whose true places are known, at the size of a real
camera, as arrays on the disk as in a scan. They are made in a process of their own,
so that the memory measured is that of stitching and writing alone.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bifocus.bench_grid import GridFaults, GridScan
from bifocus.bench_rows import Row, Stopwatch, forget_peak, peak_mb
from bifocus.bench_writer import describe_bench
from bifocus.edge.live_stitch import LiveStitcher, LoadTile, plan_canvas
from bifocus.edge.registration import EdgeStrips, extract_strips
from bifocus.edge.scan_folder import read_array, write_array
from bifocus.edge.seams import SeamRegister
from bifocus.records import UInt8Image

SIDE = 10  # tiles
CLEAN = GridFaults()
HARD = GridFaults(glass=0.35, noise=5.0, shading=0.25)
FALSE_PX = 2.0  # No true pair is so far off.


def bench_stitch(
    side: int = SIDE,
    field_px: tuple[int, int] = (1224, 1024),
    overlap: float = 0.1,
) -> list[Row]:
    """Stitch `side` x `side` tiles, clean and hard ones, as they would arrive.

    Seam errors are against the truth, over all neighbours, also those on glass.
    """
    rows = []
    for name, faults in (("clean", CLEAN), ("hard", HARD)):
        with tempfile.TemporaryDirectory() as folder:
            grid = GridScan(
                side, side, field_px=field_px, overlap=overlap, faults=faults
            )
            _make_tiles(Path(folder), grid, overlap, faults)
            rows += _stitch(f"{side * side} {name} tiles", Path(folder), grid)
    return rows


def _tile_path(folder: Path, row: int, column: int) -> Path:
    return folder / f"r{row:03d}_c{column:03d}.npy"


def _make_tiles(
    folder: Path, grid: GridScan, overlap: float, faults: GridFaults
) -> None:
    """Write the tiles from another process, whose memory is not ours."""
    task = {
        "folder": str(folder),
        "rows": grid.plan.rows,
        "columns": grid.plan.columns,
        "field_px": grid.plan.field_px,
        "overlap": overlap,
        "faults": asdict(faults),
    }
    command = [sys.executable, "-m", "bifocus.bench_stitch", json.dumps(task)]
    subprocess.run(command, check=True)


def _write_tiles(task: dict[str, Any]) -> None:
    grid = GridScan(
        task["rows"],
        task["columns"],
        field_px=tuple(task["field_px"]),
        overlap=task["overlap"],
        faults=GridFaults(**task["faults"]),
    )
    for visit in grid.plan.visits:
        path = _tile_path(Path(task["folder"]), visit.row, visit.column)
        write_array(path, grid.tile(visit.row, visit.column))


def _stitch(name: str, folder: Path, grid: GridScan) -> list[Row]:
    """Stitch tiles that lie in a folder; return times, memory and seam errors."""
    canvas = plan_canvas(grid.plan)

    def load(row: int, column: int) -> UInt8Image:
        return read_array(_tile_path(folder, row, column))

    forget_peak()
    stitcher = LiveStitcher(
        grid.plan,
        describe_bench(canvas.width_px, canvas.height_px),
        folder / "slide.ome.tiff",
        load,
    )
    total, end = Stopwatch(), Stopwatch()
    for visit in grid.plan.visits:
        strips = _cut(grid, visit.row, visit.column, load)
        with total:
            stitcher.add(visit.row, visit.column, strips)
    with total, end:
        placement = stitcher.finish()
    seam_px = grid.seam_errors(
        {(tile.row, tile.column): (tile.x_px, tile.y_px) for tile in placement.tiles}
    )
    pairs, false, clock = _register(grid, load)

    def row(what: str, figure: float, unit: str, cpu_s: float, wall_s: float) -> Row:
        return Row(
            name=f"{name}: {what}",
            engine="live",
            cpu_s=cpu_s,
            wall_s=wall_s,
            peak_mb=peak,
            figure=figure,
            unit=unit,
        )

    peak = peak_mb()
    per_s = len(placement.tiles) / total.cpu_s
    return [
        row("stitched and written", per_s, "tiles/s", total.cpu_s, total.wall_s),
        row("after the last tile", end.wall_s, "s", end.cpu_s, end.wall_s),
        row("seam error, median", float(np.median(seam_px)), "px", 0.0, 0.0),
        row("seam error, max", float(seam_px.max()), "px", 0.0, 0.0),
        row("pairs registered", float(pairs), "pairs", clock.cpu_s, clock.wall_s),
        row("false pairs accepted", float(false), "pairs", 0.0, 0.0),
    ]


def _register(grid: GridScan, load: LoadTile) -> tuple[int, int, Stopwatch]:
    """Return how many pairs are trusted, how many of those falsely, and the time."""
    step_um, pixel_um = grid.plan.step_um, grid.plan.pixel_um
    register = SeamRegister((step_um[0] / pixel_um, step_um[1] / pixel_um))
    total = Stopwatch()
    for visit in grid.plan.visits:
        strips = _cut(grid, visit.row, visit.column, load)
        with total:
            register.add(visit.row, visit.column, strips)
    trusted = [pair for pair in register.pairs if pair.is_trusted]
    true = [
        np.subtract(
            grid.true_px[pair.row_b, pair.column_b],
            grid.true_px[pair.row_a, pair.column_a],
        )
        for pair in trusted
    ]
    false = sum(
        bool(np.hypot(*(shift - (pair.dx_px, pair.dy_px))) > FALSE_PX)
        for pair, shift in zip(trusted, true, strict=True)
    )
    return len(trusted), false, total


def _cut(grid: GridScan, row: int, column: int, load: LoadTile) -> EdgeStrips:
    across, down = grid.plan.overlap_px
    return extract_strips(
        load(row, column),
        row=row,
        column=column,
        overlap_x_px=across,
        overlap_y_px=down,
    )


if __name__ == "__main__":
    _write_tiles(json.loads(sys.argv[1]))
