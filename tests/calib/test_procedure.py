"""The whole calibration on the virtual instrument, and its refusals."""

import hashlib

import pytest

from bifocus import __version__
from bifocus.calib.procedure import calibrate_briefly
from bifocus.calib.step_result import Bench, Region
from bifocus.errors import BlankSlideError, CalibrationError, OutOfTravelError
from bifocus.hal.devices import Camera, Stage
from bifocus.hal.open_instrument import OpenInstrument
from bifocus.illumination import compute_gain
from tests.scanner import (
    REGION_UM,
    RecordingStage,
    glass_only,
    open_scanner,
    scanner_config,
    truth_of,
)


def bench(
    instrument: OpenInstrument,
    region_um: Region = REGION_UM,
    *,
    stage: Stage | None = None,
    camera: Camera | None = None,
) -> Bench:
    return Bench(
        stage=stage or instrument.stage,
        camera=camera or instrument.camera,
        clock=instrument.clock,
        config=instrument.config,
        region_um=region_um,
    )


def test_the_profile_holds_what_the_instrument_is() -> None:
    config = scanner_config(camera={"falloff": 0.15})
    with open_scanner(config) as instrument:
        stage = RecordingStage(instrument.stage)
        profile = calibrate_briefly(bench(instrument, stage=stage))
        truth = truth_of(instrument)
        true_um = truth.mean_focus_um(profile.focus_x_um, profile.focus_y_um)
        camera_identity = instrument.camera.capabilities.identity
    assert abs(profile.focus_um.value - true_um) < 0.1
    assert profile.simulated
    assert profile.software_version == __version__
    spacing_um, commanded_um = (
        profile.values[key] for key in ("half_spacing_um", "half_spacing_commanded_um")
    )
    assert profile.half_spacing_um == spacing_um
    assert commanded_um.value == config.scan.half_spacing_um
    error_um = abs(spacing_um.value - commanded_um.value)  # this stage's z is true
    assert error_um < 3 * spacing_um.standard_uncertainty < 0.15
    assert profile.skipped.keys() == {
        *("z", "xy", "axes", "settling", "tilt", "optics")
    }
    assert profile.identity["camera"] == camera_identity
    assert len(profile.raw_sha256) == len(hashlib.sha256().hexdigest())
    assert len(profile.curve["z_um"]) == len(profile.curve["sharpness"])
    # The lamp falls by 15 % from the middle to the corner; see hal.sensor. It is no
    # quadratic in the logarithm: up to 1 % at the corners is the model's own error.
    assert profile.flat_field is not None
    gain = compute_gain(profile.flat_field, (257, 257))
    assert gain[128, 128].mean() == pytest.approx(1.0, abs=0.01)
    assert gain[[0, 0, -1, -1], [0, -1, 0, -1]].mean() == pytest.approx(0.85, abs=0.015)
    # Nothing went outside the region.
    x_um, y_um, width_um, height_um = REGION_UM
    assert all(x_um <= t.x_um <= x_um + width_um for t in stage.targets)
    assert all(y_um <= t.y_um <= y_um + height_um for t in stage.targets)


def test_the_first_place_may_be_glass() -> None:
    """The tissue covers only the left third: another place has to be tried."""
    config = scanner_config(virtual_slide={"x_um": 380.0 - 180.0})
    with open_scanner(config) as instrument:
        profile = calibrate_briefly(bench(instrument))
        true_um = truth_of(instrument).mean_focus_um(
            profile.focus_x_um, profile.focus_y_um
        )
    assert profile.focus_x_um < REGION_UM[0] + 0.5 * REGION_UM[2]
    assert abs(profile.focus_um.value - true_um) < 0.1


def test_a_blank_slide_is_called_blank_and_names_the_next_step() -> None:
    config = glass_only()
    with (
        open_scanner(config) as instrument,
        pytest.raises(BlankSlideError, match=r"no tissue at 9 places.*check the slide"),
    ):
        calibrate_briefly(bench(instrument))


def test_texture_without_a_focus_is_no_blank_slide() -> None:
    config = scanner_config(
        calibration={
            "z_start_um": 134.0,
            "coarse_range_um": 2.0,
            "coarse_step_um": 0.25,
        }
    )
    with (
        open_scanner(config) as instrument,
        pytest.raises(CalibrationError, match=r"no focus at 9 places"),
    ):
        calibrate_briefly(bench(instrument))


@pytest.mark.parametrize("region_um", [(900.0, 310.0, 200.0, 168.0), (0, 0, 90, 90)])
def test_a_region_beyond_the_travel_moves_nothing(
    region_um: tuple[float, float, float, float],
) -> None:
    """Its middle can be reached, some of its places cannot."""
    config = scanner_config(stage={"take_up_um": (15.0, 6.0, 4.0)})
    with open_scanner(config) as instrument:
        stage = RecordingStage(instrument.stage)
        with pytest.raises(OutOfTravelError, match="needs x = "):
            calibrate_briefly(bench(instrument, region_um, stage=stage))
    assert stage.targets == []
