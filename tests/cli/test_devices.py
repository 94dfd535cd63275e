"""`bifocus doctor` and `bifocus hal-check`, as a user calls them."""

import io
import sys
from pathlib import Path

import pytest
import yaml

from bifocus import cli_devices
from bifocus.doctor_machine import DiskFacts
from bifocus.hal.virtual_camera import VirtualCamera
from bifocus.hal.virtual_stage import VirtualStage
from bifocus.records import Frame, MoveReceipt, StagePosition
from bifocus.stage_config import VirtualStageConfig
from tests.cli.commands import run_cli, write_instrument

# Backlash, play and noise as in the packaged instrument, but a quick camera.
QUICK = {"transfer_s": 0.0, "width_px": 128, "height_px": 128}


@pytest.fixture(scope="module")
def on_tissue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An instrument whose stage stands over its tissue when power comes on."""
    path = tmp_path_factory.mktemp("hal-check") / "scanner.yaml"
    slide = {"x_um": -80.0, "y_um": -80.0, "focus_um": 5.0}
    return write_instrument(path, camera=QUICK, virtual_slide=slide)


@pytest.mark.slow
def test_doctor_reports_every_topic(instrument: Path, tmp_path: Path) -> None:
    outcome = run_cli("doctor", instrument, "--out", tmp_path, "--json")
    document = outcome.document
    topics = {row["topic"] for row in document["rows"]}
    assert {"ports", "cameras", "versions", "engines", "disk", "clock"} <= topics
    failed = [row for row in document["rows"] if row["state"] == "fail"]
    assert document["ok"] == (not failed)
    assert outcome.code == (1 if failed else 0)
    for row in document["rows"]:
        assert bool(row["advice"]) or row["state"] in ("ok", "info"), row
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_doctor_prints_a_table(instrument: Path, tmp_path: Path) -> None:
    outcome = run_cli("doctor", instrument, "--out", tmp_path)
    assert "write speed" in outcome.out
    assert "failed" in outcome.out


def test_doctor_refuses_a_folder_that_is_not_there(instrument: Path) -> None:
    assert run_cli("doctor", instrument, "--out", "/nowhere").fails(2, "/nowhere")


@pytest.mark.slow
def test_doctor_fails_where_the_disk_is_nearly_full(
    instrument: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = DiskFacts(
        folder="/data", free_mb=900.0, write_mb_per_s=90.0, file_system="ext4"
    )
    monkeypatch.setattr("bifocus.doctor.measure_disk", lambda *_: full)
    outcome = run_cli("doctor", instrument, "--out", tmp_path, "--json")
    assert outcome.code == 1
    (row,) = [r for r in outcome.document["rows"] if r["name"] == "free space"]
    assert row["state"] == "fail"
    assert "--out" in row["advice"]


@pytest.mark.slow
def test_hal_check_passes_the_virtual_instrument_and_writes_the_report(
    on_tissue: Path, tmp_path: Path
) -> None:
    report = tmp_path / "check.txt"
    outcome = run_cli("hal-check", on_tissue, "--json", "--report", report)
    assert outcome.code == 0, outcome.out
    document = outcome.document
    assert document["passed"]
    assert document["facts"]["simulated"]
    checks = {check["name"]: check for check in document["checks"]}
    assert checks["frame-is-fresh"]["figures"]["stale_share"] < 0.25
    # The packaged stage repeats to 0.2 um sideways, and the picture must see that.
    spread_um = checks["repeatability"]["figures"]["sd_below_x_um"]
    assert 0.05 < spread_um < 0.6
    text = report.read_text(encoding="utf-8")
    assert "PASS  limits-raise" in text
    assert "stage: virtual: simulated stage" in text


def test_hal_check_prints_a_table(on_tissue: Path) -> None:
    outcome = run_cli("hal-check", on_tissue, "--envelope", "50", "50", "15")
    assert outcome.code == 0
    assert "0 failed" in outcome.out
    assert "stop-in-motion" in outcome.out


def test_hal_check_finds_a_stage_that_clips(
    on_tissue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way from the command line, with a driver that ignores its limits."""
    seen: list[float] = []
    real = VirtualStage.move_to

    def clipping(
        self: VirtualStage, position: StagePosition, wait: bool = True
    ) -> MoveReceipt:
        low_um, high_um = self.limits.x_um
        seen.append(high_um - low_um)
        x_um = min(max(position.x_um, low_um), high_um)
        inside = StagePosition(x_um=x_um, y_um=position.y_um, z_um=position.z_um)
        return real(self, inside, wait)

    monkeypatch.setattr(VirtualStage, "move_to", clipping)
    outcome = run_cli("hal-check", on_tissue, "--json")
    assert outcome.code == 1
    assert outcome.document["failed"] == ["limits-raise"]
    # The limits it clipped to were those of the envelope, not of the travel.
    assert max(seen) == pytest.approx(200.0)


def test_hal_check_finds_a_stale_camera(
    on_tissue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = VirtualCamera.grab

    def stale(self: VirtualCamera, after: MoveReceipt | None = None) -> Frame:
        is_far = after is not None and after.settled_s > 1e6
        return real(self, after if is_far else None)

    monkeypatch.setattr(VirtualCamera, "grab", stale)
    outcome = run_cli("hal-check", on_tissue, "--json")
    assert outcome.document["failed"] == ["frame-is-fresh"]


def test_a_real_stage_is_not_moved_unasked(
    on_tissue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VirtualStageConfig, "is_simulated", property(lambda _: False))
    assert run_cli("hal-check", on_tissue).fails(2, "--yes")


@pytest.mark.parametrize(("answer", "code"), [("n\n", 1), ("y\n", 0)])
def test_a_person_is_asked(
    on_tissue: Path, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(VirtualStageConfig, "is_simulated", property(lambda _: False))
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    outcome = run_cli("hal-check", on_tissue)
    assert outcome.code == code
    assert "100, 100, 20 um" in " ".join(outcome.out.split())
    assert ("limits-raise" in outcome.out) == (code == 0)


@pytest.mark.parametrize("value", ["0", "-5", "nan"])
def test_an_impossible_envelope_is_refused(on_tissue: Path, value: str) -> None:
    outcome = run_cli("hal-check", on_tissue, "--envelope", value, "10", "10")
    assert outcome.fails(2, "x_um")


def test_one_check_can_be_asked_alone_but_for_the_first(on_tissue: Path) -> None:
    outcome = run_cli("hal-check", on_tissue, "--only", "limits-raise", "--json")
    names = [check["name"] for check in outcome.document["checks"]]
    assert names == ["opening-moves-nothing", "limits-raise"]
    unknown = run_cli("hal-check", on_tissue, "--only", "limits")
    assert unknown.fails(2, "no check is named limits", "limits-raise")


def test_secrets_stay_out_of_the_report() -> None:
    from bifocus.hal.secrets import without_secrets

    hidden = without_secrets(
        {"camera": [{"device": "rtsp://user:hunter2@cam/1"}], "api_key": "hunter2"}
    )
    assert "hunter2" not in yaml.safe_dump(hidden)
    assert "cam/1" in yaml.safe_dump(hidden)


def test_starting_the_command_line_loads_no_doctor() -> None:
    assert "cv2" not in vars(cli_devices)
