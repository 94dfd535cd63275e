"""From the peaks of repeated stacks to one focus with its uncertainty. Pure.

The peaks follow a line in time (drift) about which they scatter: noise, a stage that
returns a little elsewhere each time, and the interpolation between planes, whose error
differs from stack to stack because their planes do. That is type A. Type B are what
all stacks have in common: the skew of the curve, and the stage's step.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bifocus.calib.uncertainty import fit_linear, root_sum_square, uniform_u

Float64 = npt.NDArray[np.float64]

# The log-parabola is pulled by the skew of the curve as the Gaussian is, and by no
# more than this share of what the two differ by: noise-free stacks of NA 0.4 to 0.95,
# spherical aberration to +-0.25 waves, condenser 0.6 and 1, planes DOF/3 apart.
SKEW_SHARE = 0.2
# Fewer repeats leave too little to tell a drift from scatter.
_LEAST_FOR_DRIFT = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class FocusEstimate:
    """One focus from several stacks.

    Attributes
    ----------
    focus_um
        At the time `reference_s`, the middle of the stacks.
    u_um
        Standard uncertainty; +- 2 u covers 95 %.
    drift_um_per_hour, drift_u_um_per_hour
        Of the focus; None from fewer than four stacks.
    asymmetry_um
        Gaussian less log-parabola: 0 for a symmetric curve.
    scatter_um
        Standard deviation of one stack about the drift; None from one stack.
    budget_um
        The standard uncertainties that `u_um` is made of.
    """

    focus_um: float
    u_um: float
    reference_s: float
    drift_um_per_hour: float | None
    drift_u_um_per_hour: float | None
    asymmetry_um: float
    scatter_um: float | None
    budget_um: dict[str, float]


def estimate_focus(
    peaks_um: Float64,
    times_s: Float64,
    gaussians_um: Float64,
    *,
    plane_um: float,
    motor_step_um: float,
) -> FocusEstimate:
    """Return the focus that some stacks agree on.

    Parameters
    ----------
    peaks_um, gaussians_um
        By both estimators, shape (stacks,).
    times_s
        When each stack passed its peak.
    plane_um
        Distance of the planes: with one stack alone, a quarter is its uncertainty.
    motor_step_um
        The stage's step, within which a plane is not known.
    """
    count = peaks_um.size
    reference_s = float(times_s.mean())
    drift = drift_u = scatter_um = None
    if count == 1:
        focus_um, random_um = float(peaks_um[0]), plane_um / 4
    else:
        hours = (times_s - reference_s) / 3600
        columns = [np.ones(count), hours]
        with_drift = count >= _LEAST_FOR_DRIFT and float(np.ptp(hours)) > 0
        fit = fit_linear(np.stack(columns[: 1 + with_drift], axis=1), peaks_um)
        focus_um, random_um = float(fit.coefficients[0]), float(fit.u[0])
        scatter_um = fit.residual_sd
        if with_drift:
            drift, drift_u = float(fit.coefficients[1]), float(fit.u[1])
    asymmetry_um = float((gaussians_um - peaks_um).mean())
    budget_um = {
        "scatter of the repeats": random_um,
        "skew of the curve": SKEW_SHARE * abs(asymmetry_um),
        "motor step": uniform_u(motor_step_um) / count**0.5,
    }
    return FocusEstimate(
        focus_um=focus_um,
        u_um=root_sum_square(list(budget_um.values())),
        reference_s=reference_s,
        drift_um_per_hour=drift,
        drift_u_um_per_hour=drift_u,
        asymmetry_um=asymmetry_um,
        scatter_um=scatter_um,
        budget_um=budget_um,
    )
