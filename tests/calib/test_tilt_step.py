"""The tilt of virtual slides whose truth is known."""

import json

import numpy as np
import pytest

from bifocus.calib.focus_surface import FocusSurface
from bifocus.calib.step_result import StepResult
from bifocus.calib.tilt_step import measure_tilt
from bifocus.errors import BlankSlideError, CalibrationError
from bifocus.records import Measured
from tests.calib.small_bench import focus_from_truth, open_bench, small_config
from tests.scanner import REGION_UM


@pytest.mark.slow
def test_the_tilt_of_a_slide() -> None:
    tilt = {"tilt_mrad": (4.0, -2.5)}
    with open_bench(small_config(virtual_slide=tilt)) as (bench, instrument):
        result = measure_tilt(bench, focus_from_truth(instrument))
        surface = FocusSurface.from_facts(result.facts["surface"])
        assert instrument.truth is not None
        middle_um = (500.0, 400.0)
        truth_um = instrument.truth.mean_focus_um(*middle_um)
    for key, truth in (
        ("tilt_x_mrad", 4.0),
        ("tilt_y_mrad", -2.5),
        ("tilt_mrad", np.hypot(4.0, 2.5)),
    ):
        value = result.values[key]
        assert abs(value.value - truth) < 3 * value.standard_uncertainty, key
        assert value.standard_uncertainty < 0.8
        assert value.unit == "mrad"
    assert surface.height_um(*middle_um) == pytest.approx(truth_um, abs=0.1)
    assert result.facts["model"] == "plane"
    assert result.facts["residual_um"] < 0.15
    assert result.facts["hold_out_um"] >= result.facts["residual_um"]
    assert len(result.facts["places"]) >= 9
    with pytest.raises(CalibrationError, match="outside the measured places"):
        surface.height_um(REGION_UM[0] - 200.0, 400.0)
    json.dumps(result.facts)


@pytest.mark.slow
def test_lengths_of_a_wrong_stage_are_made_true() -> None:
    """The stage goes 5 % too far in x: per commanded um the slope is 5 % too steep."""
    config = small_config(
        stage={"mechanics": {"scale": (1.05, 1.0, 1.0)}},
        virtual_slide={"tilt_mrad": (5.0, 0.0)},
    )
    scales = {
        f"scale_{axis}": Measured(
            value=value, standard_uncertainty=0.001, method="", unit=""
        )
        for axis, value in (("x", 1.05), ("y", 1.0))
    }
    with open_bench(config) as (bench, instrument):
        before = focus_from_truth(instrument)
        before["xy"] = StepResult(name="xy", values=scales)
        result = measure_tilt(bench, before)
    surface = result.facts["surface"]["coefficients"]  # um per commanded mm
    assert surface[1] / 1.05 == pytest.approx(result.values["tilt_x_mrad"].value)
    tilt = result.values["tilt_x_mrad"]
    assert abs(tilt.value - 5.0) < 3 * tilt.standard_uncertainty


@pytest.mark.slow
def test_places_on_glass_are_skipped_and_counted() -> None:
    """Tissue reaches x 520 um only: the right third of the region is glass."""
    config = small_config(virtual_slide={"x_um": 264.0})
    with open_bench(config) as (bench, instrument):
        before = focus_from_truth(instrument)
        result = measure_tilt(bench, before)
    assert any("clear glass" in text for text in result.facts["left_out"])
    assert any("places have a focus" in text for text in result.warnings)
    right_um = max(place["x_um"] for place in result.facts["places"])
    assert right_um < 560.0


def test_a_blank_slide_is_named() -> None:
    config = small_config(virtual_slide={"x_um": -3000.0})
    with (
        open_bench(config) as (bench, instrument),
        pytest.raises(BlankSlideError, match=r"any of 13 places.*clear glass"),
    ):
        measure_tilt(bench, focus_from_truth(instrument))
