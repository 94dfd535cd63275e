"""Against printed tables of Student's t, closed forms, and chance itself."""

import numpy as np
import pytest

from bifocus.calib.uncertainty import (
    fit_linear,
    root_sum_square,
    student_factor,
    uniform_u,
    widened,
)
from bifocus.errors import CalibrationError

# Two-sided 95 %: JCGM 100:2008 (the GUM), table G.2.
TABLE_G2 = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 8: 2.31, 10: 2.23, 50: 2.01}


@pytest.mark.parametrize(("degrees", "factor"), TABLE_G2.items())
def test_student_as_the_gum_prints_it(degrees: int, factor: float) -> None:
    assert student_factor(degrees) == pytest.approx(factor, abs=0.0051)


def test_no_freedom_is_refused() -> None:
    with pytest.raises(CalibrationError, match="repeat more often"):
        student_factor(0)


def test_many_repeats_need_hardly_any_widening() -> None:
    assert widened(1.0, 1e9) == pytest.approx(1.95996 / 2, abs=1e-4)


def test_the_mean_as_a_fit_is_the_mean() -> None:
    """The textbook: u = s / sqrt(n), widened by t(4) / 2 = 1.388."""
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    fit = fit_linear(np.ones((5, 1)), values)
    assert fit.coefficients == pytest.approx([3.0])
    sd = 2.5**0.5
    assert fit.residual_sd == pytest.approx(sd)
    assert fit.u == pytest.approx([sd / 5**0.5 * 2.7764 / 2], rel=1e-4)


def test_slope_and_intercept_as_a_textbook_has_them() -> None:
    """u(b) = s / sqrt(Sxx): x = -2..2, residuals as given."""
    x = np.arange(-2.0, 3.0)
    residual = np.array([0.1, -0.2, 0.0, 0.2, -0.1])  # sums to 0, x-weighted 0.2
    values = 1.0 + 0.5 * x + residual
    fit = fit_linear(np.stack([np.ones(5), x], axis=1), values)
    slope = 0.5 + float(x @ residual) / 10
    left = values - 1.0 - slope * x
    sd = float(left @ left / 3) ** 0.5
    assert fit.coefficients == pytest.approx([1.0, slope])
    assert fit.u == pytest.approx(
        [sd / 5**0.5 * 3.1824 / 2, sd / 10**0.5 * 3.1824 / 2], rel=1e-4
    )


@pytest.mark.parametrize("count", [3, 5, 12])
def test_two_u_cover_19_of_20(count: int) -> None:
    """4000 draws: 95 % to within 1.1 % (3 sd of the count)."""
    rng = np.random.default_rng(count)
    inside = 0
    for _ in range(4000):
        fit = fit_linear(np.ones((count, 1)), rng.normal(7.0, 0.3, count))
        inside += abs(fit.coefficients[0] - 7.0) <= 2 * fit.u[0]
    assert inside / 4000 == pytest.approx(0.95, abs=0.011)


def test_sums_and_widths() -> None:
    assert root_sum_square([0.3, 0.4, 1.2]) == pytest.approx(1.3)
    draws = np.random.default_rng(0).uniform(0, 0.5, 200_000)
    assert uniform_u(0.5) == pytest.approx(float(draws.std()), rel=0.01)
