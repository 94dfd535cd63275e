"""The lamp's falloff from frames that are part glass, part tissue."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from bifocus.calib.flat_field import fit_flat_field
from bifocus.illumination import compute_gain
from bifocus.records import FlatField, FloatImage
from bifocus.tone import ToneCurve, decode, encode

SHAPE = (192, 256)
LAMP = FlatField(
    coefficients=(
        (0.0, 0.03, -0.02, -0.08, 0.01, -0.06),
        (0.0, 0.02, 0.01, -0.10, 0.00, -0.07),
        (0.0, -0.04, 0.02, -0.12, -0.01, -0.09),
    ),
    glass_fraction=1.0,
)


def take_frames(
    glass: float, tone_curve: ToneCurve, n_frames: int = 12
) -> list[FloatImage]:
    """Frames of one lamp; `glass` of each is clear, in bands that wander."""
    rng = np.random.default_rng(5)
    frames = []
    for number in range(n_frames):
        across = (np.arange(SHAPE[1]) / SHAPE[1] + number / n_frames) % 1 < glass
        patches = gaussian_filter(rng.normal(size=(*SHAPE, 3)), (14, 14, 0))
        stain = 0.25 * patches / patches.std() + (0.25, 0.9, 0.25)
        tissue = np.exp(-np.clip(stain, 0.05, None))
        seen = np.where(across[None, :, None], 1.0, tissue) * compute_gain(LAMP, SHAPE)
        light = 0.9 * seen + rng.normal(0, 0.007, seen.shape)
        frames.append(decode(encode(light.astype(np.float32), tone_curve), tone_curve))
    return frames


@pytest.mark.parametrize("tone_curve", ["linear", "srgb"])
def test_a_known_falloff_comes_back(tone_curve: ToneCurve) -> None:
    found = fit_flat_field(take_frames(0.3, tone_curve))
    assert found is not None
    ratio = compute_gain(found, SHAPE) / compute_gain(LAMP, SHAPE)
    assert float((ratio / ratio.mean(axis=(0, 1))).std()) < 0.005
    assert found.glass_fraction == pytest.approx(0.3, abs=0.06)


def test_tissue_alone_gives_no_flat_field() -> None:
    assert fit_flat_field(take_frames(0.0, "linear")) is None


def test_glass_on_one_side_only_is_not_enough() -> None:
    """A surface that was never seen on the right must not be made up there."""
    frames = take_frames(0.0, "linear", n_frames=4)
    for frame in frames:
        left = slice(0, SHAPE[1] // 4)
        frame[:, left] = 0.9 * compute_gain(LAMP, SHAPE)[:, left]
    assert fit_flat_field(frames) is None


def test_glass_alone_is_fitted_too() -> None:
    found = fit_flat_field(take_frames(1.0, "linear", n_frames=3))
    assert found is not None
    assert found.glass_fraction > 0.9
    difference = compute_gain(found, SHAPE) - compute_gain(LAMP, SHAPE)
    assert float(np.sqrt(np.mean(difference**2))) < 0.005
