"""Do stated intervals of NA, aberration and Z scale hold the truth? Monte Carlo.

Each trial draws an instrument and shoots a z-stack of a small periodic field in three
colours, as the step `optics` does; the fit of that step says what it finds. Run it with

    python -m bench.na_coverage [--trials N] [--first SEED]

Drawn: NA 0.4 to 0.95, spherical aberration to +-0.25 waves, condenser 0.6 to 1 with
phase, a Z scale off by 5 %, planes that scatter by up to 0.05 um, tissue up to 0.4 um
deep, noise. The table says what share of the intervals value +- 2 u hold the truth.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.coverage_table import Outcome, format_table, summarise
from bench.quick_instrument import PeriodicRenderer, make_specimen
from bifocus.calib.focus_search import optics_dof_um
from bifocus.calib.optics_fit import OpticsFit, fit_optics
from bifocus.calib.stack_evidence import StackLayout, gather_evidence, plan_blocks
from bifocus.config import Optics
from bifocus.hal.sensor import Sensor
from bifocus.optics import Objective
from bifocus.records import UInt8Image
from bifocus.transfer import Light

Float64 = npt.NDArray[np.float64]

SIDE_PX = 216
_PIXEL_UM, _REFERENCE_NA = 0.25, 0.75
_REACH_DOF, _STEP_DOF = 3.0, 0.5
# Share of the light that each colour of stained tissue takes.
_STAIN = np.array([0.7, 1.0, 0.8], dtype=np.float32)
KEYS = ("na", "spherical_waves", "z_scale")


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnOptics:
    """What was drawn for one trial; lengths in true um."""

    na: float
    light: Light
    z_scale: float
    scatter_um: float
    half_depth_um: float
    full_well_e: float

    @property
    def truth(self) -> dict[str, float]:
        """By the names of the fit."""
        return {
            "na": self.na,
            "spherical_waves": self.light.spherical_waves,
            "z_scale": self.z_scale,
        }


def draw_optics(seed: int, **fixed: Any) -> DrawnOptics:
    """Draw optics; `fixed` overrides what is drawn, by the names of the fields."""
    rng = np.random.default_rng([seed, 0x0A])
    condenser = float(rng.choice([0.6, 0.8, 1.0]))
    light = Light(
        condenser=condenser,
        phase_ratio=float(rng.uniform(0, 0.3)) if condenser < 1 else 0.0,
        spherical_waves=float(rng.choice([-0.25, -0.1, 0.0, 0.1, 0.25])),
    )
    drawn: dict[str, Any] = {
        "na": float(rng.uniform(0.4, 0.95)),
        "light": light,
        "z_scale": float(rng.uniform(0.95, 1.05)),
        "scatter_um": float(rng.uniform(0, 0.05)),
        "half_depth_um": 0.2 * float(rng.uniform(0, 1)),
        "full_well_e": float(rng.uniform(8000, 20000)),
    }
    return DrawnOptics(**{**drawn, **fixed})


def fit_drawn(drawn: DrawnOptics, seed: int) -> OpticsFit:
    """Shoot the stack of one instrument and fit its optics."""
    rng = np.random.default_rng([seed, 0x0B])
    pixel_um = _PIXEL_UM * _REFERENCE_NA / drawn.na
    nominal = Optics(na=drawn.na, pixel_um=pixel_um)
    step_um = _STEP_DOF * optics_dof_um(nominal)
    half = round(_REACH_DOF / _STEP_DOF)
    phase = float(rng.uniform(-0.5, 0.5))
    numbers = np.arange(-half, half + 1, dtype=np.float64)
    z_um: Float64 = step_um * (numbers + phase)
    true_um = drawn.z_scale * (z_um + rng.normal(0, drawn.scatter_um, z_um.size))
    planes = _shoot(drawn, nominal, true_um, seed, rng)
    evidence = gather_evidence(
        planes,
        z_um,
        tone_curve="linear",
        shifts_px=np.zeros((z_um.size, 2)),
        layout=_sparse(plan_blocks(planes[half])),
    )
    return fit_optics(evidence, nominal)


def _sparse(layout: StackLayout) -> StackLayout:
    """Return every other block: as much tissue, in half of the time."""
    return StackLayout(
        block_px=layout.block_px,
        hop_px=round(layout.hop_px * 2**0.5),
        corners_px=layout.corners_px[::2],
    )


def _shoot(
    drawn: DrawnOptics,
    nominal: Optics,
    true_um: Float64,
    seed: int,
    rng: np.random.Generator,
) -> list[UInt8Image]:
    """Return the planes; each colour is rendered by its own transfer."""
    specimen = make_specimen(
        side_px=SIDE_PX,
        pixel_um=nominal.pixel_um,
        heights_um=(-drawn.half_depth_um, 0.0, drawn.half_depth_um),
        seed=seed,
    )
    renderers = [
        PeriodicRenderer(
            specimen,
            Objective(na=drawn.na, wavelength_um=wavelength_um),
            drawn.light,
        )
        for wavelength_um in nominal.wavelengths_um
    ]
    sensor = Sensor(
        full_well_e=drawn.full_well_e,
        read_noise_e=2.5,
        white_level=0.92,
        falloff=0.0,
        tone_curve="linear",
    )
    planes = []
    for z_um in true_um.tolist():
        green = [renderer.render(0.0, 0.0, z_um) for renderer in renderers]
        light = 1 - _STAIN * (1 - np.concatenate(green, axis=-1))
        planes.append(sensor.expose(light.astype(np.float32), rng))
    return planes


def run_trials(count: int, *, first: int = 0, **fixed: Any) -> Iterator[Outcome]:
    """Yield what each trial stated about `KEYS`."""
    for seed in range(first, first + count):
        drawn = draw_optics(seed, **fixed)
        fit = fit_drawn(drawn, seed)
        for key in KEYS:
            yield Outcome(
                key=key,
                seed=seed,
                error=fit.values[key] - drawn.truth[key],
                u=fit.u[key],
                spherical_waves=drawn.light.spherical_waves,
            )


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    options = parser.parse_args(arguments)
    start_s = time.process_time()
    outcomes = list(run_trials(options.trials, first=options.first))
    print(format_table(summarise(outcomes)))
    print(f"\n{time.process_time() - start_s:.0f} CPU seconds")
    return 0


if __name__ == "__main__":
    sys.exit(main())
