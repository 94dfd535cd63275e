"""`bifocus calibrate`: the profile, and what keeps one from being made."""

from pathlib import Path

import pytest

from bifocus.calib.profile_file import read_profile
from bifocus.jobs import CalibratedInstrument
from tests.cli.commands import GLASS_UM, Outcome, run_cli


def test_the_profile_is_written_into_a_new_folder(
    calibrated: tuple[Path, Outcome],
) -> None:
    folder, outcome = calibrated
    assert outcome.code == 0
    facts = outcome.document
    assert facts["profile"] == str(folder / "profile.yaml")
    profile = read_profile(folder / "profile.yaml")
    for key, measured in profile.values.items():
        told = facts[key]
        assert told == facts["values"][key]
        assert told["value"] == measured.value
        assert told["u"] == measured.standard_uncertainty
        assert (told["unit"], told["how"]) == (measured.unit, measured.method)
    # The packaged slide's focus is 12 um; tilt and relief move it by up to 2 um.
    assert profile.focus_um.value == pytest.approx(12.0, abs=2.0)
    assert 0 < facts["focus_um"]["u"] < 0.3
    assert facts["half_spacing_um"]["value"] == pytest.approx(0.75, abs=0.05)
    assert facts["simulated"] is True
    assert "virtual slide: procedural tissue" in outcome.err
    assert "[1/" in outcome.err


def test_people_get_a_table(
    instrument: Path, profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = CalibratedInstrument(profile=read_profile(profile), path=profile)
    monkeypatch.setattr("bifocus.jobs.calibrate_instrument", lambda *_, **__: made)
    outcome = run_cli("calibrate", instrument)
    assert outcome.code == 0
    assert outcome.out.startswith(str(profile))
    assert "SIMULATED" in outcome.out
    assert "focus_um" in outcome.out


def test_a_blank_slide(instrument: Path, tmp_path: Path) -> None:
    outcome = run_cli(
        "calibrate", instrument, "-o", tmp_path / "new", "--region", *GLASS_UM
    )
    assert outcome.fails(1, "no tissue at 9 places", "check the slide")
    assert not (tmp_path / "new" / "profile.yaml").exists()


@pytest.mark.parametrize("command", ["calibrate", "scan"])
def test_a_folder_that_cannot_be_made(
    instrument: Path, tmp_path: Path, command: str
) -> None:
    """Root may write everywhere but below a file."""
    (tmp_path / "file").write_text("kept")
    out = tmp_path / "file" / "new"
    outcome = run_cli(command, instrument, "-o", out)
    assert outcome.fails(1, str(out), "cannot write there", "choose another folder")
    assert "virtual slide" not in outcome.err  # found out before any work
    assert (tmp_path / "file").read_text() == "kept"


def test_no_such_instrument(tmp_path: Path) -> None:
    path = tmp_path / "missing.yaml"
    assert run_cli("calibrate", path).fails(2, str(path), "No such file")
