"""One line of a benchmark, and how its figures are taken.

The figure to compare is process CPU time, the least of several runs, since a busy
machine only ever adds.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bifocus.errors import EngineError
from bifocus.hal.procedural_tissue import make_procedural_tissue
from bifocus.records import UInt8Image

# A full frame of the paper's data, 2x2-binned: rows, columns.
FRAME_SHAPE = (1024, 1224)
_RUNS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table; None where a figure does not apply.

    `gmac` belongs to networks: multiply-accumulates of a frame in 10^9.
    `ratio_to_tsva` is the CPU time of the paper's network on this machine, in the same
    run, divided by this row's: how many times cheaper this is. `figure` is the number
    that the row's name asks for, where that is neither time nor memory.
    """

    name: str
    engine: str
    cpu_s: float
    wall_s: float
    peak_mb: float
    gmac: float | None = None
    ratio_to_tsva: float | None = None
    unit: str = ""
    figure: float | None = None


def make_frame() -> UInt8Image:
    """Return a frame of procedural tissue, `FRAME_SHAPE` x 3."""
    light = make_procedural_tissue(*FRAME_SHAPE)
    return np.asarray(np.rint(235 * np.clip(light, 0, 1)), dtype=np.uint8)


def time_work(
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
    return Row(
        name=name,
        engine=engine,
        cpu_s=min(cpu_s),
        wall_s=min(wall_s),
        peak_mb=peak_mb(),
        unit=unit,
    )


def peak_mb() -> float:
    """Return the most memory this process has had, Python and libraries included.

    Not from getrusage: what that tells of a child begins with its parent's peak.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    if not found:
        msg = "/proc/self/status: no VmHWM in it"
        raise EngineError(msg)
    return int(found[1]) / 1024


def forget_peak() -> None:
    """Let the kernel measure the peak anew; see proc(5)."""
    Path("/proc/self/clear_refs").write_text("5")


class Stopwatch:
    """CPU and wall time of what is done within it; adds up when used again."""

    def __init__(self) -> None:
        self.cpu_s = 0.0
        self.wall_s = 0.0

    def __enter__(self) -> "Stopwatch":
        """Begin, or go on."""
        self._start = (time.process_time(), time.perf_counter())
        return self

    def __exit__(self, *_: object) -> None:
        """Add what was spent since."""
        self.cpu_s += time.process_time() - self._start[0]
        self.wall_s += time.perf_counter() - self._start[1]
