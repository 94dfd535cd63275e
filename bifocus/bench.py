"""Speed and memory of the parts, one row each; `bifocus bench` prints them.

The figure to compare is process CPU time, the least of several runs, since a busy
machine only ever adds. Each part runs in a process of its own, so that its peak memory
(Python and libraries included) is its own too.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bifocus.edge.mosaic import MosaicRenderer
from bifocus.edge.registration import extract_strips, register_strips
from bifocus.edge.slide_file import SlideDescription, SlideWriter
from bifocus.errors import ConfigError, EngineError
from bifocus.focal_offset import PairOptics
from bifocus.hal.procedural_tissue import make_procedural_tissue
from bifocus.jobs import InstrumentFile, scan_instrument
from bifocus.physics_fusion import fuse_two_shots
from bifocus.records import PlacedTile, UInt8Image

PARTS = ("fuse", "stitch", "writer", "loop")

# A full frame of the paper's data, 2x2-binned: rows, columns.
FRAME_SHAPE = (1024, 1224)
_RUNS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table; None where a figure does not apply.

    `gmac` and `ratio_to_tsva` belong to networks: multiply-accumulates in 10^9, and CPU
    time against the paper's network on this machine.
    """

    name: str
    engine: str
    cpu_s: float
    wall_s: float
    peak_mb: float
    gmac: float | None = None
    ratio_to_tsva: float | None = None
    unit: str = ""


def run_benchmarks(parts: Sequence[str]) -> list[Row]:
    """Run each part in a fresh process; an empty sequence means all parts.

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


def bench_fuse() -> list[Row]:
    """Time the fusion of one full frame; the first run fills the filter cache."""
    frame = _frame()
    optics = PairOptics(na=0.75, pixel_um=0.25, half_spacing_um=0.75)
    other = np.roll(frame, 1, axis=0)
    return [
        _timed(
            "fuse 1224x1024x3",
            "physics, numpy",
            lambda: fuse_two_shots(frame, other, optics),
            unit="tile",
        )
    ]


def bench_stitch() -> list[Row]:
    """Time one registration of two full tiles, and a megapixel of rendered mosaic."""
    frame = _frame()
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
        _timed("register one seam", "numpy, opencv", register, unit="pair"),
        _timed("render 1 Mpx at a seam", "numpy, opencv", render, unit="Mpx"),
    ]


def bench_writer() -> list[Row]:
    """Time the writing of a 16-Mpx pyramidal slide, JPEG and all levels."""
    tile = _frame()[:512, :512].copy()

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

    return [_timed("write 4096x4096x3", "simplejpeg", write, unit="50 MB")]


def bench_loop() -> list[Row]:
    """Time a scan of 4 x 3 tiles on the virtual instrument, its pictures included."""
    instrument = InstrumentFile.load(Path(__file__).parent / "data" / "instrument.yaml")
    slide = instrument.config.virtual_slide
    if slide is None:
        msg = "the packaged instrument has no virtual slide"
        raise ConfigError(msg)
    config = instrument.config.model_copy(
        update={"virtual_slide": slide.model_copy(update={"tissue": "procedural"})}
    )
    local = InstrumentFile(path=instrument.path, config=config)

    def scan() -> None:
        with tempfile.TemporaryDirectory() as folder:
            scan_instrument(
                local, Path(folder) / "scan", region_um=(300.0, 300.0, 480.0, 350.0)
            )

    return [_timed("calibrate and scan 12 tiles", "physics", scan, runs=1, unit="scan")]


def _frame() -> UInt8Image:
    light = make_procedural_tissue(*FRAME_SHAPE)
    return np.asarray(np.rint(235 * np.clip(light, 0, 1)), dtype=np.uint8)


def _timed(
    name: str,
    engine: str,
    work: Callable[[], object],
    *,
    runs: int = _RUNS,
    unit: str = "",
) -> Row:
    """Return the least CPU and wall time of `runs` runs, after one not counted."""
    if runs > 1:
        work()
    cpu_s, wall_s = [], []
    for _ in range(runs):
        start_cpu_s, start_s = time.process_time(), time.perf_counter()
        work()
        cpu_s.append(time.process_time() - start_cpu_s)
        wall_s.append(time.perf_counter() - start_s)
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Row(
        name=name,
        engine=engine,
        cpu_s=min(cpu_s),
        wall_s=min(wall_s),
        peak_mb=peak_kb / 1024,
        unit=unit,
    )


_BENCHMARKS = {
    "fuse": bench_fuse,
    "stitch": bench_stitch,
    "writer": bench_writer,
    "loop": bench_loop,
}

if __name__ == "__main__":
    sys.stdout.write(json.dumps([asdict(row) for row in _BENCHMARKS[sys.argv[1]]()]))
