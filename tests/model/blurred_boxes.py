"""Boxes blurred by a known kernel: what blind deblurring must be able to undo."""

import numpy as np
import numpy.typing as npt
from scipy.ndimage import convolve

from tests.imaging import UInt8

Float64 = npt.NDArray[np.float64]


def disc_kernel(radius_px: float, side: int = 15) -> Float64:
    rows, columns = np.indices((side, side)) - side // 2
    kernel = (rows**2 + columns**2 <= radius_px**2).astype(np.float64)
    scaled: Float64 = kernel / kernel.sum()
    return scaled


def blurred_boxes(kernel: Float64, side: int = 160) -> tuple[UInt8, UInt8]:
    """Return (blurred, sharp) pictures with slight noise."""
    rng = np.random.default_rng(0)
    sharp = np.full((side, side, 3), 0.9)
    for number in range(40):
        row, column = rng.integers(0, side - 20, 2)
        height, width = rng.integers(6, 40, 2)
        colour = rng.uniform(0.05, 0.9, 3) if number % 3 else np.full(3, 0.05)
        sharp[row : row + height, column : column + width] = colour
    blurred = np.stack([convolve(sharp[..., i], kernel) for i in range(3)], axis=2)
    blurred += rng.normal(0, 0.003, blurred.shape)
    stored = [
        np.rint(255 * np.clip(p, 0, 1)).astype(np.uint8) for p in (blurred, sharp)
    ]
    return stored[0], stored[1]


def overlap(first: Float64, second: Float64) -> float:
    """Return the cosine between two kernels."""
    return float((first * second).sum() / np.sqrt((first**2).sum() * (second**2).sum()))
