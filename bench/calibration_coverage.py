"""Do stated 95 % intervals hold the truth? Monte Carlo over virtual instruments.

Each trial draws an instrument (`bench/drawn_instruments.py`), runs steps of calibration
on it as on a real one, and lays what they state beside the truth. Run it with

    python -m bench.calibration_coverage [--trials N] [--first SEED] [--side-px N]

One table says for each value: trials, share of intervals value +- 2 u that hold the
truth, root mean square error, mean u, bias. Trials of one seed are always the same.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from bench.coverage_table import Outcome, format_table, summarise
from bench.drawn_instruments import Drawn, draw_instrument, draw_over_graticule
from bench.quick_instrument import QuickInstrument
from bifocus.calib.focus_step import measure_focus
from bifocus.calib.spacing_step import measure_spacing
from bifocus.calib.step_result import StepResult
from bifocus.calib.tilt_step import measure_tilt
from bifocus.calib.xy_step import measure_xy
from bifocus.calib.z_mechanics import measure_z_mechanics
from bifocus.records import Measured

# Of the slide, for the step tilt: half a millimetre.
_SLIDE_UM = (-250.0, -250.0, 500.0, 500.0)


def run_trial(seed: int, **options: Any) -> list[Outcome]:
    """Run the steps `focus`, `z`, `spacing` and `tilt` on one drawn instrument."""
    quick, drawn = draw_instrument(seed, **options)
    steps: dict[str, StepResult] = {}
    steps["focus"] = measure_focus(quick.bench, steps)
    steps["z"] = measure_z_mechanics(quick.bench, steps)
    steps["spacing"] = measure_spacing(quick.bench, steps)
    steps["tilt"] = measure_tilt(replace(quick.bench, region_um=_SLIDE_UM), steps)
    values = _values_of(steps)
    commanded_um = values["half_spacing_commanded_um"].value
    scale_errors = {"half_spacing_um": commanded_um * (drawn.scale - 1)}
    return [
        Outcome(
            key=key,
            seed=seed,
            error=values[key].value - true_value,
            u=values[key].standard_uncertainty,
            spherical_waves=drawn.spherical_waves,
            scale_error=-scale_errors.get(key, 0.0),
        )
        for key, true_value in _truth(quick, drawn, steps, commanded_um).items()
    ]


def _truth(
    quick: QuickInstrument,
    drawn: Drawn,
    steps: dict[str, StepResult],
    commanded_um: float,
) -> dict[str, float]:
    """Return the truth under the keys of the values; lengths along z in true um."""
    return {
        "focus_um": quick.commanded_focus_um(steps["focus"].facts["reference_s"]),
        "backlash_z_um": drawn.backlash_um,
        "half_spacing_um": commanded_um * drawn.scale,
        "repeatability_z_um": drawn.repeatability_um,
        # The glass creeps up, so that the motor has to go less far up.
        "drift_z_um_per_hour": -drawn.drift_um_per_hour / drawn.scale,
        "tilt_x_mrad": drawn.tilt_mrad[0],
        "tilt_y_mrad": drawn.tilt_mrad[1],
        "tilt_mrad": float(np.hypot(*drawn.tilt_mrad)),
    }


def run_xy_trial(seed: int) -> list[Outcome]:
    """Run the step `xy` on one drawn instrument over a graticule."""
    bench, truth = draw_over_graticule(seed)
    focus = StepResult(
        name="focus",
        values={"focus_um": Measured(value=150.0, standard_uncertainty=0.1, method="")},
        facts={"x_um": 500.0, "y_um": 400.0},
    )
    values = measure_xy(bench, {"focus": focus}).values
    return [
        Outcome(
            key=key,
            seed=seed,
            error=values[key].value - true_value,
            u=values[key].standard_uncertainty,
        )
        for key, true_value in truth.items()
    ]


def _values_of(steps: dict[str, StepResult]) -> dict[str, Measured]:
    return dict(pair for step in steps.values() for pair in step.values.items())


def run_trials(count: int, *, first: int = 0, **options: Any) -> Iterator[Outcome]:
    """Yield the outcomes of many trials: along z, then across."""
    for seed in range(first, first + count):
        yield from run_trial(seed, **options)
    for seed in range(first, first + count):
        yield from run_xy_trial(seed)


def main(arguments: list[str] | None = None) -> int:
    """Print the table, and that of the focus without and with most aberration."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--side-px", type=int, default=64, help="of the field")
    options = parser.parse_args(arguments)
    start_s = time.process_time()
    outcomes = list(
        run_trials(options.trials, first=options.first, side_px=options.side_px)
    )
    print(format_table(summarise(outcomes)))
    for waves in (0.0, 0.25):
        some = [
            outcome
            for outcome in outcomes
            if outcome.key in ("focus_um", "half_spacing_um")
            and abs(outcome.spherical_waves) == waves
        ]
        print(f"\n{waves} waves of spherical aberration:")
        print(format_table(summarise(some)))
    print(f"\n{time.process_time() - start_s:.0f} CPU seconds")
    return 0


if __name__ == "__main__":
    sys.exit(main())
