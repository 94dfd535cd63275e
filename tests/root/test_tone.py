"""Tone curves against IEC 61966-2-1, and there and back again."""

import numpy as np
import pytest

from bifocus.tone import ToneCurve, decode, encode

ALL_VALUES = np.arange(256, dtype=np.uint8)


@pytest.mark.parametrize("tone_curve", ["linear", "srgb"])
def test_every_stored_value_survives_the_round_trip(tone_curve: ToneCurve) -> None:
    linear = decode(ALL_VALUES, tone_curve)
    assert linear.dtype == np.float32
    assert np.all(np.diff(linear) > 0)
    np.testing.assert_array_equal(encode(linear, tone_curve), ALL_VALUES)


# Stored value to linear light, from published sRGB tables; 10 is the last value of the
# straight part, 11 the first of the power law.
@pytest.mark.parametrize(
    ("stored", "linear"),
    [
        (0, 0.0),
        (1, 0.000303527),
        (10, 0.003035270),
        (11, 0.003346536),
        (64, 0.051269458),
        (128, 0.215860501),
        (188, 0.502886458),
        (255, 1.0),
    ],
)
def test_srgb_reference_points(stored: int, linear: float) -> None:
    assert decode(np.array([stored], np.uint8), "srgb")[0] == pytest.approx(
        linear, abs=2e-7
    )


def test_middle_grey_is_stored_as_118() -> None:
    # 18 % reflectance: 1.055 * 0.18^(1/2.4) - 0.055 = 0.4614 = 117.6 / 255
    assert encode(np.array([0.18], np.float32), "srgb")[0] == 118


@pytest.mark.parametrize("tone_curve", ["linear", "srgb"])
def test_encode_gives_the_nearest_stored_value(tone_curve: ToneCurve) -> None:
    linear = np.linspace(0, 1, 20_001, dtype=np.float32)
    stored = encode(linear, tone_curve).astype(int)
    exact = 255 * linear.astype(np.float64)
    if tone_curve == "srgb":
        power = 255 * (1.055 * linear.astype(np.float64) ** (1 / 2.4) - 0.055)
        exact = np.where(linear <= 0.0031308, 12.92 * exact, power)
    # 0.03: the inverse table has 16 steps per stored level where sRGB is steepest
    assert np.abs(stored - exact).max() <= 0.5 + 0.03


@pytest.mark.parametrize("tone_curve", ["linear", "srgb"])
def test_light_beyond_the_range_clips(tone_curve: ToneCurve) -> None:
    beyond = np.array([-0.3, -1e-6, 1.0001, 7.0, np.inf, -np.inf], np.float32)
    np.testing.assert_array_equal(encode(beyond, tone_curve), [0, 0, 255, 255, 255, 0])


def test_images_keep_their_shape() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(encode(decode(pixels, "srgb"), "srgb"), pixels)
