"""Tone curves: stored 8-bit values to linear light and back.

Blur adds light, so two-shot fusion must work on linear intensities. Cameras locked by
bifocus deliver `linear` values; ordinary image files are usually `srgb`
(IEC 61966-2-1).
"""

from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from bifocus.records import FloatImage, UInt8Image

ToneCurve = Literal["linear", "srgb"]

# Steps of the inverse table; 1/16 of the smallest sRGB step in the shadows.
_ENCODE_STEPS = 1 << 16


def decode(pixels: UInt8Image, tone_curve: ToneCurve) -> FloatImage:
    """Return linear light in 0..1 for stored values 0..255."""
    return _decode_table(tone_curve)[pixels]


def encode(linear: FloatImage, tone_curve: ToneCurve) -> UInt8Image:
    """Return the nearest stored value for linear light; values beyond 0..1 clip."""
    index = np.clip(linear, 0.0, 1.0) * np.float32(_ENCODE_STEPS - 1) + np.float32(0.5)
    return _encode_table(tone_curve)[index.astype(np.uint16)]


@lru_cache(maxsize=2)
def _decode_table(tone_curve: ToneCurve) -> FloatImage:
    stored = np.arange(256) / 255.0
    return np.asarray(_to_linear(stored, tone_curve), dtype=np.float32)


@lru_cache(maxsize=2)
def _encode_table(tone_curve: ToneCurve) -> UInt8Image:
    linear = np.arange(_ENCODE_STEPS) / (_ENCODE_STEPS - 1)
    stored = linear
    if tone_curve == "srgb":
        high = 1.055 * linear ** (1 / 2.4) - 0.055
        stored = np.where(linear <= 0.0031308, 12.92 * linear, high)
    return np.rint(255 * stored).astype(np.uint8)


def _to_linear(
    stored: npt.NDArray[np.float64], tone_curve: ToneCurve
) -> npt.NDArray[np.float64]:
    if tone_curve == "linear":
        return stored
    return np.where(
        stored <= 0.04045, stored / 12.92, ((stored + 0.055) / 1.055) ** 2.4
    )
