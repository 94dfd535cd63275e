"""`bifocus verify`: its verdict, its exit code, its files."""

from pathlib import Path

import pytest

from tests.cli.commands import Outcome, run_cli, write_instrument


@pytest.fixture(scope="module")
def verified(
    instrument: Path, profile: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Outcome]:
    """Return the folder of a copied profile, which is verify's by default."""
    out = tmp_path_factory.mktemp("verify")
    copy = out / "profile.yaml"
    copy.write_bytes(profile.read_bytes())
    return out, run_cli("verify", instrument, "--profile", copy, "--json")


def test_the_instrument_that_was_calibrated_passes(
    verified: tuple[Path, Outcome],
) -> None:
    out, outcome = verified
    assert outcome.code == 0, outcome.err
    document = outcome.document
    assert document["verdict"] == "pass"
    assert document["recalibrate"] == []
    assert document["seconds"] < 120  # about a minute of the instrument's time
    values = document["values"]
    assert {"focus_um", "backlash_z_um", "scale_x", "light_level"} <= set(values)
    focus = values["focus_um"]
    assert abs(focus["value"] - focus["profile"]["value"]) < focus["limit"]
    assert (focus["state"], focus["runs"], focus["step"]) == ("pass", 1, "focus")
    assert document["page"] == str(out / "verify.html")
    assert {path.name for path in out.iterdir()} == {
        *("profile.yaml", "verify.html", "verify.jsonl"),
    }


def test_another_focus_is_told_to_people_and_fails(
    profile: Path, tmp_path: Path
) -> None:
    moved = write_instrument(tmp_path / "moved.yaml", virtual_slide={"focus_um": 13.0})
    out = tmp_path / "new" / "folder"
    outcome = run_cli("verify", moved, "--profile", profile, "-o", out)
    assert outcome.code == 1
    assert outcome.out.startswith("out: recalibrate focus")
    assert "focus_um: +" in outcome.out
    assert "bifocus calibrate --only focus" in outcome.out
    assert "Recalibrate:" in (out / "verify.html").read_text()


def test_an_edited_profile_and_none(instrument: Path, profile: Path) -> None:
    edited = profile.with_name("edited.yaml")
    text = profile.read_text().replace("simulated: true", "simulated: false")
    edited.write_text(text)
    outcome = run_cli("verify", instrument, "--profile", edited)
    assert outcome.fails(2, str(edited), "changed after calibration")
    edited.unlink()
    outcome = run_cli("verify", instrument, "--profile", edited)
    assert outcome.fails(2, str(edited), "bifocus calibrate")
