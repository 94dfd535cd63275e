"""Killed at any system call between the first shot and the journal: no tile is lost."""

import json
import logging
import os
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest

from bifocus.edge import journal as journal_module
from bifocus.edge.journal import Journal
from bifocus.edge.scan_folder import ScanFolder
from tests.soak.killed_at_syscalls import TILES, keep_tile, keep_tiles

logger = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="uses Linux's ptrace")
def test_a_kill_at_any_system_call_leaves_whole_tiles_or_none() -> None:
    # A kill takes nothing from the page cache: no need to wait for a disk.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        done = subprocess.run(
            [sys.executable, "-m", "tests.soak.killed_at_syscalls", f"{folder}/scan"],
            cwd=ROOT,
            # A child of a process with other threads would not have them.
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    kept = json.loads(done.stdout)["kept_at_kills"]
    logger.info("killed at %d system calls", len(kept))
    # Two tiles are at least two files each, with open, write, fsync, close, rename.
    assert len(kept) > 100
    assert all(later - earlier in (0, 1) for earlier, later in pairwise(kept))
    assert set(kept) == set(range(TILES + 1))


def test_shots_and_their_names_are_synced_before_the_journals_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a kill cannot show: that the disk was waited for, and in which order."""
    seen: list[str] = []
    fsync, replace, run = os.fsync, Path.replace, Journal._run

    def note_fsync(descriptor: int) -> None:
        seen.append("fsync " + Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def note_replace(path: Path, target: Path) -> Path:
        seen.append(f"rename to {target.name}")
        return replace(path, target)

    def note_run(journal: Journal, statement: str, lines: list[object]) -> None:
        seen.append(statement.partition(" (")[0])
        run(journal, statement, lines)  # type: ignore[arg-type]

    root = tmp_path / "scan"
    keep_tiles(root)
    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_replace)
    monkeypatch.setattr(journal_module.Journal, "_run", note_run)
    folder = ScanFolder(root)
    with Journal(folder.journal) as journal:
        assert journal._database.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        # 2 is FULL: SQLite syncs the log at every commit, https://sqlite.org/pragma.html
        assert journal._database.execute("PRAGMA synchronous").fetchone()[0] == 2
        keep_tile(folder, journal, 7)
    shots = [f"7_{end}.png" for end in ("minus", "plus")]
    expected = [
        step
        for name in shots
        for step in (f"fsync {name}.partial", f"rename to {name}", "fsync raw")
    ]
    assert seen == [*expected, "INSERT OR REPLACE INTO tile"]
