"""The focus step: which place it takes, what it tells, and what it refuses."""

import numpy as np
import pytest

from bifocus.calib.focus_estimate import estimate_focus
from bifocus.calib.focus_step import measure_focus
from bifocus.calib.step_result import Bench, StepResult
from bifocus.config import Instrument
from bifocus.errors import BlankSlideError, CalibrationError
from tests.scanner import REGION_UM, glass_only, open_scanner, scanner_config, truth_of


def measure(config: Instrument) -> tuple[StepResult, float]:
    """Return the step's result, and the truth of the focus at its own time."""
    with open_scanner(config) as instrument:
        bench = Bench(
            stage=instrument.stage,
            camera=instrument.camera,
            clock=instrument.clock,
            config=config,
            region_um=REGION_UM,
        )
        step = measure_focus(bench, {})
        facts = step.facts
        true_um = truth_of(instrument).commanded_focus_um(
            facts["x_um"], facts["y_um"], facts["reference_s"]
        )
    return step, true_um


def test_the_first_place_may_be_glass_and_its_reason_is_kept() -> None:
    """The tissue covers only the left third: another place has to be tried."""
    step, true_um = measure(scanner_config(virtual_slide={"x_um": 380.0 - 180.0}))
    found = step.values["focus_um"]
    assert abs(found.value - true_um) < 0.05
    assert abs(found.value - true_um) < 3 * found.standard_uncertainty
    assert "clear glass" in step.facts["refused_places"][0]
    assert step.facts["x_um"] < REGION_UM[0] + 0.5 * REGION_UM[2]
    assert len(step.raw_sha256) == 64


def test_the_report_has_curves_repeats_and_pictures() -> None:
    step, _ = measure(scanner_config())
    curve, repeats = step.plots
    assert curve.series[0].name == "planes"
    assert len(repeats.series[0].x) == scanner_config().calibration.repeats
    assert len(step.pictures) == 9
    assert all(
        max(p.shape) <= 160 and p.dtype == np.uint8 for p in step.pictures.values()
    )
    assert abs(step.facts["asymmetry"]) < 0.05
    assert step.warnings == ()


def test_a_blank_slide_is_called_blank() -> None:
    with pytest.raises(
        BlankSlideError, match=r"no tissue at 9 places.*check the slide"
    ):
        measure(glass_only())


def test_each_place_gives_its_reason() -> None:
    config = scanner_config(camera={"lamp": "off"})
    with pytest.raises(CalibrationError, match=r"no focus at 9 places") as caught:
        measure(config)
    assert str(caught.value).count("no light") == 9


def test_one_stack_knows_a_quarter_of_its_planes() -> None:
    estimate = estimate_focus(
        np.array([7.0]),
        np.array([10.0]),
        np.array([7.0]),
        plane_um=0.4,
        motor_step_um=0.0,
    )
    assert estimate.u_um == pytest.approx(0.1)
    assert estimate.drift_um_per_hour is None


def test_drift_and_scatter_are_told_apart() -> None:
    """Peaks on a line of -36 um/h with residuals +-0.01 that do not follow the line."""
    times_s = np.array([0.0, 10.0, 20.0, 30.0, 40.0])
    residual_um = np.array([0.01, -0.02, 0.0, 0.02, -0.01])
    slope = float((times_s - 20) @ residual_um) / 1000
    peaks_um = 5.0 - 0.01 * times_s + residual_um
    estimate = estimate_focus(
        peaks_um, times_s, peaks_um + 0.05, plane_um=0.4, motor_step_um=0.05
    )
    assert estimate.focus_um == pytest.approx(4.8)
    assert estimate.reference_s == 20.0
    assert estimate.drift_um_per_hour == pytest.approx((slope - 0.01) * 3600)
    left = residual_um - slope * (times_s - 20)
    sd_um = float(left @ left / 3) ** 0.5
    parts = [sd_um / 5**0.5 * 3.18245 / 2, 0.2 * 0.05, 0.05 / 12**0.5 / 5**0.5]
    assert estimate.u_um == pytest.approx(float(np.linalg.norm(parts)), rel=1e-4)
    assert list(estimate.budget_um.values()) == pytest.approx(parts, rel=1e-4)
