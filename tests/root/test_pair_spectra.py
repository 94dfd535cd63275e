"""Cutting into blocks loses nothing, and the statistics keep Parseval's energy."""

import numpy as np
import numpy.typing as npt
import pytest
import scipy.fft
from hypothesis import given, settings
from hypothesis import strategies as st

from bifocus.pair_spectra import (
    LARGE_BLOCKS,
    SMALL_BLOCKS,
    BlockLayout,
    PairSpectra,
    assemble,
    compute_spectra,
    fill_statistics,
    layout_for,
    radial_bins,
)
from bifocus.records import FloatImage


def random_image(shape: tuple[int, int], seed: int) -> FloatImage:
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 1, (*shape, 3)).astype(np.float32)


def put_back(pair: PairSpectra, shot: int) -> FloatImage:
    """Assemble one shot from its own spectra: every gain is 1."""
    size = pair.layout.block_px
    blocks = scipy.fft.irfft2(pair.spectra[shot], (size, size))
    blocks += pair.means[shot][..., None, None]
    return assemble(np.asarray(blocks, dtype=np.float32), pair)


@settings(deadline=None, max_examples=20)
@given(rows=st.integers(64, 330), columns=st.integers(64, 330))
def test_unfiltered_blocks_give_the_image_back(rows: int, columns: int) -> None:
    minus, plus = (random_image((rows, columns), seed) for seed in (0, 1))
    pair = compute_spectra(minus, plus)
    np.testing.assert_allclose(put_back(pair, 0), minus, atol=1e-4)
    np.testing.assert_allclose(put_back(pair, 1), plus, atol=1e-4)


@pytest.mark.parametrize("layout", [LARGE_BLOCKS, SMALL_BLOCKS])
def test_blocks_overlap_by_their_ramp(layout: BlockLayout) -> None:
    inner_px = layout.block_px - 2 * layout.taper_px
    assert layout.hop_px == inner_px - layout.ramp_px
    # the untapered part of the first block begins before the image does
    assert layout.margin_px >= layout.taper_px
    assert layout.counts((layout.hop_px, layout.hop_px + 1)) == (1, 2)


def test_small_images_get_small_blocks() -> None:
    assert layout_for((199, 1000)) == SMALL_BLOCKS
    assert layout_for((200, 1000)) == LARGE_BLOCKS


@pytest.mark.parametrize("block_px", [128, 256])
def test_rings_count_every_coefficient_once(block_px: int) -> None:
    bins = radial_bins(block_px)
    assert bins.count.sum() == block_px**2
    assert bins.index.shape == (block_px, block_px // 2 + 1)
    # a full-plane radius falls into the ring that its half-plane twin is in
    radius = np.hypot(*np.meshgrid(*[np.fft.fftfreq(block_px)] * 2, indexing="ij"))
    width = np.sqrt(0.5) / (block_px // 2)
    last = block_px // 2 - 1
    expected = np.bincount(
        np.minimum(radius / width, last).astype(int).ravel(), minlength=last + 1
    )
    np.testing.assert_array_equal(bins.count, expected)
    filled = bins.count > 0
    assert np.all(np.diff(bins.frequency[filled]) > 0)


def energies_in_space(pair: PairSpectra) -> tuple[npt.NDArray[np.float64], ...]:
    """|y-|^2, |y+|^2 and y- y+ summed over each block under the same Hann window."""
    size = pair.layout.block_px
    blocks = scipy.fft.irfft2(pair.spectra, (size, size)).astype(np.float64)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    minus, plus = blocks * np.outer(hann, hann)
    pairs = ((minus, minus), (plus, plus), (minus, plus))
    return tuple((left * right).sum(axis=(-2, -1)) for left, right in pairs)


@pytest.mark.parametrize("shape", [(100, 75), (256, 301)])
def test_statistics_obey_parseval(shape: tuple[int, int]) -> None:
    minus = random_image(shape, 2)
    plus = 0.5 * minus + random_image(shape, 3)
    pair = compute_spectra(minus, plus)
    fill_statistics(pair)
    in_space = np.stack(energies_in_space(pair)) * pair.layout.block_px**2
    in_rings = pair.statistics.sum(axis=-1)
    ratio = in_rings / in_space  # one number: 1 / the window's energy
    np.testing.assert_allclose(ratio, ratio.mean(), rtol=1e-3)


def test_white_noise_has_its_variance_in_every_ring() -> None:
    rng = np.random.default_rng(4)
    minus = rng.normal(0.5, 0.1, (600, 600, 3)).astype(np.float32)
    plus = (0.5 * minus + rng.normal(0.2, 0.05, minus.shape)).astype(np.float32)
    pair = compute_spectra(minus, plus)
    fill_statistics(pair)
    count = radial_bins(pair.layout.block_px).count
    rings = slice(8, -8)  # enough coefficients to average over
    level = (pair.statistics.mean(axis=(1, 2)) / np.maximum(count, 1))[:, rings]
    # var y-, var y+ = 0.25 var y- + 0.05^2, covariance = 0.5 var y-
    for row, expected in enumerate((0.01, 0.005, 0.005)):
        assert level[row].mean() == pytest.approx(expected, rel=0.02)
        np.testing.assert_allclose(level[row], expected, rtol=0.15)


def test_means_are_those_of_flat_shots() -> None:
    minus = np.full((80, 90, 3), (0.1, 0.5, 0.9), dtype=np.float32)
    pair = compute_spectra(minus, 2 * minus)
    np.testing.assert_allclose(pair.means[0], [[0.1, 0.5, 0.9]] * 2, rtol=1e-4)
    np.testing.assert_allclose(pair.means[1], 2 * pair.means[0], rtol=1e-5)
    # only the rounding of the mean itself, 3e-6 of it over 128^2 pixels, is left
    assert np.abs(pair.spectra).max() < 1e-5 * 128**2
