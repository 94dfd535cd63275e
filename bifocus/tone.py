"""Tone curves: stored 8-bit values to linear light and back.

Blur adds light, so two-shot fusion must work on linear intensities. Cameras locked by
bifocus deliver `linear` values; ordinary image files are usually `srgb`
(IEC 61966-2-1).
"""

from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from bifocus.records import FloatImage, UInt8Image

ToneCurve = Literal["linear", "srgb"]

# Steps of the inverse table; 1/16 of the smallest sRGB step in the shadows.
_ENCODE_STEPS = 1 << 16
# Steps of a remainder in one level, and its value where a level was whole.
REMAINDER_STEPS, NO_REMAINDER = 256, 128


def decode(pixels: UInt8Image, tone_curve: ToneCurve) -> FloatImage:
    """Return linear light in 0..1 for stored values 0..255.

    Colour pictures come back plane by plane in memory, as transforms want them.
    """
    table = _decode_table(tone_curve)
    if pixels.ndim != 3:
        return table[pixels]
    planes = np.empty((pixels.shape[2], *pixels.shape[:2]), dtype=np.float32)
    for plane, stored in zip(planes, cv2.split(pixels), strict=True):
        cv2.LUT(stored, table, dst=plane)
    return planes.transpose(1, 2, 0)


def levels_to_light(levels: float, tone_curve: ToneCurve) -> float:
    """Return linear light in 0..1 for a level of 0..255 that need not be whole.

    Examples
    --------
    >>> levels_to_light(127.5, "linear"), round(levels_to_light(188.0, "srgb"), 3)
    (0.5, 0.503)
    """
    return float(_to_linear(np.asarray(levels / 255.0, np.float64), tone_curve))


def light_to_levels(light: float, tone_curve: ToneCurve) -> float:
    """Return the level in 0..255, not rounded, that linear light is stored as."""
    return 255 * float(_from_linear(np.asarray(light, np.float64), tone_curve))


def encode(
    linear: FloatImage, tone_curve: ToneCurve, out: UInt8Image | None = None
) -> UInt8Image:
    """Return the nearest stored value for linear light; values beyond 0..1 clip.

    `out` is an array to be filled and returned: for colour, of the picture's shape.
    """
    if linear.ndim != 3 or linear.shape[2] != 3:
        return _encode_plane(linear, tone_curve)
    planes = [_encode_plane(linear[:, :, i], tone_curve) for i in range(3)]
    return np.asarray(cv2.merge(planes, dst=out), dtype=np.uint8)


def encode_remainder(
    linear: FloatImage, stored: UInt8Image, tone_curve: ToneCurve
) -> UInt8Image:
    """Return what rounding took from a colour picture, in 1/256 of a level, plus 128.

    Parameters
    ----------
    linear
        Linear light, (rows, columns, 3).
    stored
        `encode` of it.
    tone_curve
        The one it was encoded with.

    Returns
    -------
    UInt8Image
        clip(rint(256 (exact - stored) + 128), 0, 255): `join_levels` gives the exact
        level back to 1/512, and to 1/256 where it lay half a level above.
    """
    planes = []
    for colour, level in enumerate(cv2.split(stored)):
        exact = np.clip(linear[:, :, colour], np.float32(0), np.float32(1))
        if tone_curve == "srgb":
            exact = _srgb_plane(exact)
        # One pass of float32; what it gives is rounded and cut to bytes.
        planes.append(
            cv2.addWeighted(
                exact,
                255 * REMAINDER_STEPS,
                level,
                -REMAINDER_STEPS,
                NO_REMAINDER,
                dtype=cv2.CV_8U,
            )
        )
    return np.asarray(cv2.merge(planes), dtype=np.uint8)


def join_levels(stored: UInt8Image, remainder: UInt8Image) -> FloatImage:
    """Return levels with their fraction from a picture and its `encode_remainder`.

    Examples
    --------
    >>> join_levels(np.uint8([7, 7]), np.uint8([128, 160])).tolist()
    [7.0, 7.125]
    """
    part = (remainder - np.float32(NO_REMAINDER)) / np.float32(REMAINDER_STEPS)
    joined: FloatImage = stored + part
    return joined


def _srgb_plane(light: FloatImage) -> FloatImage:
    """Return `_from_linear` of light in 0..1 in float32."""
    stored = np.asarray(cv2.pow(light, 1 / 2.4), dtype=np.float32)
    stored *= np.float32(1.055)
    stored -= np.float32(0.055)
    return np.where(light <= np.float32(0.0031308), light * np.float32(12.92), stored)


def _encode_plane(linear: FloatImage, tone_curve: ToneCurve) -> UInt8Image:
    clipped: FloatImage = np.clip(linear, np.float32(0), np.float32(1))
    steps = 255 if tone_curve == "linear" else _ENCODE_STEPS - 1
    clipped *= np.float32(steps)
    clipped += np.float32(0.5)
    if tone_curve == "linear":
        return clipped.astype(np.uint8)
    stored: UInt8Image = np.take(_encode_table(), clipped.astype(np.uint16))
    return stored


@lru_cache(maxsize=2)
def _decode_table(tone_curve: ToneCurve) -> FloatImage:
    stored = np.arange(256) / 255.0
    return np.asarray(_to_linear(stored, tone_curve), dtype=np.float32)


@lru_cache(maxsize=1)
def _encode_table() -> UInt8Image:
    linear = np.arange(_ENCODE_STEPS) / (_ENCODE_STEPS - 1)
    table: UInt8Image = np.rint(255 * _from_linear(linear, "srgb")).astype(np.uint8)
    return table


def _to_linear(
    stored: npt.NDArray[np.float64], tone_curve: ToneCurve
) -> npt.NDArray[np.float64]:
    if tone_curve == "linear":
        return stored
    return np.where(
        stored <= 0.04045, stored / 12.92, ((stored + 0.055) / 1.055) ** 2.4
    )


def _from_linear(
    linear: npt.NDArray[np.float64], tone_curve: ToneCurve
) -> npt.NDArray[np.float64]:
    if tone_curve == "linear":
        return linear
    high = 1.055 * np.maximum(linear, 0) ** (1 / 2.4) - 0.055
    return np.where(linear <= 0.0031308, 12.92 * linear, high)
