"""The pitch of drawn lines, any angle, and pictures that show none."""

import numpy as np
import pytest

from bifocus.calib.graticule import fit_graticule
from bifocus.errors import CalibrationError
from bifocus.records import UInt8Image
from tests.tissue import procedural_tissue


def lines(
    side: int, pitch: tuple[float, float], angle: float, rng: np.random.Generator
) -> UInt8Image:
    """Dark lines with soft edges, drawn from their equation."""
    rows, columns = np.indices((side, side), dtype=np.float64)
    u = columns * np.cos(angle) + rows * np.sin(angle) + rng.uniform(0, 40)
    v = -columns * np.sin(angle) + rows * np.cos(angle) + rng.uniform(0, 40)
    light = np.ones((side, side))
    for place, period in ((u, pitch[0]), (v, pitch[1])):
        distance = np.abs((place / period) % 1 - 0.5) * period
        light *= 1 - 0.9 / (1 + np.exp((distance - 0.1 * period) / 0.7))
    noisy = 220 * light + rng.normal(0, 2, light.shape)
    return np.clip(np.round(noisy), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("angle", [-0.1, 0.0, 0.013])
def test_pitch_and_angle_of_drawn_lines(angle: float) -> None:
    picture = lines(192, (31.37, 33.02), angle, np.random.default_rng(3))
    fit = fit_graticule(picture, expected_px=30.0)
    assert fit.pitch_x_px == pytest.approx(31.37, rel=3e-4)
    assert fit.pitch_y_px == pytest.approx(33.02, rel=3e-4)
    assert fit.angle_mrad == pytest.approx(1000 * angle, abs=0.2)
    assert fit.skew_mrad == pytest.approx(0.0, abs=0.3)
    assert fit.pitch_px == pytest.approx(32.195, rel=3e-4)


def test_tissue_is_no_graticule() -> None:
    picture = (200 * procedural_tissue(192, 5)[..., 1]).astype(np.uint8)
    with pytest.raises(
        CalibrationError, match=r"no lines 30\.0 px apart.*load the target"
    ):
        fit_graticule(picture, expected_px=30.0)


def test_lines_of_one_direction_are_not_enough() -> None:
    picture = np.tile(
        lines(192, (31.0, 31.0), 0.0, np.random.default_rng(0))[:1], (192, 1)
    )
    with pytest.raises(CalibrationError, match="no lines"):
        fit_graticule(picture, expected_px=31.0)


def test_too_coarse_a_graticule_is_refused() -> None:
    picture = lines(96, (40.0, 40.0), 0.0, np.random.default_rng(0))
    with pytest.raises(CalibrationError, match=r"only 2\.4 of its periods"):
        fit_graticule(picture, expected_px=40.0)
