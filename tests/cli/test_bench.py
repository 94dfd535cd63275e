"""`bifocus bench`: its rows, and parts that are none or fail."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bifocus import bench_engines
from bifocus.bench_rows import Row
from tests.cli.commands import run_cli

# Design, section 4.
KEYS = {
    *("name", "engine", "cpu_s", "wall_s", "peak_mb", "gmac", "ratio_to_tsva"),
}


@pytest.mark.slow
def test_rows_have_the_keys_of_the_design() -> None:
    outcome = run_cli("bench", "writer", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    rows = outcome.document["rows"]
    assert len(rows) == 4
    for row in rows:
        assert set(row) >= KEYS
        assert 0 < row["cpu_s"] < 30
        assert 0 < row["wall_s"] < 200
        assert row["peak_mb"] > 20


def test_people_get_a_table_without_empty_columns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    row = Row(name="fuse", engine="numpy", cpu_s=0.5, wall_s=0.6, peak_mb=99.0)
    monkeypatch.setattr("bifocus.__main__.run_benchmarks", lambda _parts, _model: [row])
    outcome = run_cli("bench", "fuse")
    assert outcome.out.startswith("benchmarks\n")
    assert "peak_mb" in outcome.out
    assert "gmac" not in outcome.out


def test_a_fat_parent_does_not_count() -> None:
    """getrusage would give a child the peak of the process that started it."""
    ballast = np.ones(50_000_000)
    code = "from bifocus.bench_rows import peak_mb; print(peak_mb())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ballast.nbytes / 2**20 > 300
    assert 20 < float(done.stdout) < 300


@pytest.mark.slow
def test_the_fuser_is_timed_by_the_frame() -> None:
    row, start = bench_engines._measured_apart("physics", "physics")
    assert (row.unit, row.gmac) == ("tile", None)
    # A process has computed at most its age on each of the cores.
    assert start.name == bench_engines.START
    cores = os.cpu_count() or 1
    assert 0.1 < start.cpu_s < cores * (start.wall_s + 0.1) < cores * 60
    assert row.engine.startswith("physics, numpy")
    assert 0 < row.cpu_s < 10
    assert 50 < row.peak_mb < 600


def test_an_unknown_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("it ran"))
    outcome = run_cli("bench", "fuse", "speed")
    assert outcome.fails(2, "no benchmark 'speed'", "fuse, stitch, writer, loop")


def test_a_part_that_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho out of memory >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(broken))
    outcome = run_cli("bench", "writer")
    assert outcome.fails(1, "benchmark 'writer' failed", "out of memory")
