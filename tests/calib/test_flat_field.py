"""The lamp's falloff from frames that are part glass, part tissue."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from bifocus.calib.flat_field import average_cells, fit_flat_field, fit_glass
from bifocus.errors import ConfigError
from bifocus.hal.sensor import illumination
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


def test_strong_falloff_beside_the_middle_is_met_at_the_corners() -> None:
    """The lamp is quadratic in light, the surface in its logarithm: order counts."""
    rng = np.random.default_rng(8)
    lamp = illumination(SHAPE, 0.25, (0.3, -0.2))[..., None] * [0.8, 0.9, 0.7]
    frames = [
        (lamp + rng.normal(0, 0.004, (*SHAPE, 3))).astype(np.float32) for _ in range(3)
    ]
    fit = fit_glass([average_cells(frame) for frame in frames], SHAPE)
    assert fit is not None
    assert fit.flat_field is not None
    gain = compute_gain(fit.flat_field, SHAPE)
    truth = lamp / lamp.max(axis=(0, 1))
    assert float(np.abs(gain / truth - 1).max()) < 0.012  # of 0.59, in the far corner
    assert float(np.sqrt(np.mean((gain / truth - 1) ** 2))) < 0.003
    for white, u, true in zip(fit.white, fit.white_u, (0.8, 0.9, 0.7), strict=True):
        assert abs(white - true) < 2 * u < 0.01


def test_faint_stain_does_not_darken_the_white() -> None:
    """Half of the glass carries a breath of eosin, 1.5 % in green."""
    rng = np.random.default_rng(9)
    cells = []
    for _ in range(8):
        blots = gaussian_filter(rng.normal(size=SHAPE), 10)
        faint = np.where(blots > 0, 0.015, 0.0)[..., None] * [0.1, 1.0, 0.2]
        light = 0.9 * (1 - faint) * compute_gain(LAMP, SHAPE)
        noisy = light + rng.normal(0, 0.007, light.shape)
        cells.append(average_cells(noisy.astype(np.float32)))
    fit = fit_glass(cells, SHAPE)
    assert fit is not None
    for white, u in zip(fit.white, fit.white_u, strict=True):
        assert abs(white - 0.9) < 2 * u
    assert abs(fit.white[1] - 0.9) < 0.0035  # a quarter of the stain at most


def test_the_parts_that_were_never_glass_are_named() -> None:
    frames = take_frames(0.0, "linear", n_frames=4)
    for frame in frames:
        seen = (slice(None), slice(0, 3 * SHAPE[1] // 5))
        frame[seen] = 0.9 * compute_gain(LAMP, SHAPE)[seen]
    fit = fit_glass([average_cells(frame) for frame in frames], SHAPE)
    assert fit is not None
    assert fit.uncovered == ("top right", "right", "bottom right")
    assert fit.flat_field is None


def test_a_surface_of_another_order_is_refused() -> None:
    with pytest.raises(ConfigError, match="6 or 15 coefficients"):
        FlatField(coefficients=((0.0,) * 10,) * 3, glass_fraction=1.0)
