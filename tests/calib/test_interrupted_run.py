"""A run that is cut short goes on; a finished one is renewed, whole or in part."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bifocus.calib.procedure import Calibration, StepEvent, calibrate_into
from bifocus.calib.profile_file import read_profile
from bifocus.errors import (
    CalibrationError,
    ConfigError,
    DeviceError,
    LinkLostError,
    SlideFileError,
)
from bifocus.hal.open_instrument import OpenInstrument
from tests.calib.fake_steps import FakeSteps, bench_on
from tests.scanner import REGION_UM, open_scanner, scanner_config

SMALL = {"width_px": 128, "height_px": 128}
ALL = ["focus", "xy", "tilt", "optics", "spacing"]


@pytest.fixture(scope="module")
def instrument() -> Iterator[OpenInstrument]:
    with open_scanner(scanner_config(camera=SMALL)) as opened:
        yield opened


@pytest.fixture
def steps(instrument: OpenInstrument) -> FakeSteps:
    return FakeSteps(instrument)


def run(
    steps: FakeSteps,
    out: Path,
    *,
    only: tuple[str, ...] = (),
    is_fresh: bool = False,
    region_um: tuple[float, float, float, float] = REGION_UM,
    events: list[StepEvent] | None = None,
) -> Calibration:
    steps.calls.clear()
    return calibrate_into(
        bench_on(steps.instrument, region_um=region_um),
        out,
        only=only,
        is_fresh=is_fresh,
        entries=steps.entries,
        on_step=None if events is None else events.append,
    )


def test_every_step_has_its_file_and_its_date(steps: FakeSteps, tmp_path: Path) -> None:
    events: list[StepEvent] = []
    made = run(steps, tmp_path, events=events)
    assert steps.calls == ALL
    assert [e.state for e in events] == ["begins", "done"] * 5
    assert [(e.number, e.total) for e in events[::2]] == [(n, 5) for n in range(1, 6)]
    profile = made.profile
    assert read_profile(tmp_path / "profile.yaml") == profile
    assert set(profile.steps) == set(ALL)
    assert profile.values["na"].value == 0.75
    assert profile.focus_um == profile.values["focus_um"]
    assert profile.curve == {"z_um": [1.0, 2.0], "sharpness": [1.0, 2.0]}
    assert profile.facts["focus"]["asymmetry"] is None  # NaN is no number
    assert profile.warnings == ("focus: dust",)
    document = json.loads((tmp_path / "steps" / "focus.json").read_text())
    value = document["result"]["values"]["focus_um"]
    assert set(value) == {"value", "u", "unit", "how"}
    assert value["value"] == profile.focus_um.value
    seen = made.steps[0].result
    assert seen is not None
    picture = seen.pictures["the place, in focus"]
    assert picture.shape == (128, 128, 3)
    assert picture.std() > 1
    assert np.isnan(seen.plots[0].series[0].x[2])


@pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt(), LinkLostError("cable"), SystemExit(1)],
    ids=["ctrl-c", "cable", "sigterm"],
)
def test_a_run_that_was_cut_short_goes_on(
    steps: FakeSteps, tmp_path: Path, error: BaseException
) -> None:
    steps.errors["optics"] = error
    with pytest.raises(type(error)):
        run(steps, tmp_path)
    assert not (tmp_path / "profile.yaml").exists()
    focus = (tmp_path / "steps" / "focus.json").read_bytes()
    steps.errors.clear()
    events: list[StepEvent] = []
    made = run(steps, tmp_path, events=events)
    assert steps.calls == ["optics", "spacing"]
    states = [e.state for e in events]
    assert states == ["kept"] * 3 + ["begins", "done"] * 2
    assert (tmp_path / "steps" / "focus.json").read_bytes() == focus
    assert set(made.profile.values) >= {"focus_um", "pixel_um", "tilt_mrad", "na"}
    # What was kept is the same as if it had not been in a file.
    whole = run(steps, tmp_path / "whole").profile
    assert made.profile.values == whole.values
    assert made.profile.facts == whole.facts
    assert made.profile.raw_sha256 == whole.raw_sha256


def test_a_kill_between_two_files_loses_at_most_one_step(
    steps: FakeSteps, tmp_path: Path
) -> None:
    """SIGKILL leaves what is on the disk: pictures without their JSON, a .partial."""
    steps.errors["tilt"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        run(steps, tmp_path)
    (tmp_path / "steps" / "xy.json").rename(tmp_path / "steps" / "xy.json.partial")
    steps.errors.clear()
    run(steps, tmp_path)
    assert steps.calls == ["xy", "tilt", "optics", "spacing"]


def test_fresh_and_another_region_start_anew(steps: FakeSteps, tmp_path: Path) -> None:
    for number, changes in enumerate(
        ({"is_fresh": True}, {"region_um": (390.0, 320.0, 200.0, 150.0)})
    ):
        steps.errors["tilt"] = KeyboardInterrupt()
        out = tmp_path / str(number)
        with pytest.raises(KeyboardInterrupt):
            run(steps, out)
        steps.errors.clear()
        run(steps, out, **changes)  # type: ignore[arg-type]
        assert steps.calls == ALL
        # What had been measured is not thrown away.
        kept = sorted(p.name for p in (out / "history" / "steps-1").iterdir())
        assert kept == ["focus-0.png", "focus.json", "run.json", "xy.json"]


def test_a_changed_instrument_file_starts_anew(tmp_path: Path) -> None:
    for tilt in ((0.0, 0.0), (1.0, 0.0)):
        config = scanner_config(camera=SMALL, virtual_slide={"tilt_mrad": tilt})
        with open_scanner(config) as instrument:
            steps = FakeSteps(instrument, errors={"spacing": KeyboardInterrupt()})
            with pytest.raises(KeyboardInterrupt):
                run(steps, tmp_path)
            assert steps.calls == ALL


def test_a_finished_run_is_measured_anew(steps: FakeSteps, tmp_path: Path) -> None:
    first = run(steps, tmp_path).profile
    second = run(steps, tmp_path).profile
    assert steps.calls == ALL
    (kept,) = (tmp_path / "history").glob("profile-*.yaml")
    assert read_profile(kept) == first
    assert read_profile(tmp_path / "profile.yaml") == second


def test_only_renews_one_step_and_names_what_rests_on_it(
    steps: FakeSteps, tmp_path: Path
) -> None:
    first = run(steps, tmp_path).profile
    steps.na = 0.7
    second = run(steps, tmp_path, only=("optics",)).profile
    assert steps.calls == ["optics"]
    assert second.values["na"].value == 0.7
    assert second.steps["optics"] > first.steps["optics"]
    assert {k: v for k, v in second.steps.items() if k != "optics"} == {
        k: v for k, v in first.steps.items() if k != "optics"
    }
    stale = [text for text in second.warnings if "stale" in text]
    assert len(stale) == 1
    assert "step spacing" in stale[0]
    assert "optics" in stale[0]
    assert "--only spacing" in stale[0]
    third = run(steps, tmp_path, only=("spacing",)).profile
    assert third.warnings == first.warnings
    assert len(list((tmp_path / "history").glob("profile-*.yaml"))) == 2


def test_only_needs_a_finished_run_of_the_same_thing(
    steps: FakeSteps, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="no calibration there"):
        run(steps, tmp_path, only=("xy",))
    steps.errors["spacing"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        run(steps, tmp_path)
    steps.errors.clear()
    with pytest.raises(ConfigError, match="it was interrupted"):
        run(steps, tmp_path, only=("xy",))
    run(steps, tmp_path)
    with pytest.raises(ConfigError, match="no calibration step 'xz'; choose from"):
        run(steps, tmp_path, only=("xz",))
    with pytest.raises(ConfigError, match=r"(?s)differs.*region"):
        smaller_um = (400.0, 320.0, 180.0, 150.0)
        run(steps, tmp_path, only=("xy",), region_um=smaller_um)
    assert steps.calls == []


def test_what_cannot_be_measured_is_left_out_with_its_reason(
    steps: FakeSteps, tmp_path: Path
) -> None:
    steps.errors["xy"] = CalibrationError("no graticule, no texture")
    profile = run(steps, tmp_path).profile
    assert steps.calls == ["focus", "xy", "optics", "spacing"]
    assert profile.skipped == {
        "xy": "no graticule, no texture",
        "tilt": "needs step xy, which was left out",
    }
    assert "pixel_um" not in profile.values
    document = json.loads((tmp_path / "steps" / "tilt.json").read_text())
    assert document["skipped"] == profile.skipped["tilt"]
    assert document["result"] is None
    assert set(profile.steps) == {"focus", "optics", "spacing"}


@pytest.mark.parametrize("essential", ["focus", "spacing"])
def test_without_an_essential_step_the_old_profile_stays(
    steps: FakeSteps, tmp_path: Path, essential: str
) -> None:
    run(steps, tmp_path)
    before = (tmp_path / "profile.yaml").read_bytes()
    steps.errors[essential] = CalibrationError("this and that")
    with pytest.raises(CalibrationError, match="this and that"):
        run(steps, tmp_path)
    assert (tmp_path / "profile.yaml").read_bytes() == before
    assert not list((tmp_path / "history").glob("profile-*"))


def test_a_value_that_is_no_number_is_refused(steps: FakeSteps, tmp_path: Path) -> None:
    steps.na = float("nan")
    with pytest.raises(CalibrationError, match="step optics: na came out as nan"):
        run(steps, tmp_path)
    assert not (tmp_path / "profile.yaml").exists()


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"version": 1}', b"\xff"])
@pytest.mark.parametrize("name", ["run.json", "focus.json"])
def test_damaged_files_are_named(
    steps: FakeSteps, tmp_path: Path, content: bytes, name: str
) -> None:
    steps.errors["spacing"] = DeviceError("out")
    with pytest.raises(DeviceError):
        run(steps, tmp_path)
    steps.errors.clear()
    path = tmp_path / "steps" / name
    path.write_bytes(content)
    if name == "focus.json" and content.startswith(b'{"v'):
        run(steps, tmp_path)  # of no run, so of none of ours
        assert steps.calls == ["focus", "spacing"]
        return
    with pytest.raises(ConfigError, match="--fresh") as caught:
        run(steps, tmp_path)
    assert str(path) in str(caught.value)
    run(steps, tmp_path, is_fresh=True)
    assert steps.calls == ALL


def test_a_full_disk_keeps_what_there_was(
    steps: FakeSteps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(steps, tmp_path)
    before = {
        path.name: path.read_bytes()
        for path in [tmp_path / "profile.yaml", *(tmp_path / "steps").iterdir()]
    }

    def refuse(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(SlideFileError, match=r"xy\.json.*No space left"):
        run(steps, tmp_path, only=("xy",))
    with pytest.raises(SlideFileError, match="No space left"):
        run(steps, tmp_path)
    monkeypatch.undo()
    moved = tmp_path / "history" / "steps-1"
    for name, content in before.items():
        folder = tmp_path if name == "profile.yaml" else moved
        assert (folder / name).read_bytes() == content
