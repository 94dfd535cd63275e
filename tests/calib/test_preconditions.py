"""Faults of light, stage, camera and objective: named, and nothing overwritten."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bifocus.calib.preconditions import check_light, observe_motion
from bifocus.calib.procedure import calibrate_briefly, calibrate_into
from bifocus.errors import BlankSlideError, CalibrationError
from bifocus.hal.open_instrument import OpenInstrument
from bifocus.records import StagePosition
from tests.calib.fake_steps import FakeSteps, bench_on
from tests.calib.faulty_bench import (
    ChangedCamera,
    Frozen,
    Picture,
    StuckStage,
    lamp_off,
    too_bright,
)
from tests.scanner import (
    CENTRE_UM,
    RecordingStage,
    glass_only,
    open_scanner,
    scanner_config,
    truth_of,
)


@pytest.fixture(scope="module")
def instrument() -> Iterator[OpenInstrument]:
    config = scanner_config(camera={"width_px": 128, "height_px": 128})
    with open_scanner(config) as opened:
        yield opened


def in_focus(instrument: OpenInstrument) -> StagePosition:
    x_um, y_um = CENTRE_UM
    z_um = truth_of(instrument).mean_focus_um(x_um, y_um)
    return StagePosition(x_um=x_um, y_um=y_um, z_um=z_um)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lamp_off, r"dark frame.*level 3 of 255.*at least 12.*switch the lamp on"),
        (too_bright, r"light saturates: \d+ % .*at most 5 %.*shorten camera.exposure"),
    ],
)
def test_wrong_light_is_named_and_the_old_profile_stays(
    instrument: OpenInstrument,
    tmp_path: Path,
    change: Callable[[Picture], Picture],
    says: str,
) -> None:
    steps = FakeSteps(instrument)
    calibrate_into(bench_on(instrument), tmp_path, entries=steps.entries)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    steps.calls.clear()
    broken = bench_on(instrument, camera=ChangedCamera(instrument.camera, change))
    with pytest.raises(CalibrationError, match=says):
        calibrate_into(broken, tmp_path, entries=steps.entries)
    assert steps.calls == []
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_good_light_passes_on_tissue_and_on_glass(instrument: OpenInstrument) -> None:
    check_light(bench_on(instrument))
    with open_scanner(glass_only()) as clear:
        check_light(bench_on(clear))


@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_an_axis_that_stands_still_is_named(
    instrument: OpenInstrument, tmp_path: Path, axis: str
) -> None:
    instrument.stage.move_to(in_focus(instrument))
    steps = FakeSteps(instrument)
    broken = bench_on(instrument, stage=StuckStage(instrument.stage, axis))
    says = rf"does not move in {axis}: .*check motor, coupling and cable"
    with pytest.raises(CalibrationError, match=says):
        calibrate_into(broken, tmp_path, entries=steps.entries)
    assert steps.calls == ["focus"]
    # The step does not count as measured: the next run measures it again.
    assert not (tmp_path / "steps" / "focus.json").exists()
    assert not (tmp_path / "profile.yaml").exists()


def test_a_stage_that_moves_passes_by_far(instrument: OpenInstrument) -> None:
    place = in_focus(instrument)
    bench = bench_on(instrument)
    motion = observe_motion(bench, (place.x_um, place.y_um), place.z_um)
    for axis in ("x", "y", "z"):
        assert getattr(motion, axis) > 4 * motion.noise > 0


def test_without_a_focus_z_is_suspected_first(instrument: OpenInstrument) -> None:
    """The real search: texture, but the curve is flat, since nothing moves."""
    instrument.stage.move_to(in_focus(instrument))
    broken = bench_on(instrument, stage=StuckStage(instrument.stage, "z"))
    with pytest.raises(CalibrationError, match="does not move in z"):
        calibrate_briefly(broken)


def test_a_blank_slide_is_not_the_stages_fault() -> None:
    with (
        open_scanner(glass_only()) as instrument,
        pytest.raises(BlankSlideError, match="no tissue"),
    ):
        calibrate_briefly(bench_on(instrument))


def test_a_camera_that_hangs_is_named(instrument: OpenInstrument) -> None:
    broken = bench_on(instrument, camera=ChangedCamera(instrument.camera, Frozen()))
    with pytest.raises(CalibrationError, match=r"same picture again.*restart the cam"):
        calibrate_briefly(broken)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"na": 0.5}, r"wrong objective: NA 0\.500 .*the file says 0\.75"),
        (
            {"scale": 0.5},
            r"wrong objective.*a pixel is 0\.5000 um, the file says 0\.25",
        ),
        (
            {"scale": 2.0},
            r"wrong objective.*a pixel is 0\.1250 um, the file says 0\.25",
        ),
        (
            {"pixel_um": 0.5},
            r"wrong objective.*a pixel is 0\.5000 um, the file says 0\.25",
        ),
        ({"rotation_mrad": 3141.0}, r"turned by 180\.0 degrees.*upside down"),
        ({"rotation_mrad": -200.0}, r"turned by -11\.5 degrees .* at most 5\.7"),
        ({"mirrored": True}, r"mirrored.*Flip the camera"),
    ],
)
def test_a_wrong_instrument_ends_the_run(
    instrument: OpenInstrument, tmp_path: Path, changes: dict[str, float], says: str
) -> None:
    steps = FakeSteps(instrument, **changes)  # type: ignore[arg-type]
    with pytest.raises(CalibrationError, match=says):
        calibrate_into(bench_on(instrument), tmp_path, entries=steps.entries)
    assert not (tmp_path / "profile.yaml").exists()
    # What was right is kept, what was wrong is not.
    kept = {path.stem for path in (tmp_path / "steps").glob("*.json")}
    assert kept == (
        {"focus", "run", "xy", "tilt"} if "na" in changes else {"focus", "run"}
    )


@pytest.mark.parametrize("changes", [{"na": 0.70}, {"scale": 0.95}, {"scale": 1.05}])
def test_what_instruments_may_differ_by_passes(
    instrument: OpenInstrument, tmp_path: Path, changes: dict[str, float]
) -> None:
    steps = FakeSteps(instrument, **changes)  # type: ignore[arg-type]
    calibrate_into(bench_on(instrument), tmp_path, entries=steps.entries)
    assert (tmp_path / "profile.yaml").exists()


def test_checks_stay_within_the_region(instrument: OpenInstrument) -> None:
    stage = RecordingStage(instrument.stage)
    place = in_focus(instrument)
    small_um = (place.x_um - 10, place.y_um - 2, 20.0, 12.0)
    bench = bench_on(instrument, stage=stage, region_um=small_um)
    observe_motion(bench, (place.x_um, place.y_um), place.z_um)
    assert all(small_um[0] <= t.x_um <= small_um[0] + 20 for t in stage.targets)
    assert all(small_um[1] <= t.y_um <= small_um[1] + 12 for t in stage.targets)
