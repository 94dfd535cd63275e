"""Stated 95 % intervals hold the truth: 300 virtual instruments, drawn at random.

What is counted is the steps themselves, on the real virtual stage and camera. The table
is printed whatever pytest captures; `python -m bench.calibration_coverage` prints it
too, for more trials and larger fields.
"""

import dataclasses
import sys

import numpy as np
import pytest

from bench.calibration_coverage import run_trials
from bench.coverage_table import Outcome, format_table, summarise
from bench.drawn_instruments import draw_instrument
from bifocus.calib.focus_step import measure_focus

TRIALS = 300
LEAST, MOST = 0.90, 0.99
# What the scan rests on; of the others too narrow an interval is a fault, and a wide
# one is none.
MAIN = (
    *("focus_um", "half_spacing_um", "pixel_um", "scale_x", "scale_y"),
    *("backlash_z_um", "backlash_x_um", "backlash_y_um"),
)
OTHERS = (
    *("repeatability_z_um", "drift_z_um_per_hour", "rotation_mrad"),
    *("tilt_x_mrad", "tilt_y_mrad", "tilt_mrad"),
)


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    return list(run_trials(TRIALS))


@pytest.mark.slow
def test_intervals_hold_the_truth(
    outcomes: list[Outcome], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = summarise(outcomes)
    with capsys.disabled():
        sys.stdout.write(f"\n\n{format_table(rows)}\n\n")
    by_key = {row.key: row for row in rows}
    assert set(by_key) == {*MAIN, *OTHERS}
    for row in rows:
        assert row.count == TRIALS
        assert row.coverage >= LEAST, format_table([row])
        # None is far off: a slip by a period of the target would be a hundred u.
        assert row.worst_u < 6, format_table([row])
    for key in MAIN:
        assert by_key[key].coverage <= MOST, format_table([by_key[key]])


@pytest.mark.slow
@pytest.mark.parametrize(("waves", "most_um"), [(0.0, 0.05), (0.25, 0.10)])
def test_the_focus_is_as_good_as_asked(
    outcomes: list[Outcome], waves: float, most_um: float
) -> None:
    """0.05 um without aberration, 0.10 um with a quarter wave; planes DOF / 3 apart."""
    errors_um = [
        outcome.error
        for outcome in outcomes
        if outcome.key == "focus_um" and abs(outcome.spherical_waves) == waves
    ]
    assert len(errors_um) > 30
    assert _rms(errors_um) <= most_um


@pytest.mark.slow
@pytest.mark.parametrize(("waves", "most_um"), [(0.0, 0.05), (0.25, 0.10)])
def test_half_micrometre_planes_are_enough(waves: float, most_um: float) -> None:
    """As the paper's stacks: 0.5 um planes at NA 0.75, whatever the depth of field."""
    errors_um = []
    for seed in range(12):
        quick, _ = draw_instrument(seed, na=0.75, spherical_waves=waves, condenser=0.6)
        calibration = quick.bench.config.calibration.model_copy(
            update={"fine_step_um": 0.5}
        )
        config = quick.bench.config.model_copy(update={"calibration": calibration})
        step = measure_focus(dataclasses.replace(quick.bench, config=config), {})
        true_um = quick.commanded_focus_um(step.facts["reference_s"])
        errors_um.append(step.values["focus_um"].value - true_um)
    assert _rms(errors_um) <= most_um


@pytest.mark.slow
def test_half_spacing_is_known_to_a_twentieth(outcomes: list[Outcome]) -> None:
    """Of a micrometre, where the drive's own um are right; each percent adds its own.

    Errors are against true um; what the drive's scale makes of them is taken off.
    """
    errors_um = [
        outcome.error - outcome.scale_error
        for outcome in outcomes
        if outcome.key == "half_spacing_um"
    ]
    assert len(errors_um) == TRIALS
    assert _rms(errors_um) <= 0.05


def _rms(errors: list[float]) -> float:
    return float(np.sqrt(np.mean(np.square(errors))))
