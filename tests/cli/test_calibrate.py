"""`bifocus calibrate`: the profile, and what keeps one from being made."""

import json
import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import yaml

from bifocus import jobs
from bifocus.calib.procedure import calibrate_into
from bifocus.calib.profile_file import read_profile
from bifocus.calib.step_result import Bench, StepResult
from bifocus.calib.step_table import STEPS
from bifocus.jobs import CalibratedInstrument
from tests.calib.fake_steps import FakeSteps
from tests.cli.commands import GLASS_UM, Outcome, run_cli
from tests.scanner import REGION_UM, open_scanner, scanner_config


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


def test_the_truth_lies_within_the_uncertainty(
    calibrated: tuple[Path, Outcome],
) -> None:
    """Seven of the values that matter most, each within four standard uncertainties."""
    facts = calibrated[1].document
    keys = ("focus_um", "half_spacing_um", "backlash_z_um", "pixel_um", "scale_x")
    for key in (*keys, "tilt_mrad", "na"):
        if key in facts["skipped"]:
            continue
        error = abs(facts[key]["value"] - facts["truth"][key])
        assert error <= 4 * facts[key]["u"], (key, facts[key], facts["truth"][key])


def test_every_step_is_measured_or_left_out_for_a_reason(
    calibrated: tuple[Path, Outcome],
) -> None:
    folder, outcome = calibrated
    names = [entry.name for entry in STEPS]
    assert names == [
        *("focus", "z", "xy", "axes", "settling", "tilt", "illumination"),
        *("optics", "spacing"),
    ]
    assert set(outcome.document["skipped"]) <= {"tilt", "axes"}  # a small region
    for name in names:
        assert (folder / "steps" / f"{name}.json").exists()
    assert "SIMULATED" in (folder / "report.html").read_text(encoding="utf-8")


def test_a_dry_run_tells_about_what_it_takes(
    instrument: Path, calibrated: tuple[Path, Outcome], tmp_path: Path
) -> None:
    out = tmp_path / "new"
    outcome = run_cli("calibrate", instrument, "-o", out, "--dry-run", "--json")
    assert outcome.code == 0
    assert not out.exists()
    told = {row["step"]: row["seconds"] for row in outcome.document["steps"]}
    took = {
        name: json.loads((calibrated[0] / "steps" / f"{name}.json").read_text())
        for name in told
    }
    done = {name: it["seconds"] for name, it in took.items() if it["skipped"] is None}
    assert sum(told[name] for name in done) == pytest.approx(
        sum(done.values()), rel=0.5
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--only", "xz"), ("no calibration step 'xz'", "choose from focus, z, xy")),
        (("--only", "xy"), ("--only renews", "no calibration there")),
        (("--only", "xy", "--fresh"), ("--only renews", "--fresh forgets")),
    ],
)
def test_wrong_options(
    instrument: Path, tmp_path: Path, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    outcome = run_cli("calibrate", instrument, "-o", tmp_path, *options)
    assert outcome.fails(2, *words)
    assert not list(tmp_path.iterdir())


def end_this_process(bench: Bench, before: Mapping[str, StepResult]) -> StepResult:
    """A step in whose midst somebody ends the program."""
    os.kill(os.getpid(), signal.SIGTERM)
    return pytest.fail("SIGTERM was not heard")


def test_sigterm_stops_and_the_next_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = scanner_config(camera={"width_px": 128, "height_px": 128})
    config = config.model_copy(
        update={"scan": config.scan.model_copy(update={"region_um": REGION_UM})}
    )
    path, out = tmp_path / "scanner.yaml", tmp_path / "out"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")), encoding="utf-8")
    before = signal.getsignal(signal.SIGTERM)
    with open_scanner(config) as twin:
        steps = FakeSteps(twin)
        entries = [
            replace(entry, run=end_this_process) if entry.name == "tilt" else entry
            for entry in steps.entries
        ]
        with monkeypatch.context() as patch:
            patch.setattr(
                jobs, "calibrate_into", partial(calibrate_into, entries=entries)
            )
            outcome = run_cli("calibrate", path, "-o", out)
        assert outcome.code == 1
        assert "stopped; what was written so far is kept" in outcome.err
        assert signal.getsignal(signal.SIGTERM) == before
        assert not (out / "profile.yaml").exists()
        monkeypatch.setattr(
            jobs, "calibrate_into", partial(calibrate_into, entries=steps.entries)
        )
        steps.calls.clear()
        again = run_cli("calibrate", path, "-o", out, "--json")
    assert again.code == 0, again.err
    assert steps.calls == ["tilt", "optics", "spacing"]
    assert "[1/5] focus: measured before" in again.err
    assert again.document["truth"]["na"] == 0.75


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
