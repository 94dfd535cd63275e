"""How fast slides are written, with all their levels: by each codec, and a wide one."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bifocus.bench_rows import Row, Stopwatch, forget_peak, make_frame, peak_mb
from bifocus.edge.pyramid import compute_grid
from bifocus.edge.slide_file import SlideDescription, SlideWriter
from bifocus.records import UInt8Image

WRITER_PX = 8192
WIDE_PX = (131_072, 2048)


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


def _write(
    name: str,
    size: tuple[int, int],
    tiles: list[UInt8Image],
    options: dict[str, Any],
) -> Row:
    """Write a slide of some tiles again and again; the figure is MB of pixels a s."""
    width_px, height_px = size
    forget_peak()
    with tempfile.TemporaryDirectory() as folder, Stopwatch() as clock:
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
