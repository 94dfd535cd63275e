"""Dark channel deblurring: its parts against definitions, the whole on a known blur."""

import numpy as np
import pytest

from bifocus.model.blind_kernel import (
    BlindSettings,
    difference,
    difference_adjoint,
    estimate_kernel,
    estimate_kernel_by_scales,
    gradient_power,
    inverse,
    kernel_otf,
    restore_tv,
    tidy_kernel,
)
from bifocus.model.dark_channel import (
    DARK_WEIGHT,
    assign_dark_channel,
    dark_channel,
    deblur_dark_channel,
    sharpen_dark,
)
from bifocus.model.metrics import psnr_db
from tests.model.blurred_boxes import blurred_boxes, disc_kernel, overlap

RNG = np.random.default_rng(4)


def test_dark_channel_is_the_minimum_of_its_window() -> None:
    picture = RNG.random((12, 14))
    dark = dark_channel(picture, window_px=3)
    assert dark[5, 6] == picture[4:7, 5:8].min()


def test_only_the_darkest_pixels_below_the_threshold_vanish() -> None:
    picture = np.full((80, 80), 0.8)
    picture[40, 40], picture[41, 41] = 0.01, 0.02
    # lambda / beta = 0.0025: the threshold is a value of 0.05.
    assigned = assign_dark_channel(picture, DARK_WEIGHT / 0.0025)
    assert assigned[40, 40] == 0
    # Below the threshold as well, but never the darkest of a window.
    assert assigned[41, 41] in (0.0, 0.02)
    assert assigned[10, 10] == 0.8


def test_blur_raises_the_dark_channel() -> None:
    blurred, sharp = blurred_boxes(disc_kernel(3.0))
    grey = [np.asarray(p[..., 1], dtype=np.float64) / 255 for p in (blurred, sharp)]
    assert dark_channel(grey[0]).mean() > dark_channel(grey[1]).mean()


def test_difference_and_its_adjoint() -> None:
    first, second = RNG.random((2, 8, 10))
    for axis in range(2):
        forward = (difference(first, axis) * second).sum()
        backward = (first * difference_adjoint(second, axis)).sum()
        assert forward == pytest.approx(backward)


def test_gradient_power_is_that_of_the_differences() -> None:
    picture = RNG.random((8, 10))
    energy = sum(difference_adjoint(difference(picture, a), a) for a in range(2))
    spectrum = np.fft.rfft2(picture) * gradient_power(picture.shape)
    np.testing.assert_allclose(inverse(spectrum, picture.shape), energy, atol=1e-12)


def test_kernel_is_found_when_the_sharp_picture_is_known() -> None:
    kernel = disc_kernel(3.0)
    sharp = RNG.random((64, 64))
    spectrum = np.fft.rfft2(sharp) * kernel_otf(kernel, sharp.shape)
    blurred = inverse(spectrum, sharp.shape)
    found = estimate_kernel(blurred, sharp, 15, 1e-6)
    assert overlap(found, kernel) > 0.999


def test_tidy_kernel_is_a_centred_share() -> None:
    kernel = np.zeros((9, 9))
    kernel[1, 2], kernel[1, 3], kernel[8, 8], kernel[5, 5] = 1, 1, 0.1, -2
    tidy = tidy_kernel(kernel)
    assert tidy.sum() == pytest.approx(1)
    assert tidy.min() >= 0
    assert tidy[4].sum() == pytest.approx(1)


def test_restoring_with_the_true_kernel_sharpens() -> None:
    kernel = disc_kernel(3.0)
    blurred, sharp = blurred_boxes(kernel)
    grey = blurred[..., 1] / 255.0
    restored = np.rint(255 * np.clip(restore_tv(grey, kernel, 0.002), 0, 1))
    truth = np.repeat(sharp[..., 1:2], 3, axis=2)
    before = psnr_db(np.repeat(blurred[..., 1:2], 3, axis=2), truth)
    after = psnr_db(np.repeat(restored[..., None].astype(np.uint8), 3, axis=2), truth)
    assert after > before + 2


@pytest.mark.slow
def test_a_known_blur_is_undone_blindly() -> None:
    kernel = disc_kernel(3.0)
    blurred, sharp = blurred_boxes(kernel)
    found = estimate_kernel_by_scales(
        blurred[..., 1] / 255.0, sharpen_dark, BlindSettings()
    )
    assert overlap(found, kernel) > 0.85
    assert psnr_db(deblur_dark_channel(blurred), sharp) > psnr_db(blurred, sharp) + 2
