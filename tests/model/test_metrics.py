"""Metrics against closed forms, scikit-image and the published arithmetic."""

from typing import Any

import numpy as np
import pytest
from skimage import metrics

from bifocus.focal_offset import PairOptics
from bifocus.model.evaluation_pair import EvaluationPair
from bifocus.model.metrics import (
    bootstrap_interval,
    gain_by_bin,
    gaussian_weights,
    grid_means,
    harm_rate,
    identity_mask,
    psnr_db,
    reblur_ratio,
    ssim,
    three_means,
)
from tests.imaging import MATCHED, UInt8, shoot_incoherent
from tests.tissue import procedural_tissue

PUBLIC: Any = metrics  # untyped


@pytest.fixture(scope="module")
def two_pictures() -> tuple[UInt8, UInt8]:
    rng = np.random.default_rng(1)
    first = np.rint(255 * procedural_tissue(96, 1)).astype(np.uint8)
    noisy = first + rng.normal(0, 6, first.shape)
    return first, np.rint(np.clip(noisy, 0, 255)).astype(np.uint8)


def test_psnr_is_that_of_scikit_image(two_pictures: tuple[UInt8, UInt8]) -> None:
    first, second = two_pictures
    inner = (slice(24, -24), slice(24, -24))
    expected = PUBLIC.peak_signal_noise_ratio(
        first[inner], second[inner], data_range=255
    )
    assert psnr_db(second, first) == pytest.approx(expected, abs=1e-9)


def test_equal_pictures_have_the_psnr_of_rounding() -> None:
    picture = np.zeros((60, 60, 3), dtype=np.uint8)
    assert psnr_db(picture, picture) == pytest.approx(10 * np.log10(12 * 255**2))


def test_ssim_is_that_of_scikit_image(two_pictures: tuple[UInt8, UInt8]) -> None:
    first, second = two_pictures
    expected = PUBLIC.structural_similarity(
        first,
        second,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        channel_axis=2,
        data_range=255,
    )
    assert ssim(second, first, margin_px=0) == pytest.approx(expected, abs=1e-6)


def test_gaussian_mean_of_a_quadratic_is_its_variance() -> None:
    offset_um = np.asarray(np.arange(-6, 6.01, 0.5), dtype=np.float64)
    weights = gaussian_weights(offset_um)
    # The trapezoidal rule is exact to 1e-15 for a Gaussian at this step.
    assert weights @ offset_um**2 == pytest.approx(1, abs=1e-6)


def test_two_identity_cells_lift_the_mean_as_in_the_paper() -> None:
    # network.md section 0: cells of 48.35 dB at n = +-0.5 turn 38.99 into 42.29.
    offsets = np.arange(-3, 3.01, 0.5)
    cells = {float(n): 48.35 if abs(n) == 0.5 else 38.99 for n in offsets}
    means = grid_means(cells, 0.5)
    assert means["non_identity"] == pytest.approx(38.99)
    assert means["identity"] == pytest.approx(48.35)
    assert means["all"] == pytest.approx(42.29, abs=0.01)


def test_identity_is_within_a_tenth_of_a_micrometre() -> None:
    offset_um = np.array([0.75, -0.84, 0.86, 0.0])
    mask = identity_mask(offset_um, np.full(4, 0.75))
    assert mask.tolist() == [True, True, False, False]


def test_three_means_of_an_absent_kind_are_none() -> None:
    means = three_means(np.array([1.0, 3.0]), np.array([False, False]))
    assert means == {"all": 2.0, "non_identity": 2.0, "identity": None}


def test_harm_counts_losses_over_a_tenth_of_a_decibel() -> None:
    assert harm_rate(np.array([-0.11, -0.09, 0, 5])) == 0.25


def test_bins_hold_every_tile_once() -> None:
    nearer_um = np.array([0.0, 0.25, 0.6, 9.0])
    rows = gain_by_bin(nearer_um, np.array([1.0, 2.0, 3.0, 4.0]))
    assert [row["count"] for row in rows] == [1, 1, 1, 0, 0, 1]
    assert rows[3]["gain_db"] is None
    assert rows[-1]["to_um"] is None


def test_interval_by_slide_is_wider_than_by_tile() -> None:
    rng = np.random.default_rng(0)
    level = np.repeat(rng.normal(size=8), 25)
    values = level + 0.1 * rng.normal(size=200)
    by_slide = bootstrap_interval(values, [str(i // 25) for i in range(200)], rng)
    by_tile = bootstrap_interval(values, [str(i) for i in range(200)], rng)
    assert by_slide is not None
    assert by_tile is not None
    assert by_slide[1] - by_slide[0] > 2 * (by_tile[1] - by_tile[0])


def test_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(200):
        values = rng.normal(size=40)
        found = bootstrap_interval(
            values, [str(i) for i in range(40)], rng, n_resamples=300
        )
        assert found is not None
        hits += found[0] <= 0 <= found[1]
    # 95 %, less the known shortfall of the percentile bootstrap; sd of the share 1.6 %.
    assert 0.88 <= hits / 200 <= 0.99


def test_one_slide_gives_no_interval() -> None:
    rng = np.random.default_rng(0)
    assert bootstrap_interval(np.array([1.0, 2.0]), ["a", "a"], rng) is None


def test_reblurred_truth_explains_the_shots_and_a_shot_does_not() -> None:
    shot = shoot_incoherent(
        procedural_tissue(160, 5), 0.3, 0.75, MATCHED, np.random.default_rng(0)
    )
    pair = EvaluationPair(
        minus=shot.minus,
        plus=shot.plus,
        truth=shot.truth,
        optics=PairOptics(na=0.75, pixel_um=0.25, half_spacing_um=0.75),
        offset_um=0.3,
        half_spacing_um=0.75,
        slide_id="s",
        source="t",
    )
    # The noise estimate itself reads 7 % low (tests/root/test_sharpness.py).
    assert reblur_ratio(pair.truth, pair) < 1.5
    assert reblur_ratio(pair.minus, pair) > 2 * reblur_ratio(pair.truth, pair)
