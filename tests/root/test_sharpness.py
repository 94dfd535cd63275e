"""Focus measures against closed forms on sinusoids, and on a rendered stack."""

from collections.abc import Callable

import numpy as np
import pytest

from bifocus.records import FloatImage
from bifocus.sharpness import (
    brenner,
    is_plus_sharper,
    noise_sd,
    normalised_variance,
    tenengrad,
    to_gray,
)
from tests.imaging import MATCHED, expose, render_incoherent, shoot_incoherent
from tests.tissue import procedural_tissue

Measure = Callable[[FloatImage], float]

# Remove with the fix: the lower half of the cells is quieter than the noise is.

MEAN, AMPLITUDE = 100.0, 20.0


def cosine_image(columns: int, periods: int, period_px: float) -> FloatImage:
    """A cosine across the columns that starts on a crest."""
    assert columns > periods * period_px
    wave = MEAN + AMPLITUDE * np.cos(2 * np.pi * np.arange(columns) / period_px)
    return np.tile(wave, (32, 1)).astype(np.float32)


@pytest.mark.parametrize("period_px", [4, 8, 20, 32])
def test_brenner_of_a_sinusoid(period_px: int) -> None:
    # cos(k(x+2)) - cos(kx) = -2 sin(k(x+1)) sin k; squared, over whole periods,
    # the mean is 2 A^2 sin^2 k. Two columns more make whole periods of differences.
    image = cosine_image(10 * period_px + 2, 10, period_px)
    k = 2 * np.pi / period_px
    expected = 2 * AMPLITUDE**2 * np.sin(k) ** 2
    assert brenner(image) == pytest.approx(expected, rel=1e-4)


def test_normalised_variance_of_a_sinusoid() -> None:
    image = cosine_image(160 + 1, 10, 16)[:, :160]
    expected = AMPLITUDE**2 / 2 / MEAN
    assert normalised_variance(image) == pytest.approx(expected, rel=1e-4)
    # (g I) has variance g^2 and mean g: with another lamp only g is left
    assert normalised_variance(0.5 * image) == pytest.approx(expected / 2, rel=1e-4)
    assert normalised_variance(np.zeros((8, 8), np.float32)) == 0.0


@pytest.mark.parametrize("period_px", [8, 16, 40])
def test_tenengrad_of_a_sinusoid(period_px: int) -> None:
    # Sobel is 4 (I(x+1) - I(x-1)) = -8 A sin k sin(kx); the mirrored border adds a
    # column where sin(kx) is 0 anyway.
    columns = 10 * period_px + 1
    image = cosine_image(columns, 10, period_px)
    k = 2 * np.pi / period_px
    expected = 32 * AMPLITUDE**2 * np.sin(k) ** 2 * (columns - 1) / columns
    assert tenengrad(image) == pytest.approx(expected, rel=1e-4)
    assert tenengrad(np.ascontiguousarray(image.T)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("sd", [0.5, 3.0, 10.0])
def test_noise_sd_of_pure_noise(sd: float) -> None:
    rng = np.random.default_rng(3)
    noise = rng.normal(128, sd, (512, 640)).astype(np.float32)
    assert noise_sd(noise) == pytest.approx(sd, rel=0.05)


def test_noise_sd_ignores_a_gradient() -> None:
    rng = np.random.default_rng(4)
    ramp = np.linspace(50, 200, 512, dtype=np.float32)
    image = ramp + rng.normal(0, 2, (512, 512)).astype(np.float32)
    assert noise_sd(image) == pytest.approx(2, rel=0.05)


def test_brenner_without_its_noise_bias() -> None:
    rng = np.random.default_rng(5)
    clean = cosine_image(402, 10, 40)
    clean = np.tile(clean, (8, 1))
    sd = 8.0
    noisy = clean + rng.normal(0, sd, clean.shape).astype(np.float32)
    assert brenner(noisy) == pytest.approx(brenner(clean) + 2 * sd**2, rel=0.02)
    unbiased = brenner(noisy, noise_sd_levels=sd)
    assert unbiased == pytest.approx(brenner(clean), rel=0.1)
    assert brenner(clean, noise_sd_levels=1e3) == 0.0


@pytest.fixture(scope="module")
def stack() -> dict[float, FloatImage]:
    """Grey images of a level slice at focus 0, planes 0.4 um apart."""
    tissue = procedural_tissue(128, 1)
    planes_um = [round(0.4 * number, 6) for number in range(-5, 6)]
    return {
        plane_um: to_gray(expose(render_incoherent(tissue, 0.0, plane_um, MATCHED)))
        for plane_um in planes_um
    }


@pytest.mark.parametrize("measure", [brenner, normalised_variance, tenengrad])
def test_each_measure_peaks_at_focus(
    measure: Measure, stack: dict[float, FloatImage]
) -> None:
    curve = np.array([measure(image) for image in stack.values()])
    assert list(stack)[int(curve.argmax())] == 0.0
    # it falls off on both sides as far as there is detail, here 1.2 um
    assert np.all(np.diff(curve[2:6]) > 0)
    assert np.all(np.diff(curve[5:9]) < 0)


@pytest.mark.parametrize("offset_um", [-0.8, -0.2, 0.2, 0.8])
def test_the_shot_nearer_to_focus_is_sharper(offset_um: float) -> None:
    tissue = procedural_tissue(128, 2)
    rng = np.random.default_rng(0)
    pair = shoot_incoherent(tissue, offset_um, 0.75, MATCHED, rng)
    assert is_plus_sharper(pair.minus, pair.plus) == (offset_um > 0)


def test_gray_is_the_green_channel() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    gray = to_gray(pixels)
    assert gray.dtype == np.float32
    np.testing.assert_array_equal(gray, pixels[..., 1])
    np.testing.assert_array_equal(to_gray(pixels[..., 0]), pixels[..., 0])
