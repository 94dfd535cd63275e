"""Held-out pairs of one instrument, fused with ideal, default, fitted, true optics."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.optics_instruments import (
    CALIBRATED_ON,
    GREEN_UM,
    HELD_OUT,
    Hidden,
    make_instrument,
)
from bifocus.calib.focus_step import measure_focus
from bifocus.calib.optics_step import measure_optics
from bifocus.calib.step_result import Bench, StepResult
from bifocus.calibrated_optics import CalibratedOptics
from bifocus.config import Instrument, Optics
from bifocus.edge.pair_meter import PairMeter
from bifocus.hal.open_instrument import open_instrument
from bifocus.hal.virtual_truth import VirtualTruth
from bifocus.physics_fusion import fuse_measured
from bifocus.records import UInt8Image
from bifocus.transfer import INCOHERENT

BORDER_PX = 16
KINDS = ("ideal", "default", "fitted", "true")
# Offsets of held-out pairs, in lambda / NA^2: as tiles of a slide lie about F.
_OFFSET_SD, _MOST_OFFSET = 0.85, 2.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A held-out pair with its truth; the offset is in the stage's um."""

    minus: UInt8Image
    plus: UInt8Image
    clean: UInt8Image
    offset_um: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Of one kind of optics on one instrument, means over the pairs."""

    psnr_db: float
    offset_error_um: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One instrument: what it hides, what was found, and the scores by `KINDS`."""

    hidden: Hidden
    found: dict[str, tuple[float, float]]
    scores: dict[str, Score]

    def gain_db(self, kind: str) -> float:
        """Return what some optics gain over ideal ones."""
        return self.scores[kind].psnr_db - self.scores["ideal"].psnr_db

    def error_units(self, kind: str) -> float:
        """Return the mean error of the offset in lambda / NA^2."""
        unit_um = GREEN_UM / self.hidden.file_na**2
        return self.scores[kind].offset_error_um / unit_um


def calibrate_optics(
    config: Instrument, hidden: Hidden
) -> tuple[CalibratedOptics, StepResult]:
    """Run the two steps on an instrument; nothing hidden is looked at."""
    with open_instrument(config, base_dir=Path()) as instrument:
        bench = Bench(
            stage=instrument.stage,
            camera=instrument.camera,
            clock=instrument.clock,
            config=config,
            region_um=hidden.region_um,
        )
        focus = measure_focus(bench, {})
        result = measure_optics(bench, {"focus": focus})
    return CalibratedOptics.from_dict(result.facts["calibrated_optics"]), result


def held_out_pairs(
    truth: VirtualTruth, hidden: Hidden, count: int, rng: np.random.Generator
) -> list[Pair]:
    """Return pairs of other fields."""
    unit_um = GREEN_UM / hidden.file_na**2
    most_um = 0.45 * hidden.region_um[2]
    pairs = []
    for _ in range(count):
        x_um, y_um = map(float, rng.uniform(-most_um, most_um, 2))
        drawn = float(np.clip(rng.normal(0, _OFFSET_SD), -_MOST_OFFSET, _MOST_OFFSET))
        focus_um = truth.mean_focus_um(x_um, y_um)
        # Each shot scatters as the stage does, and its um are the stage's.
        heights_um = [
            focus_um
            - drawn * unit_um
            + side * hidden.half_spacing_um * hidden.z_scale
            + float(rng.normal(0, hidden.repeatability_um))
            for side in (-1, 1)
        ]
        minus, plus = (
            truth.sensor.expose(truth.renderer.render(x_um, y_um, z_um), rng)
            for z_um in heights_um
        )
        pairs.append(
            Pair(
                minus=minus,
                plus=plus,
                clean=truth.encode(truth.render_truth(x_um, y_um)),
                offset_um=(focus_um - sum(heights_um) / 2) / hidden.z_scale,
            )
        )
    return pairs


def score(meter: PairMeter, pairs: Sequence[Pair]) -> Score:
    """Fuse all pairs."""
    errors_db, errors_um = [], []
    for pair in pairs:
        fused = fuse_measured(meter.measure(pair.minus, pair.plus))
        inner = np.s_[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX]
        difference = fused.pixels[inner].astype(float) - pair.clean[inner]
        errors_db.append(10 * np.log10(255**2 / np.mean(difference**2)))
        errors_um.append(abs(fused.offset.offset_um - pair.offset_um))
    return Score(
        psnr_db=float(np.mean(errors_db)), offset_error_um=float(np.mean(errors_um))
    )


def compare(
    hidden: Hidden, n_pairs: int, seed: int = 5, *, side_px: int = 512
) -> Outcome:
    """Calibrate one instrument and score the four optics on other fields."""
    file = make_instrument(hidden, CALIBRATED_ON, seed, side_px=side_px)
    fitted, result = calibrate_optics(file, hidden)
    config = make_instrument(hidden, HELD_OUT, seed + 1, side_px=side_px)
    with open_instrument(config, base_dir=Path()) as instrument:
        assert instrument.truth is not None
        rng = np.random.default_rng(seed)
        pairs = held_out_pairs(instrument.truth, hidden, n_pairs, rng)
    meters = make_meters(config.optics, hidden, fitted)
    return Outcome(
        hidden=hidden,
        found={
            name: (round(value.value, 4), round(value.standard_uncertainty, 4))
            for name, value in result.values.items()
        },
        scores={kind: score(meter, pairs) for kind, meter in meters.items()},
    )


def make_meters(
    optics: Optics, hidden: Hidden, fitted: CalibratedOptics
) -> dict[str, PairMeter]:
    """Return a meter for each of `KINDS`."""
    given = {"ideal": None, "default": None, "fitted": fitted, "true": hidden.optics}
    meters = {
        kind: PairMeter(optics, hidden.half_spacing_um, known)
        for kind, known in given.items()
    }
    ideal = meters["ideal"]
    ideal.optics = dataclasses.replace(ideal.optics, light=INCOHERENT)
    return meters
