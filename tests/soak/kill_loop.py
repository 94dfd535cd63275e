"""SIGKILL a whole scan at random moments, go on with it, and look at what is left.

Every session is a process of its own, `bifocus scan` or `bifocus resume`, on a small
virtual instrument. After each kill, everything in the journal must be on the disk,
unchanged since it was first seen there. In the end the slide must be, byte for byte,
the one that the same captures give in one undisturbed go.
"""

import hashlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import openslide

from bifocus.calib.profile_file import write_profile
from bifocus.config import load_instrument
from bifocus.edge.finish_scan import finish_scan
from bifocus.edge.fusers import PhysicsFuser
from bifocus.edge.scan_folder import ScanFolder
from bifocus.hal.open_instrument import open_instrument
from bifocus.scan_jobs import recall_setup
from tests.cli.commands import write_instrument
from tests.scanner import ideal_profile

# Five by four tiles over tissue.
REGION_UM = [206.0, 160.0, 160.0, 124.0]
CENTRE_UM = (286.0, 222.0)
_MOST_S = 120.0
# A tenth of the kills comes while a process starts; the rest while it works: after so
# many new files of shots and a moment more, so that a busy machine gets far, too.
_EARLY = 0.1
_MOST_NEW_FILES = 10
_MOMENT_S = 0.2


@dataclass(slots=True)
class Tally:
    """What happened to one scan."""

    kills: int = 0
    sessions: int = 0
    lines_at_kills: list[int] = field(default_factory=list)
    seen: dict[str, str] = field(default_factory=dict)


def make_bench(folder: Path) -> tuple[Path, Path]:
    """Write instrument and profile; return their paths."""
    path = write_instrument(
        folder / "small.yaml",
        camera={"width_px": 160, "height_px": 160},
        scan={"region_um": REGION_UM, "overlap": 0.25},
    )
    config = load_instrument(path)
    with open_instrument(config, base_dir=folder) as instrument:
        write_profile(
            folder / "profile.yaml", ideal_profile(instrument, centre_um=CENTRE_UM)
        )
    return path, folder / "profile.yaml"


def scan_with_kills(
    scan: Path, instrument: Path, profile: Path, rng: random.Random, most_kills: int
) -> Tally:
    """Make one scan in as many sessions as it takes; raises AssertionError."""
    tally = Tally()
    folder = ScanFolder(scan)
    while True:
        may_kill = tally.kills < most_kills
        code, text = _session(folder, instrument, profile, rng if may_kill else None)
        tally.sessions += 1
        if code == 0:
            break
        assert code == -signal.SIGKILL, text
        tally.kills += 1
        _check_kept(folder, tally)
    _check_kept(folder, tally)
    assert not folder.fused.exists()
    return tally


def check_like_undisturbed(scan: Path, copy: Path) -> int:
    """Fuse and stitch the same captures in one go; return the number of tiles."""
    copy.mkdir()
    shutil.copytree(scan / "raw", copy / "raw")
    for name in ("scan.sqlite", "instrument.yaml", "profile.yaml"):
        shutil.copy(scan / name, copy / name)
    with closing(sqlite3.connect(copy / "scan.sqlite")) as journal, journal:
        journal.execute("UPDATE tile SET fused_crc=NULL, quality=NULL")
    folder = ScanFolder(copy)
    folder.fused.mkdir()
    setup = recall_setup(folder)
    result = finish_scan(setup, PhysicsFuser())
    slides = [path / "slide.ome.tiff" for path in (scan, copy)]
    assert slides[0].read_bytes() == slides[1].read_bytes(), f"{scan}: another slide"
    assert len(result.lines) == len(setup.plan.visits), "a tile is missing"
    return len(result.lines)


def _session(
    folder: ScanFolder, instrument: Path, profile: Path, rng: random.Random | None
) -> tuple[int, str]:
    """Run one process, and kill it at a random moment if there is an `rng`."""
    command = [sys.executable, "-m", "bifocus"]
    if folder.journal.exists():
        command += ["resume", str(folder.root)]
    else:
        command += ["scan", str(instrument), "-o", str(folder.root)]
        command += ["--profile", str(profile), "--model", "physics"]
    log = folder.root.with_suffix(".log")
    n_before = _count_shots(folder)
    with (
        log.open("wb") as out,
        subprocess.Popen(command, stdout=out, stderr=out) as process,
    ):
        if rng is not None:
            if rng.random() < _EARLY:
                _wait(process, rng.uniform(0.0, 2.0))
            else:
                n_files = n_before + rng.randrange(_MOST_NEW_FILES)
                while _count_shots(folder) <= n_files and process.poll() is None:
                    time.sleep(0.002)
                _wait(process, rng.uniform(0.0, _MOMENT_S))
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
        code = process.wait(timeout=_MOST_S)
    return code, log.read_text(errors="replace")


def _wait(process: "subprocess.Popen[bytes]", duration_s: float) -> None:
    try:
        process.wait(timeout=duration_s)
    except subprocess.TimeoutExpired:
        return


def _count_shots(folder: ScanFolder) -> int:
    """Count the files in raw/, whole or not."""
    return sum(1 for _ in folder.raw.iterdir()) if folder.raw.is_dir() else 0


def _check_kept(folder: ScanFolder, tally: Tally) -> None:
    """Everything journalled is there, as it was; a slide that is there opens."""
    if not folder.journal.exists():
        return
    with closing(sqlite3.connect(folder.journal)) as journal:
        assert journal.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        paths = journal.execute("SELECT raw_a, raw_b FROM tile").fetchall()
    tally.lines_at_kills.append(len(paths))
    for name in (name for pair in paths for name in pair):
        digest = hashlib.sha256((folder.root / name).read_bytes()).hexdigest()
        assert tally.seen.setdefault(name, digest) == digest, f"{name} was shot again"
    assert len(tally.seen) == 2 * len(paths), "a tile left the journal"
    if folder.slide.exists():
        with openslide.OpenSlide(folder.slide) as slide:
            level = slide.level_count - 1
            slide.read_region((0, 0), level, slide.level_dimensions[level])
