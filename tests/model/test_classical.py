"""Classical baselines: exact cases, and that those told the truth gain by it."""

from dataclasses import replace

import numpy as np
import pytest

from bifocus.focal_offset import PairOptics
from bifocus.model.classical import (
    BASELINES,
    fuse_laplacian,
    fuse_mean,
    fuse_richardson_lucy,
    fuse_sharper,
    fuse_wiener_one_shot,
    fuse_wiener_oracle,
    fuse_wiener_two_shots,
    measure_physics_offset_um,
)
from bifocus.model.evaluation_pair import EvaluationPair, Method
from bifocus.model.metrics import psnr_db
from tests.imaging import MATCHED, shoot_incoherent
from tests.tissue import procedural_tissue

# Multiples of the search step of bifocus.focal_offset, so that its tables are shared.
HALF_SPACING_UM = 0.75


def make_pair(offset_um: float, seed: int = 3) -> EvaluationPair:
    shot = shoot_incoherent(
        procedural_tissue(160, seed),
        offset_um,
        HALF_SPACING_UM,
        MATCHED,
        np.random.default_rng(seed),
    )
    return EvaluationPair(
        minus=shot.minus,
        plus=shot.plus,
        truth=shot.truth,
        optics=PairOptics(na=0.75, pixel_um=0.25, half_spacing_um=HALF_SPACING_UM),
        offset_um=offset_um,
        half_spacing_um=HALF_SPACING_UM,
        slide_id="procedural",
        source="test",
    )


@pytest.fixture(scope="module")
def pair() -> EvaluationPair:
    return make_pair(0.3)


def quality(method: Method, pair: EvaluationPair) -> float:
    return psnr_db(method(pair), pair.truth)


def test_sharper_is_the_nearer_shot(pair: EvaluationPair) -> None:
    np.testing.assert_array_equal(fuse_sharper(pair), pair.plus)


def test_mean_of_equal_shots_is_the_shot(pair: EvaluationPair) -> None:
    same = replace(pair, minus=pair.plus)
    np.testing.assert_array_equal(fuse_mean(same), pair.plus)


def test_stack_of_equal_shots_is_the_shot(pair: EvaluationPair) -> None:
    same = replace(pair, minus=pair.plus)
    difference = fuse_laplacian(same).astype(int) - pair.plus
    assert np.abs(difference).max() <= 1


def test_stack_takes_each_half_from_where_it_is_sharp(pair: EvaluationPair) -> None:
    minus, plus = pair.truth.copy(), pair.truth.copy()
    minus[:, :80], plus[:, 80:] = pair.minus[:, :80], pair.minus[:, 80:]
    split = replace(pair, minus=minus, plus=plus)
    assert quality(fuse_laplacian, split) > quality(fuse_sharper, split) + 3


def test_those_told_the_offset_gain_by_it(pair: EvaluationPair) -> None:
    sharper = quality(fuse_sharper, pair)
    one = quality(fuse_wiener_one_shot, pair)
    two = quality(fuse_wiener_two_shots, pair)
    oracle = quality(fuse_wiener_oracle, pair)
    assert sharper + 0.5 < one
    assert one < two + 0.3
    assert two <= oracle
    assert quality(fuse_richardson_lucy, pair) > sharper


def test_wiener_keeps_plain_colour() -> None:
    flat = np.full((96, 96, 3), 131, dtype=np.uint8)
    pair = replace(make_pair(0.3), minus=flat, plus=flat, truth=flat)
    for method in (fuse_wiener_one_shot, fuse_wiener_two_shots, fuse_richardson_lucy):
        assert np.abs(method(pair).astype(int) - 131).max() <= 1


def test_the_pair_tells_its_offset(pair: EvaluationPair) -> None:
    # network.md section 4: 0.1 um on matched optics.
    assert measure_physics_offset_um(pair) == pytest.approx(0.3, abs=0.1)


@pytest.mark.slow
def test_every_baseline_returns_a_picture_of_the_pair(pair: EvaluationPair) -> None:
    for name, method in BASELINES.items():
        picture = method(pair)
        assert picture.dtype == np.uint8, name
        assert picture.shape == pair.truth.shape, name
