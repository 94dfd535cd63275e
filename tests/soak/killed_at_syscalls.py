"""Kill a process that keeps tiles at each of its system calls; look at what is left.

Run as `python -m tests.soak.killed_at_syscalls FOLDER`: prints, as JSON, how many tiles
were in the journal at each kill. The parent traces the child by ptrace(2), so it stops
before and behind every call, whatever makes it: Python, OpenCV or SQLite. After each
kill the rest of the work is done, as `bifocus resume` does.
"""

import ctypes
import json
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from bifocus.edge.journal import Journal, TileEntry
from bifocus.edge.pipeline import Pipeline
from bifocus.edge.scan_folder import ScanFolder, raw_name
from bifocus.records import Frame, StagePosition, UInt8Image

TILES, SIDE_PX = 2, 16
_TRACE_ME, _TO_NEXT_CALL = 0, 24  # PTRACE_TRACEME, PTRACE_SYSCALL of sys/ptrace.h

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def run_until(work: Callable[[], None], n_stops: int) -> bool:
    """Run `work` in a child, killed after so many stops; return whether it was."""
    child = os.fork()
    if child == 0:
        _libc.ptrace(_TRACE_ME, 0, None, None)
        os.kill(os.getpid(), signal.SIGSTOP)
        work()
        os._exit(0)
    os.waitpid(child, 0)
    for _ in range(n_stops + 1):
        if _libc.ptrace(_TO_NEXT_CALL, child, None, None):
            raise OSError(ctypes.get_errno(), "ptrace")
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            return False
        assert os.WIFSTOPPED(status), status
        assert os.WSTOPSIG(status) == signal.SIGTRAP, status
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def pictures(number: int) -> tuple[UInt8Image, UInt8Image]:
    rng = np.random.default_rng(number)
    minus, plus = rng.integers(0, 256, (2, SIDE_PX, SIDE_PX, 3), np.uint8)
    return minus, plus


def entry(number: int) -> TileEntry:
    return TileEntry(
        row=0,
        column=number,
        visit=number,
        x_um=1.0 * number,
        y_um=0.0,
        focus_um=3.0,
        status="captured",
        shots=2,
        capture_s=0.5,
        offset=None,
        raw_a=raw_name(f"{number}_minus"),
        raw_b=raw_name(f"{number}_plus"),
        sequence=number,
    )


def keep_tiles(root: Path) -> None:
    """Begin a scan, or go on with it, as `Scan` does; keep what is not kept yet."""
    folder = ScanFolder(root)
    if not folder.journal.exists():
        folder.create()
        Journal.create(folder.journal, {"strategy": "two-shot"}).__exit__(*3 * [None])
    with Journal(folder.journal) as journal:
        n_kept = sum(1 for _ in journal.lines())
        for number in range(n_kept, TILES):
            keep_tile(folder, journal, number)
            journal.set_fused(0, number, quality=0.5, fuse_s=0.1, sharpness=(1.0, 2.0))


def keep_tile(folder: ScanFolder, journal: Journal, number: int) -> None:
    """Do what the stage `save` of the pipeline does."""
    place = StagePosition(x_um=0.0, y_um=0.0, z_um=0.0)
    frames = tuple(
        Frame(
            pixels=pixels,
            exposure_start_s=0.0,
            exposure_end_s=0.01,
            pose=place,
            sequence_number=number,
        )
        for pixels in pictures(number)
    )
    stage: Any = SimpleNamespace(
        _folder=folder,
        _journal=journal,
        _meter=SimpleNamespace(optics=SimpleNamespace(light=None)),
        _is_light_noted=True,
        _tell=lambda _entry: None,
    )
    Pipeline._save(stage, entry(number), str(number), frames)


def check(root: Path) -> int:
    """Return the tiles in the journal; all of each must be there, as it was shot."""
    folder = ScanFolder(root)
    if not folder.journal.exists():
        return 0
    with closing(sqlite3.connect(folder.journal)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with Journal(folder.journal) as journal:
        lines = list(journal.lines())
        assert journal.properties() == {"strategy": "two-shot"}
    assert [line.entry for line in lines] == [entry(n) for n in range(len(lines))]
    for number, line in enumerate(lines):
        names = line.entry.raw_a, line.entry.raw_b
        for name, pixels in zip(names, pictures(number), strict=True):
            assert name is not None
            np.testing.assert_array_equal(folder.load_raw(name), pixels)
    return len(lines)


def kill_everywhere(root: Path) -> list[int]:
    """Return the tiles in the journal at each kill, from the first call to the last."""
    kept: list[int] = []
    keep_tiles(root)  # What is loaded with the first tile is of no interest.
    while True:
        shutil.rmtree(root)
        # One stop is before a call, the next one behind it.
        if not run_until(partial(keep_tiles, root), 2 * len(kept)):
            return kept
        kept.append(check(root))
        keep_tiles(root)
        assert check(root) == TILES


if __name__ == "__main__":
    found = kill_everywhere(Path(sys.argv[1]))
    sys.stdout.write(json.dumps({"kept_at_kills": found}))
