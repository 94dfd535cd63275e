"""Aberrated instruments: what fitted optics gain over ideal ones on held-out fields.

A small piece of `python -m bench.calibrated_optics --drawn`: the optics are fitted to
stacks of small periodic fields, and tried on pairs that the virtual camera takes of
another tissue.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from bench.na_coverage import DrawnOptics, fit_drawn
from bench.optics_instruments import (
    CALIBRATED_ON,
    NAMED,
    Hidden,
    draw_hidden,
    make_instrument,
)
from bench.optics_scores import Score, held_out_pairs, make_meters, score
from bifocus.calibrated_optics import CalibratedOptics
from bifocus.hal.open_instrument import open_instrument

# Two of the bench's named ones, and the first three drawn whose spherical aberration
# exceeds a tenth of a wave.
INSTRUMENTS = (
    NAMED["NA 0.68, spherical +0.15"],
    NAMED["condenser 0.7, phase 0.3, spherical +0.15"],
    *(draw_hidden(seed) for seed in (0, 2, 3)),
)
PAIRS, SIDE_PX = 3, 256
KINDS = ("ideal", "fitted", "true")


def calibrate(hidden: Hidden, seed: int) -> CalibratedOptics:
    fit = fit_drawn(
        DrawnOptics(
            na=hidden.na,
            light=hidden.optics.light,
            z_scale=hidden.z_scale,
            scatter_um=hidden.repeatability_um,
            half_depth_um=0.1,
            full_well_e=hidden.full_well_e,
        ),
        seed,
    )
    return CalibratedOptics(
        na=fit.values["na"],
        light=fit.light,
        chromatic_um=fit.chromatic_um,
        z_scale=fit.values["z_scale"],
    )


@lru_cache(maxsize=1)
def scores() -> tuple[dict[str, Score], ...]:
    found = []
    for seed, hidden in enumerate(INSTRUMENTS):
        assert abs(hidden.spherical_waves) >= 0.1
        config = make_instrument(hidden, CALIBRATED_ON, seed, side_px=SIDE_PX)
        with open_instrument(config, base_dir=Path()) as instrument:
            assert instrument.truth is not None
            rng = np.random.default_rng(seed)
            pairs = held_out_pairs(instrument.truth, hidden, PAIRS, rng)
        meters = make_meters(config.optics, hidden, calibrate(hidden, seed))
        found.append({kind: score(meters[kind], pairs) for kind in KINDS})
    return tuple(found)


def mean_psnr_db(kind: str) -> float:
    return float(np.mean([one[kind].psnr_db for one in scores()]))


@pytest.mark.slow
def test_fitted_optics_gain_seven_tenths_of_a_decibel() -> None:
    assert mean_psnr_db("fitted") >= mean_psnr_db("ideal") + 0.7


@pytest.mark.slow
def test_the_error_of_the_offset_halves() -> None:
    fitted, ideal = (
        sum(one[kind].offset_error_um for one in scores())
        for kind in ("fitted", "ideal")
    )
    assert fitted <= 0.5 * ideal


@pytest.mark.slow
def test_little_is_left_that_the_true_optics_would_gain() -> None:
    assert mean_psnr_db("fitted") >= mean_psnr_db("true") - 0.1
