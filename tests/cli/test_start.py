"""How soon a scan can begin: what its program loads, in processor time."""

import json
import subprocess
import sys

import pytest

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
