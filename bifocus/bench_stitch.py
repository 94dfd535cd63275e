"""How well and how fast tiles become a slide while they arrive, and how it is written.

The tiles are those of `bench_grid`, whose true places are known, at the size of a real
camera, as PNG files on the disk as in a scan. They are made in a process of their own,
so that the memory measured is that of stitching and writing alone.
"""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bifocus.bench_grid import GridFaults, GridScan
from bifocus.bench_rows import Row, make_frame, peak_mb
from bifocus.edge.live_stitch import LiveStitcher, LoadTile, plan_canvas
from bifocus.edge.pyramid import compute_grid
from bifocus.edge.registration import EdgeStrips, extract_strips
from bifocus.edge.scan_folder import read_png, write_png
from bifocus.edge.seams import SeamRegister
from bifocus.edge.slide_file import SlideDescription, SlideWriter
from bifocus.records import UInt8Image

SIDE = 10  # tiles
CLEAN = GridFaults()
HARD = GridFaults(glass=0.35, noise=5.0, shading=0.25)
FALSE_PX = 2.0  # No true pair is so far off.
WRITER_PX = 8192
WIDE_PX = (131_072, 2048)


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


def bench_writer(side_px: int = WRITER_PX) -> list[Row]:
    """Write a square slide with all levels, by each codec, and a very wide one."""
    frame = make_frame()
    tiles = [
        np.ascontiguousarray(frame[y : y + 512, x : x + 512])
        for y in (0, 250, 512)
        for x in (0, 333, 712)
    ]
    size = (side_px, side_px)
    wide = (min(WIDE_PX[0], 16 * side_px), min(WIDE_PX[1], side_px))
    small = {"jpeg_quality": 85, "chroma_subsampling": "420"}
    full = {"jpeg_quality": 90, "chroma_subsampling": "444"}
    quarter = (side_px // 2, side_px // 2)
    return [
        _write("JPEG 85 4:2:0", size, tiles, small),
        _write("JPEG 90 4:4:4", size, tiles, full),
        _write("lossless", quarter, tiles, {"codec": "lossless"}),
        _write("JPEG 90 4:4:4", wide, tiles, full),
    ]


def describe_bench(width_px: int, height_px: int) -> SlideDescription:
    """Return a description of a slide that is made to be measured."""
    return SlideDescription(
        width_px=width_px,
        height_px=height_px,
        pixel_um=0.25,
        objective="benchmark",
        magnification=20.0,
        na=0.75,
        instrument="benchmark",
        software="bifocus bench",
        acquired_utc="2026-01-01T00:00:00+00:00",
        simulated=True,
        wavelengths_um=(0.62, 0.53, 0.46),
    )


def _tile_path(folder: Path, row: int, column: int) -> Path:
    return folder / f"r{row:03d}_c{column:03d}.png"


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
        write_png(path, grid.tile(visit.row, visit.column))


def _stitch(name: str, folder: Path, grid: GridScan) -> list[Row]:
    """Stitch tiles that lie in a folder; return times, memory and seam errors."""
    canvas = plan_canvas(grid.plan)

    def load(row: int, column: int) -> UInt8Image:
        return read_png(_tile_path(folder, row, column))

    _forget_peak()
    stitcher = LiveStitcher(
        grid.plan,
        describe_bench(canvas.width_px, canvas.height_px),
        folder / "slide.ome.tiff",
        load,
    )
    cpu_s = wall_s = 0.0
    for visit in grid.plan.visits:
        strips = _cut(grid, visit.row, visit.column, load)
        with _Clock() as clock:
            stitcher.add(visit.row, visit.column, strips)
        cpu_s, wall_s = cpu_s + clock.cpu_s, wall_s + clock.wall_s
    with _Clock() as end:
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
    all_cpu_s, all_wall_s = cpu_s + end.cpu_s, wall_s + end.wall_s
    per_tile_s = all_cpu_s / len(placement.tiles)
    return [
        row("stitched and written", 1 / per_tile_s, "tiles/s", all_cpu_s, all_wall_s),
        row("after the last tile", end.wall_s, "s", end.cpu_s, end.wall_s),
        row("seam error, median", float(np.median(seam_px)), "px", 0.0, 0.0),
        row("seam error, max", float(seam_px.max()), "px", 0.0, 0.0),
        row("pairs registered", float(pairs), "pairs", clock.cpu_s, clock.wall_s),
        row("false pairs accepted", float(false), "pairs", 0.0, 0.0),
    ]


def _register(grid: GridScan, load: LoadTile) -> tuple[int, int, "_Clock"]:
    """Return how many pairs are trusted, how many of those falsely, and the time."""
    step_um, pixel_um = grid.plan.step_um, grid.plan.pixel_um
    register = SeamRegister((step_um[0] / pixel_um, step_um[1] / pixel_um))
    total = _Clock()
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


def _write(
    name: str,
    size: tuple[int, int],
    tiles: list[UInt8Image],
    options: dict[str, Any],
) -> Row:
    """Write a slide of some tiles again and again; the figure is MB of pixels a s."""
    width_px, height_px = size
    _forget_peak()
    with tempfile.TemporaryDirectory() as folder, _Clock() as clock:
        path = Path(folder) / "slide.ome.tiff"
        description = describe_bench(width_px, height_px)
        with SlideWriter(path, description, **options) as writer:
            n_rows, n_columns = compute_grid(size, writer.tile_px)
            for number, (row, column) in enumerate(np.ndindex(n_rows, n_columns)):
                writer.write_tile(row, column, tiles[number % len(tiles)])
    return Row(
        name=f"{width_px} x {height_px} px, {name}, all levels",
        engine="slide writer",
        cpu_s=clock.cpu_s,
        wall_s=clock.wall_s,
        peak_mb=peak_mb(),
        figure=3e-6 * width_px * height_px / clock.cpu_s,
        unit="MB/s of CPU time",
    )


class _Clock:
    """CPU and wall time of what is done within it; adds up when used again."""

    def __init__(self) -> None:
        self.cpu_s = 0.0
        self.wall_s = 0.0

    def __enter__(self) -> "_Clock":
        self._start = (time.process_time(), time.perf_counter())
        return self

    def __exit__(self, *_: object) -> None:
        self.cpu_s += time.process_time() - self._start[0]
        self.wall_s += time.perf_counter() - self._start[1]


def _forget_peak() -> None:
    """Let the kernel measure the peak anew; see proc(5)."""
    Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    _write_tiles(json.loads(sys.argv[1]))
