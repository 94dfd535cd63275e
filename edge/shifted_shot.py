"""One shot moved by a part of a pixel onto the grid of the other, for the networks.

Cubic convolution (R. G. Keys, IEEE Trans. ASSP 29 (1981)) with a = -0.75 along rows,
then along columns; the border is repeated. `export.moved_shot` does the same in a
graph. OpenCV's `warpAffine` rounds the shift to 1/32 px, and takes three times as long.
"""

import math

import cv2
import numpy as np
import numpy.typing as npt

from bifocus.records import UInt8Image

_A = -0.75


def shift_shot(pixels: UInt8Image, down_px: float, right_px: float) -> UInt8Image:
    """Return the picture (rows, columns, 3) moved down and right, rounded to levels."""
    if down_px == 0 and right_px == 0:
        return pixels
    moved = cv2.sepFilter2D(
        pixels,
        -1,
        _kernel(right_px),
        _kernel(down_px),
        borderType=cv2.BORDER_REPLICATE,
    )
    return np.asarray(moved, dtype=np.uint8)


def _kernel(shift_px: float) -> npt.NDArray[np.float32]:
    """Return the weights of pixels around one, an odd number of them, for a shift."""
    whole = math.floor(-shift_px)
    part = -shift_px - whole
    reach = max(abs(whole - 1), abs(whole + 2))
    kernel = np.zeros(2 * reach + 1, dtype=np.float32)
    first = reach + whole - 1
    kernel[first : first + 4] = [_cubic(part - tap) for tap in (-1, 0, 1, 2)]
    return kernel


def _cubic(distance: float) -> float:
    """Return Keys's weight of a pixel at a distance of at most 2 px."""
    x = abs(distance)
    if x <= 1:
        return (_A + 2) * x**3 - (_A + 3) * x**2 + 1
    return _A * (x**3 - 5 * x**2 + 8 * x - 4)
