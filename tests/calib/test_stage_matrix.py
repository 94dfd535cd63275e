"""Matrices taken apart, and lines with known errors, against closed forms."""

import math

import numpy as np
import pytest

from bifocus.calib.field_walk import AxisTrace, along
from bifocus.calib.image_shift import FLOOR_PX
from bifocus.calib.stage_matrix import fit_trace, take_apart


def matrix(
    angle: float, scales: tuple[float, float], flips: tuple[float, float] = (1, 1)
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    turn = np.array(
        [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
    )
    return np.asarray(np.diag(flips) @ turn @ np.diag(scales), np.float64)


@pytest.mark.parametrize("angle", [-1.0, -0.02, 0.0, 0.3, 3.0])
@pytest.mark.parametrize("flips", [(1, 1), (-1, -1)])
def test_parts_make_the_matrix_again(angle: float, flips: tuple[float, float]) -> None:
    parts = take_apart(matrix(angle, (1.04, 0.97), flips))
    turned = angle if flips == (1, 1) else angle + math.pi
    error = math.remainder(parts.rotation_mrad / 1e3 - turned, 2 * math.pi)
    assert error == pytest.approx(0.0, abs=1e-12)
    assert (parts.scale_x, parts.scale_y) == pytest.approx((1.04, 0.97))
    assert parts.shear_mrad == pytest.approx(0.0, abs=1e-9)
    assert not parts.mirrored


@pytest.mark.parametrize("flips", [(-1, 1), (1, -1)])
def test_a_mirror_image_keeps_its_small_angle(flips: tuple[float, float]) -> None:
    parts = take_apart(matrix(0.015, (1.0, 1.0), flips))
    assert parts.mirrored
    assert parts.rotation_mrad == pytest.approx(15.0)


def test_shear_is_the_angle_between_the_axes() -> None:
    """x turned by 10 mrad, y by 16: 13 on average, 6 apart."""
    columns = [
        matrix(angle, (1.0, 1.0))[:, k] for k, angle in enumerate((0.010, 0.016))
    ]
    parts = take_apart(np.stack(columns, axis=1))
    assert parts.rotation_mrad == pytest.approx(13.0)
    assert parts.shear_mrad == pytest.approx(6.0)


def trace_of(
    rng: np.random.Generator, *, link_px: float = 0.0, scatter_um: float = 0.0
) -> AxisTrace:
    """Nine places 16 um apart at 4 px/um, turned by 10 mrad; gap 5 um."""
    column = 4 * np.array([math.cos(0.01), -math.sin(0.01)])
    up_um = np.asarray(100.0 + 16.0 * np.arange(9), np.float64)
    walk = np.cumsum(np.vstack([np.zeros(2), rng.normal(0, link_px, (17, 2))]), axis=0)
    um = np.concatenate([up_um, up_um[::-1] + 5.0]) + rng.normal(0, scatter_um, 18)
    px = np.outer(um, column) + walk
    return AxisTrace(
        axis="x",
        up_um=up_um,
        up_px=px[:9],
        down_um=up_um[::-1],
        down_px=px[9:],
        step_px=64.0,
        sightings=(),
    )


def test_an_exact_trace_gives_exact_numbers() -> None:
    fit = fit_trace(trace_of(np.random.default_rng(0)), noise_px=0.0)
    assert fit.length_px == pytest.approx(4.0)
    assert fit.gap_um == pytest.approx(5.0)
    assert fit.n_dropped == 0
    # Only what repeats in every link is left: its floor over 64 px.
    assert fit.relative_u == pytest.approx(FLOOR_PX / 64, rel=0.01)


@pytest.mark.parametrize(
    ("link_px", "scatter_um"), [(0.05, 0.0), (0.0, 0.1), (0.02, 0.05)]
)
def test_stated_slopes_cover_the_truth(link_px: float, scatter_um: float) -> None:
    """400 traces; 95 % +- 4 binomial standard deviations of 1.1 %, or more."""
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(400):
        fit = fit_trace(trace_of(rng, link_px=link_px, scatter_um=scatter_um), link_px)
        hits += abs(fit.length_px / 4.0 - 1) <= 2 * fit.relative_u
    assert 0.91 <= hits / 400 <= 0.995


def test_a_lost_step_is_left_out() -> None:
    trace = trace_of(np.random.default_rng(2), scatter_um=0.05)
    trace.up_px[4] += 8.0
    fit = fit_trace(trace, noise_px=0.01)
    assert fit.n_dropped == 1
    assert np.isnan(fit.residual_um[4])
    assert fit.length_px == pytest.approx(4.0, rel=2e-3)


def test_a_shift_askew_counts_along_the_axis() -> None:
    assert along(np.array([0.0, -4.0]), np.array([3.0, -8.0])) == pytest.approx(2.0)
