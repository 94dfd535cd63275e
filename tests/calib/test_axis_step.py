"""Accuracy, repeatability and periodic error of virtual axes whose truth is known."""

import json
import math

import pytest

from bifocus.calib.axis_step import measure_axes
from bifocus.calib.xy_step import measure_xy
from bifocus.errors import BlankSlideError, CalibrationError
from tests.calib.small_bench import focus_from_truth, open_bench, small_config

MECHANICS = {
    "backlash_um": (4.0, 2.0, 0.0),
    "repeatability_um": (0.05, 0.05, 0.0),
    "scale": (1.02, 1.0, 1.0),
    "periodic_um": (0.8, 0.0, 0.0),
    "periodic_period_um": (100.0, 100.0, 20.0),
}


@pytest.mark.slow
def test_both_axes_of_an_uneven_screw() -> None:
    config = small_config(
        stage={"mechanics": MECHANICS}, calibration={"motor_turn_um": (100.0, 100.0)}
    )
    with open_bench(config) as (bench, instrument):
        before = focus_from_truth(instrument)
        before["xy"] = measure_xy(bench, before)
        result = measure_axes(bench, before)
    values = result.values
    periodic = values["periodic_x_um"]
    assert periodic.value == pytest.approx(
        1.02 * 0.8, abs=2.5 * periodic.standard_uncertainty
    )
    assert periodic.standard_uncertainty < 0.05
    # The sine begins at stage 0, and the phase is counted from there.
    phase = result.facts["periodic_x"]["phase_rad"]
    assert math.remainder(phase, 2 * math.pi) == pytest.approx(0.0, abs=0.15)
    nothing = values["periodic_y_um"]
    assert nothing.value <= 2.5 * nothing.standard_uncertainty
    # Systematic: 2 % of the stretch, the sine from crest to trough, the play; scatter
    # of 4 s on top. Targets need not lie on the crests.
    first, last = result.facts["x"]["targets"][0], result.facts["x"]["targets"][-1]
    length_um = last["target_um"] - first["target_um"]
    least_um = 0.02 * length_um + 4.0 - 1.6
    assert least_um < values["accuracy_x_um"].value < least_um + 4.0
    assert result.facts["x"]["mean_reversal_um"] == pytest.approx(-4.0 * 1.02, abs=0.15)
    # R is at least the play, and 4 s of 0.05 um more or so.
    assert 2.0 < values["repeatability_y_um"].value < 2.0 + 0.6
    assert "needs" in result.facts["caveat"]
    assert any("max |B_i|" in line for line in result.facts["formulas"])
    json.dumps(result.facts)
    assert len(result.facts["y"]["targets"]) == 5


@pytest.mark.slow
def test_a_turn_longer_than_the_region_is_followed_beyond_it() -> None:
    """The targets stay in the region: accuracy is that of the region."""
    config = small_config(
        stage={"mechanics": MECHANICS}, calibration={"motor_turn_um": (100.0, 100.0)}
    )
    left_um, top_um, width_um, height_um = 470.0, 360.0, 60.0, 60.0
    with open_bench(config, (left_um, top_um, width_um, height_um)) as (bench, truth):
        before = focus_from_truth(truth)
        before["xy"] = measure_xy(bench, before)
        result = measure_axes(bench, before)
    periodic = result.values["periodic_x_um"]
    assert periodic.value == pytest.approx(
        1.02 * 0.8, abs=2.5 * periodic.standard_uncertainty
    )
    assert result.facts["periodic_x"]["turns"] == pytest.approx(1.05, abs=0.01)
    assert not result.warnings
    for target in result.facts["x"]["targets"]:
        assert left_um <= target["target_um"] <= left_um + width_um


@pytest.mark.slow
def test_without_a_turn_nothing_periodic_is_claimed() -> None:
    """The region is narrow, and gaps of the tissue leave a shorter stretch."""
    config = small_config(stage={"mechanics": {}}, virtual_slide={"x_um": 420.0})
    with open_bench(config, (400.0, 380.0, 120.0, 60.0)) as (bench, instrument):
        before = focus_from_truth(instrument)
        before["xy"] = measure_xy(bench, before)
        result = measure_axes(bench, before)
    assert "periodic_x_um" not in result.values
    assert any("motor_turn_um" in text for text in result.warnings)
    assert result.values["repeatability_x_um"].value < 0.1


def test_it_needs_the_matrix() -> None:
    with (
        open_bench(small_config()) as (bench, instrument),
        pytest.raises(CalibrationError, match="needs step xy"),
    ):
        measure_axes(bench, focus_from_truth(instrument))


def test_glass_all_along_is_named() -> None:
    with open_bench(small_config()) as (bench, instrument):
        before = focus_from_truth(instrument)
        before["xy"] = measure_xy(bench, before)
    config = small_config(virtual_slide={"x_um": -3000.0})
    with open_bench(config) as (bench, _):
        focus = before["focus"]
        with pytest.raises(BlankSlideError, match="axis x: no stretch full of tissue"):
            measure_axes(bench, {"focus": focus, "xy": before["xy"]})
