"""`bifocus live` serves a finished scan, and says what is wrong with none."""

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from bifocus.calib.profile_file import write_profile
from bifocus.instrument_text import TEMPLATE
from tests.cli.commands import run_cli
from tests.edge.live_setup import config_and_profile, small_scan


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pretended scan with the files that a real one leaves."""
    scan = small_scan(tmp_path / "scan", side_px=128)
    scan.run()
    _, profile = config_and_profile(scan)
    write_profile(scan.folder.profile, profile)
    scan.folder.instrument.write_bytes(TEMPLATE.read_bytes())
    return scan.root


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return json.loads(answer.read())


@pytest.mark.slow
def test_a_finished_scan_is_served_until_ctrl_c(folder: Path) -> None:
    command = [sys.executable, "-m", "bifocus", "live", str(folder)]
    with subprocess.Popen(
        [*command, "--address", "0", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job ignores SIGINT, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout is not None
        try:
            text = ""
            while not text.rstrip().endswith("}"):
                line = process.stdout.readline()
                assert line, process.stderr.read() if process.stderr else ""
                text += line
            base = json.loads(text)["url"].partition("?")[0]
            state = get(f"{base}state.json")
            assert state["progress"]["captured"] == 24
            assert state["can_act"] is False
            assert state["header"]["grid"] == [4, 6]
            with urllib.request.urlopen(f"{base}shots/1/2/fused") as picture:
                assert picture.read(2) == b"\xff\xd8"
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            finally:
                process.kill()  # leaving the block waits without end
    assert process.returncode == 1  # as every command that Ctrl-C ends


def test_a_folder_without_a_scan(tmp_path: Path) -> None:
    outcome = run_cli("live", str(tmp_path))
    assert outcome.code == 1
    assert "holds no scan" in outcome.err


def test_an_address_that_is_none(folder: Path) -> None:
    outcome = run_cli("live", str(folder), "--address", "here")
    assert outcome.code == 2
    assert "HOST:PORT" in outcome.err
