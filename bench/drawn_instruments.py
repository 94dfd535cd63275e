"""Virtual instruments drawn at random, as hard as real ones may be, of known truth.

Along z: NA 0.4 to 0.95, spherical aberration to +-0.25 waves, condenser 0.6 to 1, play
to 120 motor steps, z scale +-5 %, slides tilted by up to 5 mrad, drift, scatter, noise.
Across: play to 120 steps, scales +-5 %, pixels +-2 %, a turned camera, scatter, over a
target of crossed lines whose certificate is off by its own uncertainty.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.line_camera import LineCamera
from bench.quick_instrument import QuickInstrument, make_instrument, make_specimen
from bifocus.calib.step_result import Bench
from bifocus.clock import VirtualClock
from bifocus.config import Instrument
from bifocus.hal.virtual_stage import VirtualStage
from bifocus.stage_config import VirtualStageConfig
from bifocus.transfer import Light

# The same wavelength and sampling for all: a pixel is what Nyquist asks of NA 0.75.
_GREEN_UM, _PIXEL_UM, _REFERENCE_NA = 0.53, 0.25, 0.75
_MOTOR_UM = 0.05
_MOTOR_XY_UM = 0.1
_FINE_XY_UM = 0.02  # as of a servo's encoder: far below what the stage repeats to
_MOST_PLAY_STEPS = 120
_MOST_TILT_MRAD = 5.0
_PITCH_UM, _CERTIFICATE_UM = 6.0, 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """What was drawn for one instrument along z."""

    na: float
    spherical_waves: float
    condenser: float
    backlash_um: float
    scale: float
    repeatability_um: float
    drift_um_per_hour: float
    half_spacing_um: float
    tilt_mrad: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What has happened to a drawn instrument since; its file does not know."""

    noise_seed: int | None = None
    focus_um: float = 0.0
    play: float = 1.0
    na: float | None = None


def draw_instrument(
    seed: int, *, side_px: int = 64, change: Change | None = None, **fixed: Any
) -> tuple[QuickInstrument, Drawn]:
    """Draw an instrument; `fixed` overrides what is drawn, by the names of `Drawn`."""
    change = change or Change()
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
            "tilt_mrad": _draw_tilt_mrad(seed),
            **fixed,
        }
    )
    # Relief: over a small field little more than a few layers.
    heights_um = np.linspace(-0.5, 0.5, 3) * float(rng.uniform(0, 1))
    specimen = make_specimen(
        side_px=side_px,
        pixel_um=_PIXEL_UM * _REFERENCE_NA / na,
        heights_um=tuple((heights_um + change.focus_um).tolist()),
        tilt_mrad=drawn.tilt_mrad,
        seed=seed,
    )
    quick = make_instrument(
        specimen=specimen,
        light=Light(condenser=drawn.condenser, spherical_waves=drawn.spherical_waves),
        na=na,
        true_na=change.na,
        seed=seed if change.noise_seed is None else change.noise_seed,
        mechanics={
            "backlash_um": (0.0, 0.0, change.play * drawn.backlash_um),
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


def _draw_tilt_mrad(seed: int) -> tuple[float, float]:
    rng = np.random.default_rng([seed, 0x711])
    length, angle = rng.uniform(0, _MOST_TILT_MRAD), rng.uniform(0, 2 * np.pi)
    return float(length * np.cos(angle)), float(length * np.sin(angle))


def draw_over_graticule(
    seed: int, *, side_px: int = 96
) -> tuple[Bench, dict[str, float]]:
    """Draw an instrument over a graticule; return it, and the truth of its values."""
    rng = np.random.default_rng([seed, 0xC0FE])
    gaps_um = rng.uniform(0, _MOTOR_XY_UM * _MOST_PLAY_STEPS, 2)
    scales = rng.uniform(0.95, 1.05, 2)
    truth = {
        "pixel_um": _PIXEL_UM * float(rng.uniform(0.98, 1.02)),
        "scale_x": float(scales[0]),
        "scale_y": float(scales[1]),
        "rotation_mrad": float(rng.uniform(-20, 20)),
        "backlash_x_um": float(gaps_um[0]),
        "backlash_y_um": float(gaps_um[1]),
    }
    scatter_um = float(rng.uniform(0, 0.2))
    step_um = float(rng.choice([_FINE_XY_UM, _MOTOR_XY_UM]))
    config = _over_graticule(seed, side_px, truth, scatter_um, step_um)
    clock = VirtualClock()
    assert isinstance(config.stage, VirtualStageConfig)
    stage = VirtualStage(config.stage, clock=clock, seed=seed)
    pitch_um = _PITCH_UM + float(rng.normal(0, _CERTIFICATE_UM))
    camera = LineCamera(stage, config, clock=clock, pitch_um=pitch_um, seed=seed)
    region_um = (380.0, 310.0, 224.0, 168.0)
    bench = Bench(
        stage=stage, camera=camera, clock=clock, config=config, region_um=region_um
    )
    return bench, truth


def _over_graticule(
    seed: int,
    side_px: int,
    truth: dict[str, float],
    scatter_um: float,
    step_um: float,
) -> Instrument:
    return Instrument.model_validate(
        {
            "version": 1,
            "name": "instrument over a graticule",
            "seed": seed,
            "clock": "virtual",
            "optics": {"na": _REFERENCE_NA, "pixel_um": _PIXEL_UM},
            "stage": {
                "kind": "virtual",
                "x_um": (0.0, 1000.0),
                "y_um": (0.0, 800.0),
                "z_um": (0.0, 300.0),
                "speed_um_per_s": (2000.0, 2000.0, 500.0),
                "acceleration_um_per_s2": (20000.0, 20000.0, 5000.0),
                "step_um": (step_um, step_um, _MOTOR_UM),
                "settle_s": 0.1,
                "take_up_um": (6.0, 6.0, 4.0),
                "mechanics": {
                    "backlash_um": (
                        *(truth[f"backlash_{axis}_um"] for axis in "xy"),
                        0.0,
                    ),
                    "scale": (truth["scale_x"], truth["scale_y"], 1.0),
                    "repeatability_um": (scatter_um, scatter_um, 0.0),
                },
            },
            "camera": {"kind": "virtual", "width_px": side_px, "height_px": side_px},
            "virtual_slide": {"tissue": "procedural"},
            "virtual_optics": {
                key: truth[key] for key in ("pixel_um", "rotation_mrad")
            },
            "calibration": {
                "graticule": {"pitch_um": _PITCH_UM, "u_um": _CERTIFICATE_UM}
            },
        }
    )
