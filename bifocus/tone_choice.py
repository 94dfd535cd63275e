"""Guess the tone curve of a pair from the pair itself.

Blur is linear in light, not in stored values. Read through the wrong tone curve, the
two shots no longer fit one object, and energy appears across the transfer vector
(`bifocus.focal_offset`). The curve under which they fit better is the likelier one. A
single pair decides rightly about six times in seven, eight pairs together did in every
set that was tried (tests/root/test_tone_choice.py).
"""

from collections.abc import Iterable

import numpy as np

from bifocus.focal_offset import PairOptics, fit_contrast
from bifocus.physics_fusion import measure_pair
from bifocus.records import UInt8Image
from bifocus.tone import ToneCurve

CURVES: tuple[ToneCurve, ...] = ("linear", "srgb")


def guess_tone_curve(
    pairs: Iterable[tuple[UInt8Image, UInt8Image]], optics: PairOptics
) -> ToneCurve:
    """Return the tone curve under which most of the pairs fit their optics better.

    Parameters
    ----------
    pairs
        Some (minus, plus) pairs taken and stored the same way; a handful is enough.
    optics
        Their optics.
    """
    preferences = []
    for minus, plus in pairs:
        linear, srgb = (
            fit_contrast(measured.spectra, measured.optics, measured.offsets)
            for measured in (
                measure_pair(minus, plus, optics, tone_curve=curve) for curve in CURVES
            )
        )
        preferences.append(linear - srgb)
    return "srgb" if preferences and float(np.median(preferences)) < 0 else "linear"
