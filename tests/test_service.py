"""The example service is one that systemd accepts, and is closed as it says."""

import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[1] / "examples" / "bifocus.service"
# `systemd-analyze security`: 0 is closed, 10 is wide open; below 5 it says OK.
MOST_EXPOSED = 4.5


@pytest.fixture(scope="module")
def analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("needs systemd-analyze")
    return found


def test_systemd_finds_no_fault(analyze: str) -> None:
    result = subprocess.run(
        [analyze, "verify", str(UNIT)], capture_output=True, text=True, check=False
    )
    # The programs that it starts are not installed where tests run.
    lines = [
        line
        for line in result.stderr.splitlines()
        if "is not executable" not in line and UNIT.name in line
    ]
    assert lines == []


def test_the_service_is_closed_to_what_it_does_not_need(analyze: str) -> None:
    result = subprocess.run(
        [analyze, "security", "--offline=true", str(UNIT)],
        capture_output=True,
        text=True,
        check=False,
    )
    if "unrecognized option" in result.stderr:
        pytest.skip("needs systemd 250: security --offline")
    (line,) = [line for line in result.stdout.splitlines() if "exposure level" in line]
    assert float(line.partition("service:")[2].split()[0]) <= MOST_EXPOSED
