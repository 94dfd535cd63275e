"""The lamp's falloff: scaled to its maximum, and taken off again, in either curve."""

import dataclasses

import numpy as np
import pytest

from bifocus.errors import ConfigError
from bifocus.illumination import (
    FlatFieldCorrection,
    GlassLevels,
    compute_gain,
    field_coordinates,
    quadratic_columns,
)
from bifocus.records import FlatField, InstrumentProfile, Measured
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


@pytest.mark.parametrize("tone_curve", ["linear", "srgb"])
def test_dark_level_and_colour_of_the_lamp_come_off(tone_curve: ToneCurve) -> None:
    """A picture made by the sensor's own recipe: (tissue x lamp x colour) + dark."""
    rng = np.random.default_rng(4)
    tissue = rng.uniform(0.1, 1.0, (*SHAPE, 3)).astype(np.float32)
    colour, dark = np.array([0.7, 0.85, 0.6], np.float32), 0.02
    light = tissue * compute_gain(LAMP, SHAPE) * colour + np.float32(dark)
    seen = encode(light.astype(np.float32), tone_curve)
    white = [_stored(float(c) + dark, tone_curve) for c in colour]
    glass = GlassLevels(
        white=(white[0], white[1], white[2]), dark=_stored(dark, tone_curve)
    )
    corrected = FlatFieldCorrection(LAMP, SHAPE, tone_curve, glass).apply(seen)
    # Half a level before, amplified by at most 1 / (0.75 x 0.6 / 0.85), and after; the
    # sRGB level is widest at the bright end, 2.3 linear ones.
    error = np.abs(decode(corrected, tone_curve) - 0.85 * tissue).max()
    assert error < (1.5 if tone_curve == "linear" else 3.3) / 255


def test_stain_is_no_colour_of_the_lamp() -> None:
    """One factor for all tiles: a tile all pink stays pink."""
    pink = np.full((*SHAPE, 3), (210, 120, 180), np.uint8)
    glass = GlassLevels(white=(200.0, 220.0, 210.0))
    corrected = FlatFieldCorrection(None, SHAPE, "linear", glass).apply(pink)
    assert corrected[0, 0].tolist() == [231, 120, 189]  # 210 x 1.1; 180 x 220 / 210


def test_a_profile_without_levels_corrects_as_before() -> None:
    profile = InstrumentProfile(
        identity={},
        created_utc="",
        software_version="",
        raw_sha256="",
        focus_um=Measured(value=0.0, standard_uncertainty=0.0, method=""),
        focus_x_um=0.0,
        focus_y_um=0.0,
        half_spacing_um=Measured(value=1.0, standard_uncertainty=0.0, method=""),
        flat_field=LAMP,
        simulated=True,
    )
    picture = np.random.default_rng(1).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
    old = FlatFieldCorrection(LAMP, SHAPE, "linear").apply(picture)
    new = FlatFieldCorrection.of_profile(profile, SHAPE, "linear").apply(picture)
    assert np.array_equal(old, new)
    values = {
        key: Measured(value=level, standard_uncertainty=0.1, method="", unit="levels")
        for key, level in zip(
            ("white_r", "white_g", "white_b", "dark_level"),
            (180.0, 200.0, 160.0, 3.0),
            strict=True,
        )
    }
    told = GlassLevels.of_profile(dataclasses.replace(profile, values=values))
    assert told == GlassLevels(white=(180.0, 200.0, 160.0), dark=3.0)


def test_glass_as_dark_as_the_dark_is_refused() -> None:
    glass = GlassLevels(white=(200.0, 3.0, 200.0), dark=4.0)
    with pytest.raises(ConfigError, match="no brighter than darkness"):
        FlatFieldCorrection(None, SHAPE, "linear", glass)


def _stored(light: float, tone_curve: ToneCurve) -> float:
    """IEC 61966-2-1, written out again on purpose."""
    if tone_curve == "linear":
        return 255 * light
    return float(255 * (1.055 * light ** (1 / 2.4) - 0.055))
