"""Blind deblurring with the dark channel prior; written from the paper's equations.

J. Pan, D. Sun, H. Pfister and M.-H. Yang, *Blind Image Deblurring Using Dark Channel
Prior*, CVPR 2016. Minimises over picture I and kernel k

    |I * k - B|^2 + gamma |k|^2 + mu |grad I|_0 + lambda |D(I)|_0

with D(I) the minimum over a window. I is found by half-quadratic splitting: u stands
for D(I) and g for grad I; both are hard-thresholded, and I solved for by FFT. Blur
raises the dark channel, so fewer dark pixels mean more blur.

Fewer steps than the authors take, a window scaled to cells, and a plain TV restoration
at the end: an honest baseline, not a tuned one, and not the authors' program.
"""

import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy.ndimage import maximum_filter, minimum_filter

from bifocus.model.blind_kernel import (
    BlindSettings,
    Float64,
    deblur_blindly,
    difference,
    difference_adjoint,
    gradient_power,
    inverse,
    kernel_otf,
)
from bifocus.records import UInt8Image

# Section 4 of the paper: lambda = mu = 0.004, gamma = 2, window 35.
DARK_WEIGHT = 0.004
GRADIENT_WEIGHT = 0.004
WINDOW_PX = 35
# The ties beta and alpha grow to these; factor 4 instead of 2 halves the steps.
_TIE_DARK_MAX, _TIE_GRADIENT_MAX, _TIE_FACTOR = 8.0, 1e3, 4.0


def deblur_dark_channel(
    shot: UInt8Image, settings: BlindSettings | None = None
) -> UInt8Image:
    """Return the shot deblurred blindly; about 2 CPU-s for 224x224 px.

    Parameters
    ----------
    shot
        uint8 RGB. Made for patches: cost grows with the area.
    settings
        Kernel size and iterations.
    """
    return deblur_blindly(shot, sharpen_dark, settings or BlindSettings())


def sharpen_dark(blurred: Float64, kernel: Float64) -> Float64:
    """Return argmin over I at a fixed kernel (the paper's Eqs. 7-13)."""
    otf = kernel_otf(kernel, blurred.shape)
    data = np.conj(otf) * scipy.fft.rfft2(blurred)
    power, edges = np.abs(otf) ** 2, gradient_power(blurred.shape)
    picture, tie_dark = blurred, 2 * DARK_WEIGHT
    while tie_dark < _TIE_DARK_MAX:
        dark_target = scipy.fft.rfft2(assign_dark_channel(picture, tie_dark))
        tie = 2 * GRADIENT_WEIGHT
        while tie < _TIE_GRADIENT_MAX:
            rows, columns = (difference(picture, axis) for axis in range(2))
            flat = rows**2 + columns**2 < GRADIENT_WEIGHT / tie
            kept = (np.where(flat, 0, rows), np.where(flat, 0, columns))
            target = difference_adjoint(kept[0], 0) + difference_adjoint(kept[1], 1)
            above = data + tie_dark * dark_target + tie * scipy.fft.rfft2(target)
            below = power + tie_dark + tie * edges
            picture = inverse(above / below, blurred.shape)
            tie *= _TIE_FACTOR
        tie_dark *= _TIE_FACTOR
    return picture


def dark_channel(picture: Float64, window_px: int = WINDOW_PX) -> Float64:
    """Return the minimum over a square window around each pixel (grey picture)."""
    return np.asarray(minimum_filter(picture, window_px, mode="nearest"), np.float64)


def assign_dark_channel(picture: Float64, tie_dark: float) -> Float64:
    """Return the picture with its darkest pixels replaced by the thresholded u.

    u is D(I), set to 0 where D(I)^2 < lambda / beta. A pixel is some window's darkest
    if it equals D there; M^T of the paper's Eq. 12 puts u back at those pixels, and the
    others stay as they are.
    """
    dark = dark_channel(picture)
    # A pixel that is darkest anywhere is darkest in a window centred within reach, so
    # the largest minimum near it is its own value.
    is_darkest: npt.NDArray[np.bool_] = picture <= maximum_filter(
        dark, WINDOW_PX, mode="nearest"
    )
    vanishes = picture**2 < DARK_WEIGHT / tie_dark
    return np.where(is_darkest & vanishes, 0.0, picture)
