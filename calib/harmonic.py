"""The error of a screw that repeats with every motor turn. Pure."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bifocus.calib.magnitude import debiased_length
from bifocus.calib.uncertainty import fit_linear, root_sum_square
from bifocus.errors import CalibrationError

Float64 = npt.NDArray[np.float64]

_LEAST_PER_TURN = 5.0  # places: two of the harmonic, and what tells it from a line


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodicError:
    """error = amplitude sin(2 pi place / turn + phase), of a true sine.

    `residual_um` is what is left of the places besides a line and this.
    """

    amplitude_um: float
    u_um: float
    phase_rad: float
    turn_um: float
    turns: float
    residual_um: float


def fit_periodic(
    places_um: Float64, deviations_um: Float64, *, turn_um: float, link_um: float
) -> PeriodicError:
    """Fit a line and one harmonic of the motor's turn.

    Parameters
    ----------
    places_um, deviations_um
        Commanded places, and actual less commanded ones; a slope is no error here.
    turn_um
        Commanded travel of one motor turn.
    link_um
        Standard deviation of one image shift; shifts add up along the places, and that
        random walk looks like slow waves.

    Raises
    ------
    CalibrationError
        If the places cover less than a turn, or are too few.
    """
    turns = float(np.ptp(places_um)) / turn_um
    if turns < 1 or places_um.size / turns < _LEAST_PER_TURN:
        msg = (
            f"periodic error: {places_um.size} places over {turns:.2f} motor turns; "
            f"at least one turn with {_LEAST_PER_TURN:.0f} places each is needed: "
            "choose a wider region, or correct calibration.motor_turn_um"
        )
        raise CalibrationError(msg)
    angle = 2 * math.pi * places_um / turn_um
    columns = [np.ones(places_um.size), places_um - places_um.mean()]
    design = np.stack([*columns, np.sin(angle), np.cos(angle)], axis=1)
    fit = fit_linear(design, deviations_um)
    # A random walk of n steps over c cycles has sd sqrt(2 n) / (2 pi c) in a harmonic.
    walk_um = link_um * math.sqrt(2 * places_um.size) / (2 * math.pi * turns)
    sine, cosine = map(float, fit.coefficients[2:])
    u = [root_sum_square([float(value), walk_um]) for value in fit.u[2:]]
    amplitude_um, u_um = debiased_length([sine, cosine], u)
    return PeriodicError(
        amplitude_um=amplitude_um,
        u_um=u_um,
        phase_rad=math.atan2(cosine, sine),
        turn_um=turn_um,
        turns=turns,
        residual_um=fit.residual_sd,
    )
