"""How soon a scan can begin: what its program loads, in processor time."""

import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.soak.kill_loop import make_bench

logger = logging.getLogger(__name__)

SCRIPT = """
import json, sys, time
import bifocus.__main__, bifocus.jobs, bifocus.scan_jobs
heavy = {"torch", "bifocus.model"} & set(sys.modules)
print(json.dumps([time.process_time(), sorted(heavy)]))
"""


@pytest.mark.slow
def test_the_program_of_a_scan_starts_soon_and_without_torch() -> None:
    """Processor time, which other programs on the machine hardly change."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    seconds, loaded = json.loads(done.stdout)
    assert loaded == []
    assert seconds < 3.0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")
def test_a_scan_with_the_engine_that_we_ship_begins_soon(tmp_path: Path) -> None:
    """From the command to the journal: engine, devices and folder are open then."""
    instrument, profile = make_bench(tmp_path)
    journal = tmp_path / "scan" / "scan.sqlite"
    command = [sys.executable, "-m", "bifocus", "scan", str(instrument)]
    command += ["-o", str(journal.parent), "--profile", str(profile)]
    start_s = time.perf_counter()
    with subprocess.Popen(command) as process:
        while not journal.exists():
            assert process.poll() is None
            time.sleep(0.005)
        wall_s = time.perf_counter() - start_s
        times = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        loaded = Path(f"/proc/{process.pid}/maps").read_text()
        process.kill()
    cpu_s = sum(map(int, times[11:13])) / os.sysconf("SC_CLK_TCK")  # proc(5): 14, 15
    logger.info("a scan begins after %.2f s, %.2f s of CPU", wall_s, cpu_s)
    assert "torch" not in loaded
    assert cpu_s < 3.0
