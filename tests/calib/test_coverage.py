"""Stated 95 % intervals hold the truth: 300 virtual instruments, drawn at random.

What is counted is the steps themselves, on the real virtual stage and camera. The table
is printed whatever pytest captures; `python -m bench.calibration_coverage` prints it
for more trials and larger fields, beside those of instruments with aberration.
"""

import dataclasses
import sys

import numpy as np
import pytest

from bench.calibration_coverage import (
    Outcome,
    draw_instrument,
    format_table,
    run_trials,
    summarise,
)
from bifocus.calib.focus_step import measure_focus

TRIALS = 300
# 90 to 99 % is asked for; the seeds give 94.0 to 98.7 %. A change of code that moves a
# trial or two over 99 % is no fault: counting 300 has a standard deviation of 1.3 %.
LEAST, MOST = 0.90, 0.995


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    return list(run_trials(TRIALS, side_px=64))


@pytest.mark.slow
def test_intervals_hold_the_truth(
    outcomes: list[Outcome], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = summarise(outcomes)
    with capsys.disabled():
        sys.stdout.write(f"\n\n{format_table(rows)}\n\n")
    by_key = {row.key: row for row in rows}
    for key in ("focus_um", "backlash_z_um", "half_spacing_um"):
        row = by_key[key]
        assert row.count == TRIALS
        assert LEAST <= row.coverage <= MOST, format_table([row])
    for row in rows:
        assert row.coverage >= LEAST, format_table([row])


@pytest.mark.slow
@pytest.mark.parametrize(("waves", "most_um"), [(0.0, 0.05), (0.25, 0.10)])
def test_the_focus_is_as_good_as_asked(
    outcomes: list[Outcome], waves: float, most_um: float
) -> None:
    """0.05 um without aberration, 0.10 um with a quarter wave; planes DOF / 3 apart."""
    error_um = [
        outcome.error
        for outcome in outcomes
        if outcome.key == "focus_um" and abs(outcome.drawn.spherical_waves) == waves
    ]
    assert len(error_um) > 30
    assert float(np.sqrt(np.mean(np.square(error_um)))) <= most_um


@pytest.mark.slow
@pytest.mark.parametrize(("waves", "most_um"), [(0.0, 0.05), (0.25, 0.10)])
def test_half_micrometre_planes_are_enough(waves: float, most_um: float) -> None:
    """As the paper's stacks: 0.5 um planes at NA 0.75, whatever the depth of field."""
    errors_um = []
    for seed in range(12):
        quick, _ = draw_instrument(
            seed, side_px=64, na=0.75, spherical_waves=waves, condenser=0.6
        )
        calibration = quick.bench.config.calibration.model_copy(
            update={"fine_step_um": 0.5}
        )
        config = quick.bench.config.model_copy(update={"calibration": calibration})
        step = measure_focus(dataclasses.replace(quick.bench, config=config), {})
        true_um = quick.commanded_focus_um(step.facts["reference_s"])
        errors_um.append(step.values["focus_um"].value - true_um)
    assert float(np.sqrt(np.mean(np.square(errors_um)))) <= most_um


@pytest.mark.slow
def test_half_spacing_is_known_to_a_twentieth(outcomes: list[Outcome]) -> None:
    """Of a micrometre, where the drive's own um are right; each percent adds its own.

    Errors are against true um; what the drive's scale makes of them is taken off.
    """
    errors_um = [
        outcome.error - outcome.drawn.half_spacing_um * (1 - outcome.drawn.scale)
        for outcome in outcomes
        if outcome.key == "half_spacing_um"
    ]
    assert float(np.sqrt(np.mean(np.square(errors_um)))) <= 0.05
