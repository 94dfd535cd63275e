"""`bifocus resume`: after an interrupt, of a finished scan, of nothing."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bifocus.edge.capture import Microscope
from tests.cli.commands import Outcome, run_cli

pytestmark = pytest.mark.slow


def test_a_terminated_scan_goes_on(
    instrument: Path, profile: Path, tmp_path: Path
) -> None:
    """SIGTERM to a real process after its second tile, as systemd sends it."""
    folder = tmp_path / "scan"
    command = [sys.executable, "-m", "bifocus", "scan", str(instrument)]
    command += ["-o", str(folder), "--profile", str(profile), "--strategy", "stack"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("2 of 6"):
                process.send_signal(signal.SIGTERM)
                break
        rest = process.stderr.read()
        assert process.wait(timeout=30) == 1
    assert f"bifocus resume {folder}" in rest
    assert "Traceback" not in rest
    before = {path.name: path.read_bytes() for path in (folder / "raw").iterdir()}
    assert 2 <= len(before) < 6
    outcome = run_cli("resume", folder, "--json")
    assert outcome.code == 0, outcome.err
    assert (outcome.document["captured"], outcome.document["sessions"]) == (6, 2)
    after = {path.name: path.read_bytes() for path in (folder / "raw").iterdir()}
    assert before.items() <= after.items()
    assert not (folder / "fused").exists()
    assert (folder / "report.html").exists()


def test_a_finished_scan_is_left_alone(scanned: tuple[Path, Outcome]) -> None:
    folder, _ = scanned
    before = (folder / "slide.ome.tiff").stat().st_mtime_ns
    assert "is finished" in run_cli("resume", folder).out
    assert run_cli("resume", folder, "--json").document == {"finished_before": True}
    assert (folder / "slide.ome.tiff").stat().st_mtime_ns == before


def test_where_no_scan_began_there_is_none_to_go_on_with(tmp_path: Path) -> None:
    outcome = run_cli("resume", tmp_path / "scan")
    assert outcome.fails(2, "holds no scan", "begin it again with bifocus scan")


def test_another_camera_is_refused(
    instrument: Path, profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "scan"

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Microscope, "shoot_pair", interrupt)
        outcome = run_cli("scan", instrument, "-o", folder, "--profile", profile)
    assert outcome.fails(1, "stopped; what was written so far is kept", "resume")
    text = (folder / "instrument.yaml").read_text()
    (folder / "instrument.yaml").write_text(
        text.replace("name: simulated camera", "name: another camera")
    )
    assert run_cli("resume", folder).fails(2, "another instrument", "camera")
    # Put back as it was, the scan is made from its first tile on.
    (folder / "instrument.yaml").write_text(text)
    log = tmp_path / "log.jsonl"
    outcome = run_cli("resume", folder, "--json", "--log-json", log)
    assert outcome.code == 0, outcome.err
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert lines
    assert {"time", "level", "logger", "thread", "text"} <= set(lines[0])
