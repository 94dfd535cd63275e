"""What an instrument's own optics gain over ideal ones, on fields it was not tuned on.

    python bench/calibrated_optics.py            # table of all instruments
    python bench/calibrated_optics.py --quick    # two of them, fewer pairs

Each virtual instrument is calibrated (steps focus and optics) on one tissue. Pairs of
another tissue follow, at random offsets; each is fused by `physics` with three optics:
ideal ones (the file's NA, incoherent, no aberration), today's default without a profile
(the file's NA, light read from each pair), and the calibrated. PSNR in linear light
against the noise-free all-in-focus picture, and the mean error of the offset, against
the virtual instrument's truth. JSON with `--json`.
"""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bifocus.calib.focus_step import measure_focus
from bifocus.calib.optics_step import measure_optics
from bifocus.calib.step_result import Bench, StepResult
from bifocus.calibrated_optics import CalibratedOptics
from bifocus.config import Instrument
from bifocus.edge.pair_meter import PairMeter
from bifocus.hal.open_instrument import open_instrument
from bifocus.hal.virtual_truth import VirtualTruth
from bifocus.physics_fusion import fuse_measured
from bifocus.records import UInt8Image
from bifocus.transfer import INCOHERENT

HALF_SPACING_UM = 0.75
SIDE_PX = 512
BORDER_PX = 16
CALIBRATED_ON = "procedural:1100x1100"
HELD_OUT = "demo"
REGION_UM = (-96.0, -96.0, 192.0, 192.0)

