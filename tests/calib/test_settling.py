"""The wait after a move: samples by hand, and virtual stages that ring as known."""

import json
import math
from typing import Any

import numpy as np
import pytest

from bifocus.calib.settling import find_wait, first_delays, further_delays
from bifocus.calib.settling_step import LIMIT_PX, measure_settling
from bifocus.calib.step_result import StepResult
from bifocus.errors import CalibrationError
from tests.calib.small_bench import focus_from_truth, open_bench, small_config


def test_the_end_lies_between_two_samples() -> None:
    """Above at 0.2 s, below from 0.4 s on: 0.3 s +- 0.2 / root 12, by hand."""
    delays = np.array([0.4, 0.0, 0.1, 0.2, 0.6])
    wait = find_wait(delays, np.array([0.05, 3.0, 0.02, 0.3, 0.01]), 0.1, "x")
    assert wait.wait_s == pytest.approx(0.3)
    assert wait.u_s == pytest.approx(0.2 / math.sqrt(12))
    assert wait.below_from_s == 0.4


def test_at_rest_from_the_beginning() -> None:
    wait = find_wait(np.array([0.02, 0.1]), np.zeros(2), 0.1, "x")
    assert wait.wait_s == pytest.approx(0.01)
    assert wait.below_from_s == 0.02


def test_never_at_rest_is_an_error() -> None:
    with pytest.raises(CalibrationError, match=r"z: 0\.50 s after a move.*raise stage"):
        find_wait(np.array([0.1, 0.5]), np.array([0.01, 0.4]), 0.1, "z")


def test_a_decay_is_found_to_a_seventh_of_the_first_bracket() -> None:
    """exp(-t / 0.05 s) falls below 0.02 at 0.196 s."""
    first = np.array(first_delays(1.0))
    further = further_delays(first, np.exp(-first / 0.05), 0.02)
    delays = np.concatenate([first, further])
    wait = find_wait(delays, np.exp(-delays / 0.05), 0.02, "x")
    assert wait.wait_s == pytest.approx(-0.05 * math.log(0.02), abs=2 * wait.u_s)
    assert wait.u_s < 0.006


def measured(settle_s: float, **mechanics: Any) -> StepResult:
    config = small_config(
        stage={
            "settle_s": settle_s,
            "mechanics": mechanics,
            # Full speed within 4 um, so that every stop rings fully.
            "acceleration_um_per_s2": (1e6, 1e6, 1e5),
        },
        camera={"frame_rate_hz": 250.0, "exposure_s": 0.002, "transfer_s": 0.05},
    )
    with open_bench(config) as (bench, instrument):
        return measure_settling(bench, focus_from_truth(instrument))


@pytest.mark.slow
def test_ringing_is_waited_for() -> None:
    """0.6 um at 15 Hz decaying in 60 ms, on both axes; a stop from full speed.

    The envelope of the diagonal, 0.6 root 2 / 0.25 px, is below 0.1 px from
    0.06 s log(33.9) = 0.211 s on, and the sine is up to half a period earlier.
    """
    result = measured(
        0.05, ring_amplitude_um=0.6, ring_frequency_hz=15.0, ring_decay_s=0.06
    )
    expected_s = 0.06 * math.log(0.6 * math.sqrt(2) / 0.25 / LIMIT_PX)
    across, along = (result.values[f"settle_{axes}_s"] for axes in ("xy", "z"))
    assert expected_s - 0.04 < across.value < expected_s + 0.01
    # 0.6 um fall below 0.1 um after 0.06 s log 6 = 0.108 s, and z has no root 2.
    assert 0.06 < along.value < 0.12
    assert any("too short for xy" in text for text in result.warnings)
    assert result.facts["could_save_s"] == 0.0
    assert [move["axes"] for move in result.facts["moves"]] == ["xy", "xy", "z", "z"]
    json.dumps(result.facts)


@pytest.mark.slow
def test_a_quiet_stage_could_wait_less() -> None:
    result = measured(0.3)
    assert result.values["settle_xy_s"].value < 0.02
    assert result.values["settle_z_s"].value < 0.02
    assert result.facts["could_save_s"] == pytest.approx(0.3, abs=0.03)
    assert result.warnings == ()


@pytest.mark.slow
def test_a_stage_that_rings_on_and_on_is_named() -> None:
    with pytest.raises(CalibrationError, match=r"xy, move of .* still"):
        measured(0.05, ring_amplitude_um=2.0, ring_frequency_hz=7.0, ring_decay_s=1.0)
