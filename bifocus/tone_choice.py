"""Tell from pairs of shots whether their stored values are linear light or sRGB.

Defocus moves light about but keeps its local mean; it lowers the local variance. So
where one shot is sharper than the other, both have the same mean in linear light x. If
s = x^(1/g) is stored instead, the sharper shot's mean of s is lower (Jensen), and to
second order

    mean(s1) - mean(s2)  =  (1 - g) / 2 * (var(s1) - var(s2)) / mean(s)

The slope of one difference against the other gives g: 1 for linear light, about 2.2 for
sRGB. No optics are needed. Measured (tests/root/test_tone_choice.py and real crops,
incoherent and partially coherent light with aberrations, eight pairs): 0.98 to 1.02 and
2.17 to 2.25. Pairs that are equally sharp all over say nothing, and count for nothing.
The formula and its use are our own derivation.
"""

from collections.abc import Iterable

import cv2
import numpy as np
import numpy.typing as npt

from bifocus.pair_alignment import estimate_shift_px
from bifocus.records import UInt8Image
from bifocus.tone import ToneCurve, decode

Float64 = npt.NDArray[np.float64]

# Half-width of the local means, in pixels: wide against the blur of shots up to four
# depths of field out of focus, narrow against a block of tissue.
_SIGMA_PX = 8
# Halfway between linear light and sRGB.
_LEAST_SRGB_EXPONENT = 1.6
# Darker places than this share of full scale are left to the others.
_LEAST_MEAN = 0.02
# Squared differences of variance below which there is nothing to see: a pair of noisy
# clear glass gives 1e-7, one of tissue 1e-2 and more.
_LEAST_EVIDENCE = 1e-5


def guess_tone_curve(pairs: Iterable[tuple[UInt8Image, UInt8Image]]) -> ToneCurve:
    """Return the likelier tone curve of some pairs stored in the same way.

    Parameters
    ----------
    pairs
        Some (minus, plus) pairs; a handful is enough, and best at various offsets.
    """
    return "srgb" if estimate_exponent(pairs) > _LEAST_SRGB_EXPONENT else "linear"


def estimate_exponent(pairs: Iterable[tuple[UInt8Image, UInt8Image]]) -> float:
    """Return g of `light = stored^g`; 1, linear light, where the pairs do not tell."""
    both = square = 0.0
    for pair in pairs:
        minus, plus = _overlap(*pair)
        for colour in range(3):
            means, variances = _differences(minus[..., colour], plus[..., colour])
            both += float(means @ variances)
            square += float(variances @ variances)
    return 1 - 2 * both / square if square > _LEAST_EVIDENCE else 1.0


def _overlap(minus: UInt8Image, plus: UInt8Image) -> tuple[UInt8Image, UInt8Image]:
    """Return what both shots show, to half a pixel: interpolation would blur one."""
    shift_px = estimate_shift_px(decode(minus, "linear"), decode(plus, "linear"))
    down, right = (round(side) for side in shift_px)
    height, width = minus.shape[0] - abs(down), minus.shape[1] - abs(right)

    def cut(shot: UInt8Image, down: int, right: int) -> UInt8Image:
        top, left = max(down, 0), max(right, 0)
        return shot[top : top + height, left : left + width]

    return cut(minus, down, right), cut(plus, -down, -right)


def _differences(minus: UInt8Image, plus: UInt8Image) -> tuple[Float64, Float64]:
    """Return the differences of local means and of variances over means, at places.

    What lamp, stage and coarse structure put into both is taken out: a level and a
    gain, a small shift of the picture, and the blur of what is wider than the window.
    """
    first, first_variance = _local_moments(minus)
    second, second_variance = _local_moments(plus)
    mean = (first + second) / 2
    down, across = np.gradient(mean)
    curvature = np.asarray(cv2.Laplacian(mean, cv2.CV_64F, ksize=3), np.float64)
    inner = slice(2 * _SIGMA_PX, -2 * _SIGMA_PX, _SIGMA_PX)  # beyond mirrored borders
    places = (inner, inner)
    bright = mean[places].ravel() > _LEAST_MEAN
    nuisance = np.column_stack(
        [
            np.ones(int(bright.sum())),
            *(part[places].ravel()[bright] for part in (mean, down, across, curvature)),
        ]
    )
    basis, _ = np.linalg.qr(nuisance)
    ratio = (first_variance - second_variance) / np.maximum(mean, _LEAST_MEAN)

    def cleaned(values: Float64) -> Float64:
        flat = values[places].ravel()[bright]
        return np.asarray(flat - basis @ (basis.T @ flat), dtype=np.float64)

    return cleaned(first - second), cleaned(ratio)


def _local_moments(plane: UInt8Image) -> tuple[Float64, Float64]:
    """Return the local mean and variance of stored values, 0..1."""
    stored = plane.astype(np.float64) / 255
    mean, square = (
        cv2.GaussianBlur(
            values, (0, 0), _SIGMA_PX, borderType=cv2.BORDER_REFLECT_101
        ).astype(np.float64)
        for values in (stored, stored * stored)
    )
    return mean, square - mean * mean
