"""Tone curves against IEC 61966-2-1, and there and back again."""

import numpy as np
import pytest

from bifocus.tone import ToneCurve, decode, encode, encode_remainder, join_levels

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


@pytest.mark.parametrize("tone_curve", ["linear", "srgb"])
def test_the_remainder_gives_the_exact_level_back(tone_curve: ToneCurve) -> None:
    random = np.random.default_rng(2)
    light = random.uniform(-0.1, 1.1, (64, 80, 3)).astype(np.float32)
    light[:8] /= 200  # the straight part of sRGB, too
    light[0, :3, 0] = -np.inf, np.inf, 3
    stored = encode(light, tone_curve)
    remainder = encode_remainder(light, stored, tone_curve)
    assert remainder.dtype == np.uint8
    assert remainder.shape == stored.shape
    exact = np.clip(light.astype(np.float64), 0, 1)
    if tone_curve == "srgb":
        power = 1.055 * exact ** (1 / 2.4) - 0.055
        exact = np.where(exact <= 0.0031308, 12.92 * exact, power)
    error = np.abs(join_levels(stored, remainder) - 255 * exact)
    is_cut = (remainder == 0) | (remainder == 255)
    assert is_cut.mean() < 0.02
    assert error[~is_cut].max() <= 1 / 512 + 1e-4
    # sRGB is rounded by a table, which may miss the nearest level by 0.03.
    assert error.max() <= 1 / 256 + (0.03 if tone_curve == "srgb" else 1e-4)
    # Without it, half a level is missing.
    assert np.abs(stored - 255 * exact).max() > 0.49


def test_a_remainder_counts_256ths_of_a_level_from_128() -> None:
    levels = np.array([100, 100.25, 99.5 + 1 / 256, 0, 255, 300, -3])
    light = (levels / 255).astype(np.float32)[:, None, None].repeat(3, axis=2)
    stored = encode(light, "linear")
    assert stored[:, 0, 1].tolist() == [100, 100, 100, 0, 255, 255, 0]
    remainder = encode_remainder(light, stored, "linear")
    assert remainder[:, 0, 1].tolist() == [128, 192, 1, 128, 128, 128, 128]
