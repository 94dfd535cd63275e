"""Colours fused together: against linear algebra, Gaussian theory, rendered pairs."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bifocus.block_fusion import Colours
from bifocus.focal_offset import PairOptics
from bifocus.joint_colours import (
    COLOUR_PAIRS,
    LARGEST_CORRELATION,
    limit_correlation,
    solve_mixing,
)
from bifocus.physics_fusion import fuse_measured, fuse_two_shots, measure_pair
from tests.imaging import (
    FOREIGN,
    MATCHED,
    RenderedPair,
    psnr_db,
    shoot_incoherent,
    shoot_partially_coherent,
)
from tests.tissue import Float64, procedural_tissue, real_crops

HALF_SPACING_UM = 16 * 0.05 * 0.53 / 0.75**2
OPTICS = PairOptics(na=0.75, pixel_um=0.25, half_spacing_um=HALF_SPACING_UM)
Float32 = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


def draw_rings(seed: int, count: int = 40) -> tuple[Float64, Float32, Float32, Float32]:
    """Return S (bins, 3, 3), d, S's diagonal and h0 (3, bins) of random rings."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(count, 3, 3)) + 1.5 * rng.normal(size=(count, 3, 1))
    covariance = root @ root.transpose(0, 2, 1)
    signal = np.diagonal(covariance, axis1=1, axis2=2).T.astype(np.float32)
    precision = np.exp(rng.normal(0, 1.5, (3, count))).astype(np.float32)
    focus = rng.uniform(0.2, 1, (3, count)).astype(np.float32)
    return covariance, precision, signal, focus


def correlation_of(covariance: Float64) -> Float32:
    return np.stack(
        [
            covariance[:, one, two]
            / np.sqrt(covariance[:, one, one] * covariance[:, two, two])
            for one, two in COLOUR_PAIRS
        ]
    ).astype(np.float32)


@pytest.mark.parametrize("seed", range(4))
def test_mixing_is_the_matrix_formula(seed: int) -> None:
    covariance, precision, signal, focus = draw_rings(seed)
    mixing = solve_mixing(correlation_of(covariance), precision, signal, focus)
    told = np.eye(3) + precision.T[:, :, None] * covariance
    expected = focus.T[:, :, None] * covariance @ np.linalg.inv(told)
    np.testing.assert_allclose(mixing, expected.transpose(1, 2, 0), atol=2e-4)


def test_unrelated_colours_are_filtered_each_by_itself() -> None:
    _, precision, signal, focus = draw_rings(7)
    mixing = solve_mixing(np.zeros_like(signal), precision, signal, focus)
    for one, two in ((0, 1), (1, 2), (2, 0)):
        np.testing.assert_array_equal(mixing[one, two], 0)
        alone = focus[one] * signal[one] / (1 + precision[one] * signal[one])
        np.testing.assert_allclose(mixing[one, one], alone, rtol=1e-4)


def test_error_is_what_gaussian_theory_leaves() -> None:
    """Posterior covariance (S^-1 + D)^-1 (Gauss and Markov), by drawing objects."""
    covariance, precision, signal, _ = draw_rings(3, count=1)
    one = np.ones_like(signal)
    mixing = solve_mixing(correlation_of(covariance), precision, signal, one)[..., 0]
    rng = np.random.default_rng(1)
    d = precision[:, 0].astype(np.float64)
    objects = rng.multivariate_normal(np.zeros(3), covariance[0], 200_000)
    told = objects * d + rng.normal(size=objects.shape) * np.sqrt(d)
    left = (told @ mixing.T.astype(np.float64) - objects).var(axis=0)
    expected = np.diag(np.linalg.inv(np.linalg.inv(covariance[0]) + np.diag(d)))
    np.testing.assert_allclose(left, expected, rtol=0.02)


@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3))
def test_limited_correlations_belong_to_an_object(found: list[float]) -> None:
    covariance = np.array(found, dtype=np.float32)[:, None]
    first, second, third = limit_correlation(covariance, np.ones((3, 1), np.float32))
    matrix = np.array(
        [
            [1, first[0], second[0]],
            [first[0], 1, third[0]],
            [second[0], third[0], 1],
        ]
    )
    assert np.linalg.eigvalsh(matrix).min() > 0
    assert np.abs([first, second]).max() <= LARGEST_CORRELATION + 1e-6


def fused_db(pair: RenderedPair, colours: Colours) -> float:
    measured = measure_pair(pair.minus, pair.plus, OPTICS)
    fused = fuse_measured(measured, colours=colours).pixels
    return psnr_db(fused, pair.truth)


@pytest.mark.slow
def test_real_tissue_gains_from_its_other_colours(data_dir: Path) -> None:
    gains = []
    for number, tissue in enumerate(real_crops(data_dir, 8, 224, seed=7)):
        rng = np.random.default_rng(number)
        offset_um = float(np.clip(rng.normal(), -2, 2))
        pair = shoot_partially_coherent(
            tissue, offset_um, HALF_SPACING_UM, FOREIGN, rng
        )
        together = fused_db(pair, "together")
        assert together > psnr_db(pair.sharper, pair.truth) - 0.1
        gains.append(together - fused_db(pair, "apart"))
    assert np.mean(gains) > 0.3
    assert min(gains) > -0.3


def test_three_strangers_lose_nothing_to_each_other() -> None:
    """Colours that have nothing in common: no gain is there to be had, nor a loss."""
    colours = [procedural_tissue(224, seed)[..., 1] for seed in (31, 32, 33)]
    tissue = np.stack(colours, axis=-1)
    rng = np.random.default_rng(2)
    pair = shoot_incoherent(tissue, 0.3, HALF_SPACING_UM, MATCHED, rng)
    assert fused_db(pair, "together") > fused_db(pair, "apart") - 0.1


@pytest.mark.parametrize("side", [-1, 1])
def test_a_shot_that_is_the_truth_comes_back(side: int) -> None:
    tissue = procedural_tissue(256, 3)
    pair = shoot_incoherent(
        tissue, side * HALF_SPACING_UM, HALF_SPACING_UM, MATCHED, None
    )
    result = fuse_two_shots(pair.minus, pair.plus, OPTICS, colours="together")
    assert psnr_db(result.pixels, pair.truth) >= 45


def test_noise_alone_is_smoothed_and_not_sharpened() -> None:
    rng = np.random.default_rng(4)
    blank = np.full((224, 224, 3), 200.0)
    shots = [
        np.rint(blank + rng.normal(0, 2, blank.shape)).astype(np.uint8) for _ in "12"
    ]
    fused = fuse_two_shots(shots[0], shots[1], OPTICS, colours="together").pixels
    assert fused.std() < shots[0].std()
    assert abs(float(fused.mean()) - 200) < 0.2