INSTRUMENTS: dict[str, dict[str, Any]] = {
    "spherical +0.10": {"spherical_waves": 0.10},
    "spherical +0.25": {"spherical_waves": 0.25},
    "spherical -0.20": {"spherical_waves": -0.20},
    "NA 0.68": {"na": 0.68},
    "NA 0.68, spherical +0.15": {"na": 0.68, "spherical_waves": 0.15},
    "condenser 0.6, phase 0.3": {"condenser": 0.6, "phase_ratio": 0.3},
    "condenser 0.7, phase 0.3, spherical +0.15": {
        "condenser": 0.7,
        "phase_ratio": 0.3,
        "spherical_waves": 0.15,
    },
    "spherical +0.15, colours +0.3 / -0.2 um": {
        "spherical_waves": 0.15,
        "chromatic_um": (0.3, 0.0, -0.2),
    },
    "ideal": {},
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Of one kind of optics on one instrument, means over the pairs."""

    psnr_db: float
    offset_error_um: float


def make_instrument(hidden: dict[str, Any], tissue: str, seed: int) -> Instrument:
    """Return the instrument file: NA 0.75, 0.25 um/px, and what it hides."""
    virtual = {key: hidden[key] for key in hidden if key != "chromatic_um"}
    side_um = {"procedural:1100x1100": 137.5}.get(tissue, 300.0)
    document = {
        "version": 1,
        "name": "optics bench",
        "seed": seed,
        "clock": "virtual",
        "optics": {"na": 0.75, "pixel_um": 0.25},
        "stage": {
            "kind": "virtual",
            "x_um": (-2000.0, 2000.0),
            "y_um": (-2000.0, 2000.0),
            "z_um": (-50.0, 50.0),
            "speed_um_per_s": (2000.0, 2000.0, 500.0),
            "acceleration_um_per_s2": (20000.0, 20000.0, 5000.0),
            "step_um": (0.1, 0.1, 0.05),
            "take_up_um": (6.0, 6.0, 4.0),
            "mechanics": {
                "backlash_um": (5.0, 5.0, 3.0),
                "repeatability_um": (0.1, 0.1, 0.02),
            },
        },
        "camera": {"kind": "virtual", "width_px": SIDE_PX, "height_px": SIDE_PX},
        "virtual_slide": {
            "tissue": tissue,
            "x_um": -side_um,
            "y_um": -side_um,
            "relief_um": 0.3,
            "relief_period_um": 150.0,
            "chromatic_um": hidden.get("chromatic_um", (0.0, 0.0, 0.0)),
        },
        "virtual_optics": virtual,
        "calibration": {"z_start_um": -2.0, "coarse_range_um": 16.0},
        "scan": {"half_spacing_um": HALF_SPACING_UM},
    }
    return Instrument.model_validate(document)


def calibrate_optics(config: Instrument) -> tuple[CalibratedOptics, StepResult]:
    """Run the two steps on an instrument; nothing hidden is looked at."""
    with open_instrument(config, base_dir=Path()) as instrument:
        bench = Bench(
            stage=instrument.stage,
            camera=instrument.camera,
            clock=instrument.clock,
            config=config,
            region_um=REGION_UM,
        )
        focus = measure_focus(bench, {})
        result = measure_optics(bench, {"focus": focus})
    return CalibratedOptics.from_dict(result.facts["calibrated_optics"]), result


def held_out_pairs(
    truth: VirtualTruth, count: int, rng: np.random.Generator
) -> list[tuple[UInt8Image, UInt8Image, UInt8Image, float]]:
    """Return minus, plus, in-focus truth and true offset of pairs of other fields."""
    pairs = []
    for _ in range(count):
        x_um, y_um = map(float, rng.uniform(-90, 90, 2))
        offset_um = float(np.clip(rng.normal(0, 0.8), -2, 2))
        middle_um = truth.mean_focus_um(x_um, y_um) - offset_um
        shots = []
        for side in (-1, 1):
            # Each shot scatters as the stage does.
            z_um = middle_um + side * HALF_SPACING_UM + float(rng.normal(0, 0.02))
            light = truth.renderer.render(x_um, y_um, z_um)
            shots.append(truth.sensor.expose(light, rng))
        clean = truth.encode(truth.render_truth(x_um, y_um))
        pairs.append((shots[0], shots[1], clean, offset_um))
    return pairs


def score(
    meter: PairMeter, pairs: Sequence[tuple[UInt8Image, UInt8Image, UInt8Image, float]]
) -> Score:
    """Fuse all pairs."""
    errors_db, errors_um = [], []
    for minus, plus, clean, offset_um in pairs:
        fused = fuse_measured(meter.measure(minus, plus))
        inner = np.s_[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX]
        difference = fused.pixels[inner].astype(float) - clean[inner]
        errors_db.append(10 * np.log10(255**2 / np.mean(difference**2)))
        errors_um.append(abs(fused.offset.offset_um - offset_um))
    return Score(
        psnr_db=float(np.mean(errors_db)), offset_error_um=float(np.mean(errors_um))
    )


def compare(hidden: dict[str, Any], n_pairs: int, seed: int = 5) -> dict[str, Any]:
    """Calibrate one instrument and score the three optics on other fields."""
    calibrated, result = calibrate_optics(make_instrument(hidden, CALIBRATED_ON, seed))
    config = make_instrument(hidden, HELD_OUT, seed + 1)
    rng = np.random.default_rng(seed)
    with open_instrument(config, base_dir=Path()) as instrument:
        assert instrument.truth is not None
        pairs = held_out_pairs(instrument.truth, n_pairs, rng)
    meters = {
        name: PairMeter(config.optics, HALF_SPACING_UM, optics)
        for name, optics in (("default", None), ("calibrated", calibrated))
    }
    ideal = PairMeter(config.optics, HALF_SPACING_UM)
    ideal.optics = dataclasses.replace(ideal.optics, light=INCOHERENT)
    scores = {
        name: dataclasses.asdict(score(meter, pairs))
        for name, meter in {"ideal": ideal, **meters}.items()
    }
    found = {
        name: (round(value.value, 4), round(value.standard_uncertainty, 4))
        for name, value in result.values.items()
    }
    return {"hidden": hidden, "found": found, "scores": scores}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", help="instruments whose name contains this")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    names = list(INSTRUMENTS)
    if options.quick:
        names, options.pairs = names[1::5], 6
    if options.only:
        names = [name for name in names if options.only in name]
    if options.json:
        rows = {name: compare(INSTRUMENTS[name], options.pairs) for name in names}
        print(json.dumps(rows, indent=1))
        return
    print(f"{'':44s} {'PSNR [dB]':^26s}   {'offset error [um]':^24s}")
    print(f"{'instrument':44s} {'ideal':>8s} {'default':>8s} {'fitted':>8s}   ", end="")
    print(f"{'ideal':>7s} {'default':>8s} {'fitted':>7s}  gain [dB]  error ratio")
    for name in names:
        print_row(name, compare(INSTRUMENTS[name], options.pairs))


def print_row(name: str, row: dict[str, Any]) -> None:
    """Print one instrument; gain and ratio are fitted against ideal."""
    ideal, default, fitted = (
        Score(**row["scores"][kind]) for kind in ("ideal", "default", "calibrated")
    )
    print(
        f"{name:44s} {ideal.psnr_db:8.2f} {default.psnr_db:8.2f} "
        f"{fitted.psnr_db:8.2f}   {ideal.offset_error_um:7.3f} "
        f"{default.offset_error_um:8.3f} {fitted.offset_error_um:7.3f}  "
        f"{fitted.psnr_db - ideal.psnr_db:+8.2f}  "
        f"{fitted.offset_error_um / ideal.offset_error_um:8.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
