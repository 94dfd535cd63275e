"""Planes and quadratics of known shape, outliers, and what lies beyond."""

import json

import numpy as np
import pytest

from bifocus.calib.focus_surface import FocusSurface, fit_surface
from bifocus.errors import CalibrationError

PLACES = np.array(
    [(x, y) for x in (0.0, 500.0, 1000.0) for y in (0.0, 400.0, 800.0)]
    + [(250.0, 200.0), (750.0, 200.0), (250.0, 600.0), (750.0, 600.0)]
)
RNG = np.random.default_rng(0)


def plane(scatter_um: float = 0.0) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    heights = 20.0 + 2e-3 * PLACES[:, 0] - 1e-3 * PLACES[:, 1]
    return np.asarray(heights + RNG.normal(0, scatter_um, len(PLACES)), np.float64)


def test_a_plane_is_a_plane() -> None:
    fit = fit_surface(PLACES, plane(), 50.0)
    assert not fit.is_quadratic
    assert fit.slopes == pytest.approx((2e-3, -1e-3))
    assert fit.surface.height_um(100.0, 100.0) == pytest.approx(20.1)
    assert fit.residual_rms_um == pytest.approx(0.0, abs=1e-9)


def test_a_bowl_is_a_quadratic_and_its_hold_out_says_so() -> None:
    bowl = plane(0.02) + 3e-6 * (PLACES[:, 0] - 500) ** 2
    fit = fit_surface(PLACES, bowl, 50.0)
    assert fit.is_quadratic
    assert fit.surface.height_um(0.0, 0.0) == pytest.approx(20.0 + 0.75, abs=0.1)
    assert fit.other_hold_out_um is not None
    assert fit.hold_out_um < 0.3 * fit.other_hold_out_um


def test_noise_does_not_make_a_quadratic() -> None:
    chosen = [fit_surface(PLACES, plane(0.1), 50.0).is_quadratic for _ in range(40)]
    assert sum(chosen) <= 4


def test_the_hold_out_is_that_of_fits_without_the_place() -> None:
    heights = plane(0.1)
    errors = []
    for left_out in range(len(PLACES)):
        kept = np.arange(len(PLACES)) != left_out
        design = np.column_stack([np.ones(kept.sum()), PLACES[kept]])
        coefficients = np.linalg.lstsq(design, heights[kept])[0]
        errors.append(heights[left_out] - coefficients @ (1.0, *PLACES[left_out]))
    expected = float(np.sqrt(np.mean(np.square(errors))))
    assert fit_surface(PLACES, heights, 50.0).hold_out_um == pytest.approx(expected)


def test_a_speck_of_dirt_is_left_out() -> None:
    heights = plane(0.03)
    heights[4] += 6.0
    fit = fit_surface(PLACES, heights, 50.0)
    assert np.flatnonzero(np.isnan(fit.residual_um)).tolist() == [4]
    assert fit.slopes == pytest.approx((2e-3, -1e-3), abs=2e-4)


def test_stated_slopes_cover_the_truth() -> None:
    """400 slides: 95 % +- 4 binomial standard deviations of 1.1 %."""
    hits = 0
    for _ in range(400):
        fit = fit_surface(PLACES, plane(0.1), 50.0)
        hits += abs(fit.slopes[0] - 2e-3) <= 2 * fit.u_slopes[0]
    assert 0.90 <= hits / 400 <= 0.995


def test_nothing_is_told_beyond_the_places() -> None:
    surface = fit_surface(PLACES, plane(), 50.0).surface
    assert surface.beyond_um(500.0, 400.0) == pytest.approx(-400.0)
    assert surface.beyond_um(1030.0, 400.0) == pytest.approx(30.0)
    assert surface.height_um(1030.0, 400.0) == pytest.approx(20.0 + 2.06 - 0.4)
    with pytest.raises(CalibrationError, match=r"lies 100\.0 um outside.*50"):
        surface.height_um(500.0, 900.0)


def test_the_facts_are_the_surface() -> None:
    surface = fit_surface(PLACES, plane(0.1), 50.0).surface
    assert (
        FocusSurface.from_facts(json.loads(json.dumps(surface.as_facts()))) == surface
    )


def test_too_few_places_or_all_in_a_line() -> None:
    with pytest.raises(CalibrationError, match="4 places with a focus, at least 5"):
        fit_surface(PLACES[:4], plane()[:4], 50.0)
    line = np.column_stack([np.arange(6.0), np.arange(6.0)])
    with pytest.raises(CalibrationError, match="in one line"):
        fit_surface(line, np.zeros(6), 50.0)
