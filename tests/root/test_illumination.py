"""The lamp's falloff: scaled to its maximum, and taken off again, in either curve."""

import numpy as np
import pytest

from bifocus.illumination import (
    FlatFieldCorrection,
    compute_gain,
    field_coordinates,
    quadratic_columns,
)
from bifocus.records import FlatField
from bifocus.tone import ToneCurve, decode, encode

SHAPE = (96, 128)
# log light = c . [1, x, y, x^2, x y, y^2]: brightest near the middle, a little askew,
# and another lamp position for each colour.
LAMP = FlatField(
    coefficients=(
        (-0.2, 0.03, -0.02, -0.10, 0.01, -0.08),
        (-0.1, 0.02, 0.01, -0.12, 0.00, -0.09),
        (-0.3, -0.04, 0.02, -0.15, -0.01, -0.11),
    ),
    glass_fraction=0.4,
)


def test_columns_and_coordinates_span_the_field() -> None:
    x, y = field_coordinates((3, 5))
    assert x[0].tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert y[:, 0].tolist() == [-1.0, 0.0, 1.0]
    assert quadratic_columns(x, y)[2, 0].tolist() == [1, -1, 1, 1, -1, 1]


def test_each_colour_has_a_maximum_of_one() -> None:
    gain = compute_gain(LAMP, SHAPE)
    assert gain.shape == (*SHAPE, 3)
    assert gain.dtype == np.float32
    assert gain.max(axis=(0, 1)) == pytest.approx(1.0)
    assert gain.min() > 0


def test_a_common_factor_of_the_lamp_changes_nothing() -> None:
    brighter = FlatField(
        coefficients=tuple((row[0] + 1.7, *row[1:]) for row in LAMP.coefficients),
        glass_fraction=0.4,
    )
    assert compute_gain(brighter, SHAPE) == pytest.approx(compute_gain(LAMP, SHAPE))


@pytest.mark.parametrize("tone_curve", ["linear", "srgb"])
def test_correction_flattens_a_field(tone_curve: ToneCurve) -> None:
    light = (np.float32(0.8) * compute_gain(LAMP, SHAPE)).astype(np.float32)
    picture = encode(light, tone_curve)
    assert int(picture.max()) - int(picture.min()) > 15
    flat = FlatFieldCorrection(LAMP, SHAPE, tone_curve).apply(picture)
    # One level of rounding before, amplified by 1/gain, and one after.
    assert int(flat.max()) - int(flat.min()) <= 2
    assert decode(flat, tone_curve).mean() == pytest.approx(0.8, abs=0.004)


def test_correction_keeps_what_is_on_the_slide() -> None:
    rng = np.random.default_rng(3)
    tissue = rng.uniform(0.2, 0.9, (*SHAPE, 3)).astype(np.float32)
    seen = encode((tissue * compute_gain(LAMP, SHAPE)).astype(np.float32), "linear")
    corrected = FlatFieldCorrection(LAMP, SHAPE, "linear").apply(seen)
    assert np.abs(corrected / 255 - tissue).max() < 1.5 / 255


def test_no_profile_changes_nothing() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
    same = FlatFieldCorrection(None, SHAPE, "srgb").apply(picture)
    assert np.array_equal(same, picture)
