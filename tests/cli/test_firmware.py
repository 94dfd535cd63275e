"""`bifocus firmware`: a board on a terminal until it is told to end."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import serial

from tests.cli.commands import run_cli


@pytest.mark.slow
def test_it_serves_a_board_until_interrupted(tmp_path: Path) -> None:
    link = tmp_path / "stage"
    command = [sys.executable, "-m", "bifocus", "firmware", "asi", "--json"]
    with subprocess.Popen(
        [*command, "--link", str(link)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            said = json.loads(process.stdout.readline())
            assert said == {"kind": "asi", "port": str(link)}
            with serial.Serial(str(link), 115200, timeout=5.0) as port:
                port.write(b"V\r")
                assert port.read_until(b"\n") == b":A Version: USB-9.2m\r\n"
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert not link.is_symlink()


def test_a_bad_plan_is_refused_with_the_nearest_key(tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("version: 1\nfault: []\n")
    outcome = run_cli("firmware", "grbl", "--faults", plan)
    assert outcome.fails(2, str(plan), "unknown key 'fault'", "'faults'")


def test_camera_faults_are_refused(tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("faults: [{fault: black_frame, at: 1}]\n")
    outcome = run_cli("firmware", "grbl", "--faults", plan)
    assert outcome.fails(2, "no camera", "black_frame")


def test_an_unknown_kind_is_bad_usage() -> None:
    assert run_cli("firmware", "reprap").code == 2
