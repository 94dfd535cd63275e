"""Uncertainty of what repeats say: Student's factor, line fits, sums. Pure statistics.

Every calibrated value is stated as value +- 2 u for about 95 % (the GUM, JCGM 100:2008,
with k = 2). Few repeats scatter by chance little or much, so the standard deviation of
their mean is widened by Student's factor over two, and 2 u covers 95 % all the same.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from bifocus.errors import CalibrationError

Float64 = npt.NDArray[np.float64]

COVERAGE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearFit:
    """Least squares of `values = design @ coefficients`.

    Attributes
    ----------
    coefficients
        One for each column of the design.
    u
        Their standard uncertainties, widened by Student's factor: coefficient +- 2 u
        covers 95 %.
    residual_sd
        Scatter of one value about the fit.
    degrees
        Degrees of freedom: values less coefficients.
    """

    coefficients: Float64
    u: Float64
    residual_sd: float
    degrees: int


def student_factor(degrees: float) -> float:
    """Return the two-sided factor of Student's t for 95 %.

    Examples
    --------
    >>> round(student_factor(4), 3)
    2.776
    """
    if not degrees > 0:
        msg = f"no degrees of freedom are left ({degrees}): repeat more often"
        raise CalibrationError(msg)
    return float(stdtrit(degrees, (1 + COVERAGE) / 2))


def widened(sd_of_mean: float, degrees: float) -> float:
    """Return the standard uncertainty u for which +- 2 u covers 95 %."""
    return sd_of_mean * student_factor(degrees) / 2


def fit_linear(design: Float64, values: Float64) -> LinearFit:
    """Fit by least squares, with type-A uncertainties from the residuals alone.

    Parameters
    ----------
    design
        Shape (values, coefficients), of full rank.
    values
        Measured, all equally uncertain.

    Raises
    ------
    CalibrationError
        If there are no more values than coefficients.
    """
    count, columns = design.shape
    factor = student_factor(count - columns)
    inverse = np.linalg.pinv(design)
    coefficients = inverse @ values
    residual = values - design @ coefficients
    sd = math.sqrt(float(residual @ residual) / (count - columns))
    # The rows of the pseudo-inverse say what each value counts for in a coefficient.
    u = sd * np.sqrt(np.sum(inverse**2, axis=1)) * factor / 2
    return LinearFit(
        coefficients=coefficients, u=u, residual_sd=sd, degrees=count - columns
    )


def root_sum_square(parts: Sequence[float]) -> float:
    """Return the standard uncertainty of a sum of independent parts.

    Examples
    --------
    >>> root_sum_square([3.0, 4.0])
    5.0
    """
    return math.hypot(*parts)


def uniform_u(full_width: float) -> float:
    """Return the standard uncertainty of something evenly spread over a width.

    Examples
    --------
    >>> round(uniform_u(1.0), 4)
    0.2887
    """
    return full_width / math.sqrt(12)


def limits_u(half_width: float) -> float:
    """Return u for something known to lie within +- a limit, so that 2 u covers 95 %.

    Examples
    --------
    >>> limits_u(1.0)
    0.475
    """
    return COVERAGE * half_width / 2
