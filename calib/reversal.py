"""Play of an axis from places found in both directions. Pure.

The reversal value B is how much further down the motor must go to bring the glass to a
place from above than it must go up to from below: B = mean(up) - mean(down) in
commanded um, positive for ordinary play. It is the whole gap, not half of it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import chdtri

from bifocus.calib.uncertainty import fit_linear, root_sum_square, uniform_u

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reversal:
    """What repeated approaches from both sides say.

    Attributes
    ----------
    backlash_um, u_um
        The reversal value; +- 2 u covers 95 %.
    drift_um_per_hour, drift_u_um_per_hour
        Of the place, in commanded um.
    scatter_um
        Standard deviation of one place about the fit.
    up_um
        The place approached from below, in the middle of the series.
    reference_s
        That time.
    """

    backlash_um: float
    u_um: float
    drift_um_per_hour: float
    drift_u_um_per_hour: float
    scatter_um: float
    up_um: float
    reference_s: float


def abba(blocks: int) -> tuple[bool, ...]:
    """Return in which order to go: up, down, down, up, and so on; True is down.

    A linear drift then moves both directions alike.

    Examples
    --------
    >>> abba(1)
    (False, True, True, False)
    """
    return (False, True, True, False) * blocks


def estimate_reversal(
    places_um: Float64,
    times_s: Float64,
    is_down: npt.NDArray[np.bool_],
    *,
    motor_step_um: float,
) -> Reversal:
    """Fit place = up - B [down] + drift time.

    Parameters
    ----------
    places_um
        Commanded places at which the same view was found, shape (approaches,).
    times_s
        When.
    is_down
        Which approaches came from above.
    motor_step_um
        The stage's step, within which a place is not known.

    Raises
    ------
    CalibrationError
        If there are fewer than four approaches.
    """
    reference_s = float(times_s.mean())
    hours = (times_s - reference_s) / 3600
    design = np.stack([np.ones(hours.size), -1.0 * is_down, hours], axis=1)
    fit = fit_linear(design, places_um)
    per_direction = min(int(is_down.sum()), int((~is_down).sum()))
    step_u_um = uniform_u(motor_step_um) * (2 / max(per_direction, 1)) ** 0.5
    return Reversal(
        backlash_um=float(fit.coefficients[1]),
        u_um=root_sum_square([float(fit.u[1]), step_u_um]),
        drift_um_per_hour=float(fit.coefficients[2]),
        drift_u_um_per_hour=float(fit.u[2]),
        scatter_um=fit.residual_sd,
        up_um=float(fit.coefficients[0]),
        reference_s=reference_s,
    )


def estimate_spread(places_um: Float64, times_s: Float64) -> tuple[float, float]:
    """Return how a stage scatters about a place it returns to, and the u of that.

    Parameters
    ----------
    places_um
        By two looks at each return, shape (returns, 2): what differs between them is
        the looking, not the stage, and is taken off.
    times_s
        Of each return; a linear drift is taken off.

    Raises
    ------
    CalibrationError
        If there are fewer than three returns.
    """
    count = len(places_um)
    mean_um = places_um.mean(axis=1)
    looking = float(np.mean((places_um[:, 0] - places_um[:, 1]) ** 2)) / 2
    design = np.stack([np.ones(count), times_s - times_s.mean()], axis=1)
    fit = fit_linear(design, mean_um)
    total = fit.residual_sd**2
    spread_um = max(total - looking / 2, 0.0) ** 0.5
    # Sample spreads come out too small more than too large: by chi-square 95 % of them
    # lie less than 2 u below the true one. Looking adds little to that.
    share = ((fit.degrees / float(chdtri(fit.degrees, 0.95))) ** 0.5 - 1) / 2
    u_um = share * total / max(spread_um, (share * total) ** 0.5, 1e-12)
    return spread_um, u_um
