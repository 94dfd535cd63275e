"""Speed and memory of the parts, one row each; `bifocus bench` prints them.

Each part runs in a process of its own, so that its peak memory (Python and libraries
included) is its own too.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from bifocus.bench_engines import bench_fusers
from bifocus.bench_loop import bench_loop
from bifocus.bench_rows import FRAME_SHAPE, Row, make_frame, time_work
from bifocus.edge.mosaic import MosaicRenderer
from bifocus.edge.registration import extract_strips, register_strips
from bifocus.edge.slide_file import SlideDescription, SlideWriter
from bifocus.errors import ConfigError, EngineError
from bifocus.records import PlacedTile

PARTS = ("fuse", "stitch", "writer", "loop")


def run_benchmarks(parts: Sequence[str], model: str = "auto") -> list[Row]:
    """Run each part in a fresh process; an empty sequence means all parts.

    Parameters
    ----------
    parts
        Out of `PARTS`.
    model
        Of the part `fuse`: its files are measured in each engine that runs them here.

    Raises
    ------
    ConfigError
        If there is no such part.
    EngineError
        If a part fails, with what it printed.
    """
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        msg = f"no benchmark '{unknown[0]}'; choose from {', '.join(PARTS)}"
        raise ConfigError(msg)
    rows: list[Row] = []
    for part in parts or PARTS:
        if part == "fuse":
            rows += bench_fusers(model)
            continue
        done = subprocess.run(
            [sys.executable, "-m", "bifocus.bench", part],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            msg = f"benchmark '{part}' failed: {done.stderr.strip()[-2000:]}"
            raise EngineError(msg)
        rows += [Row(**row) for row in json.loads(done.stdout)]
    return rows


def bench_stitch() -> list[Row]:
    """Time one registration of two full tiles, and a megapixel of rendered mosaic."""
    frame = make_frame()
    rows, columns = FRAME_SHAPE
    overlap = 122
    left = extract_strips(
        frame, row=0, column=0, overlap_x_px=overlap, overlap_y_px=102
    )
    moved = np.roll(frame, overlap - columns, axis=1)
    right = extract_strips(
        moved, row=0, column=1, overlap_x_px=overlap, overlap_y_px=102
    )
    step = columns - overlap
    tiles = [
        PlacedTile(row=0, column=0, x_px=0.0, y_px=0.0),
        PlacedTile(row=0, column=1, x_px=step + 0.4, y_px=0.3),
    ]

    def render() -> None:
        renderer = MosaicRenderer(tiles, (rows, columns), lambda _row, _column: frame)
        renderer.render(step - 500, 0, 1000, 1000)

    def register() -> None:
        register_strips(
            left.right, right.left, nominal_dx_px=step + 5, nominal_dy_px=-3
        )

    return [
        time_work("register one seam", "numpy, opencv", register, unit="pair"),
        time_work("render 1 Mpx at a seam", "numpy, opencv", render, unit="Mpx"),
    ]


def bench_writer() -> list[Row]:
    """Time the writing of a 16-Mpx pyramidal slide, JPEG and all levels."""
    tile = make_frame()[:512, :512].copy()

    def write() -> None:
        with tempfile.TemporaryDirectory() as folder:
            description = SlideDescription(
                width_px=4096,
                height_px=4096,
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
            with SlideWriter(Path(folder) / "slide.ome.tiff", description) as writer:
                for row in range(8):
                    for column in range(8):
                        writer.write_tile(row, column, tile)

    return [time_work("write 4096x4096x3", "simplejpeg", write, unit="50 MB")]


_BENCHMARKS: dict[str, Callable[[], list[Row]]] = {
    "stitch": bench_stitch,
    "writer": bench_writer,
    "loop": bench_loop,
}

if __name__ == "__main__":
    sys.stdout.write(json.dumps([asdict(row) for row in _BENCHMARKS[sys.argv[1]]()]))
