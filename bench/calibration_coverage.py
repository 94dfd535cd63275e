"""Do stated 95 % intervals hold the truth? Monte Carlo over virtual instruments.

Each trial draws an instrument (NA, aberration, condenser, tissue and its relief, play,
scale, drift, scatter, noise, take-up), runs calibration steps on it as on a real one,
and lays what they state beside the truth. Run it with

    python -m bench.calibration_coverage [--trials N] [--first SEED] [--side-px N]

A table says for each value: trials, share of intervals value +- 2 u that hold the
truth, root mean square error, mean u. Trials of one seed are always the same.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.quick_instrument import QuickInstrument, make_instrument, make_specimen
from bifocus.calib.focus_step import measure_focus
from bifocus.calib.spacing_step import measure_spacing
from bifocus.calib.step_result import StepResult
from bifocus.calib.z_mechanics import measure_z_mechanics
from bifocus.transfer import Light

# The same wavelength and sampling for all: a pixel is what Nyquist asks of NA 0.75.
_GREEN_UM, _PIXEL_UM, _REFERENCE_NA = 0.53, 0.25, 0.75
_MOTOR_UM = 0.05
_MOST_PLAY_STEPS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """What was drawn for one trial."""

    na: float
    spherical_waves: float
    condenser: float
    backlash_um: float
    scale: float
    repeatability_um: float
    drift_um_per_hour: float
    half_spacing_um: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one trial stated about one value."""

    key: str
    seed: int
    drawn: Drawn
    error: float
    u: float

    @property
    def is_covered(self) -> bool:
        """Whether value +- 2 u holds the truth."""
        return abs(self.error) <= 2 * self.u


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table."""

    key: str
    count: int
    coverage: float
    rmse: float
    mean_u: float
    bias: float


def draw_instrument(
    seed: int, *, side_px: int = 96, **fixed: Any
) -> tuple[QuickInstrument, Drawn]:
    """Draw an instrument; `fixed` overrides what is drawn, by the names of `Drawn`."""
    rng = np.random.default_rng([seed, 0xC0FE])
    na = float(fixed.get("na", rng.uniform(0.4, 0.95)))
    unit_um = _GREEN_UM / na**2
    drawn = Drawn(
        **{
            "na": na,
            "spherical_waves": float(rng.choice([-0.25, -0.1, 0.0, 0.1, 0.25])),
            "condenser": float(rng.choice([0.6, 0.8, 1.0])),
            "backlash_um": _MOTOR_UM * float(rng.uniform(0, _MOST_PLAY_STEPS)),
            "scale": float(rng.uniform(0.95, 1.05)),
            "repeatability_um": float(rng.uniform(0, 0.05)),
            "drift_um_per_hour": float(rng.uniform(-5, 5)),
            "half_spacing_um": float(rng.uniform(0.7, 1.1)) * unit_um,
            **fixed,
        }
    )
    # Tilt to 5 mrad and relief: over a small field little more than a few layers.
    heights_um = np.linspace(-0.5, 0.5, 3) * float(rng.uniform(0, 1))
    specimen = make_specimen(
        side_px=side_px,
        pixel_um=_PIXEL_UM * _REFERENCE_NA / na,
        heights_um=tuple(heights_um.tolist()),
        seed=seed,
    )
    quick = make_instrument(
        specimen=specimen,
        light=Light(condenser=drawn.condenser, spherical_waves=drawn.spherical_waves),
        na=na,
        seed=seed,
        mechanics={
            "backlash_um": (0.0, 0.0, drawn.backlash_um),
            "repeatability_um": (0.0, 0.0, drawn.repeatability_um),
            "scale": (1.0, 1.0, drawn.scale),
            "z_drift_um_per_hour": drawn.drift_um_per_hour,
        },
        stage={"take_up_um": (0.0, 0.0, 1.2 * _MOTOR_UM * _MOST_PLAY_STEPS)},
        camera={"full_well_e": float(rng.uniform(8000, 20000))},
        calibration={"z_start_um": float(rng.uniform(-6, 6))},
        scan={"half_spacing_um": drawn.half_spacing_um},
    )
    return quick, drawn


def run_trial(seed: int, **options: Any) -> list[Outcome]:
    """Run the steps `focus`, `z` and `spacing` on one drawn instrument."""
    quick, drawn = draw_instrument(seed, **options)
    steps: dict[str, StepResult] = {}
    steps["focus"] = measure_focus(quick.bench, steps)
    steps["z"] = measure_z_mechanics(quick.bench, steps)
    steps["spacing"] = measure_spacing(quick.bench, steps)
    values = dict(pair for step in steps.values() for pair in step.values.items())
    truth = _truth(quick, drawn, steps)
    return [
        Outcome(
            key=key,
            seed=seed,
            drawn=drawn,
            error=values[key].value - true_value,
            u=values[key].standard_uncertainty,
        )
        for key, true_value in truth.items()
    ]


def _truth(
    quick: QuickInstrument, drawn: Drawn, steps: Mapping[str, StepResult]
) -> dict[str, float]:
    """Return the truth under the keys of the values; lengths along z in true um."""
    commanded = steps["spacing"].values["half_spacing_commanded_um"]
    return {
        "focus_um": quick.commanded_focus_um(steps["focus"].facts["reference_s"]),
        "backlash_z_um": drawn.backlash_um,
        "half_spacing_um": commanded.value * drawn.scale,
        "repeatability_z_um": drawn.repeatability_um,
        # The glass creeps up, so that the motor has to go less far up.
        "drift_z_um_per_hour": -drawn.drift_um_per_hour / drawn.scale,
    }


def summarise(outcomes: Iterable[Outcome]) -> list[Row]:
    """Return one row for each value, in order of appearance."""
    by_key: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_key.setdefault(outcome.key, []).append(outcome)
    rows = []
    for key, group in by_key.items():
        error = np.array([outcome.error for outcome in group])
        rows.append(
            Row(
                key=key,
                count=len(group),
                coverage=float(np.mean([outcome.is_covered for outcome in group])),
                rmse=float(np.sqrt(np.mean(error**2))),
                mean_u=float(np.mean([outcome.u for outcome in group])),
                bias=float(error.mean()),
            )
        )
    return rows


def format_table(rows: Iterable[Row]) -> str:
    """Return the table as Markdown."""
    lines = [
        "| value | trials | coverage of +-2u | RMSE | mean u | bias |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.key} | {row.count} | {row.coverage:.1%} | {row.rmse:.4f} "
        f"| {row.mean_u:.4f} | {row.bias:+.4f} |"
        for row in rows
    ]
    return "\n".join(lines)


def run_trials(count: int, *, first: int = 0, **options: Any) -> Iterator[Outcome]:
    """Yield the outcomes of many trials."""
    for seed in range(first, first + count):
        yield from run_trial(seed, **options)


def main(arguments: list[str] | None = None) -> int:
    """Print the table, and that of instruments without and with aberration."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--side-px", type=int, default=96, help="of the field")
    parser.add_argument("--json", type=Path, help="all outcomes go there")
    options = parser.parse_args(arguments)
    start_s = time.process_time()
    outcomes = list(
        run_trials(options.trials, first=options.first, side_px=options.side_px)
    )
    print(format_table(summarise(outcomes)))
    for waves in (0.0, 0.25):
        some = [o for o in outcomes if abs(o.drawn.spherical_waves) == waves]
        print(f"\n{waves} waves of spherical aberration:")
        print(format_table(summarise(some)))
    print(f"\n{time.process_time() - start_s:.0f} CPU seconds")
    if options.json:
        rows = [
            {"key": o.key, "seed": o.seed, "error": o.error, "u": o.u} for o in outcomes
        ]
        options.json.write_text(json.dumps(rows), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
