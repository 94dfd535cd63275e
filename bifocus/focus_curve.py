"""Best focus from a curve of sharpness against z: pure mathematics, no devices.

The estimator is a parabola through the logarithm of the highest plane and its two
neighbours. Against the alternatives it has the least bias under spherical aberration
(argmax costs 0.28 of a step; a Gaussian through all planes is pulled by -0.16 um at a
quarter wave), and it needs no background level.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bifocus.errors import CalibrationError

Float64 = npt.NDArray[np.float64]

# The peak must stand out of the curve's low end by this factor; a stack of blank glass
# or of a field without detail stays under 1.1.
LEAST_PROMINENCE = 1.3
# Sharpness in units of the noise's own Brenner value (2 s^2) that counts as texture.
LEAST_TEXTURE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class FocusFit:
    """Result of one stack.

    Attributes
    ----------
    focus_um
        Interpolated position of the peak.
    prominence
        Peak divided by the lower quartile of the curve; infinite if that is zero.
    is_peak_inside
        Whether the highest plane has a neighbour on both sides.
    """

    focus_um: float
    prominence: float
    is_peak_inside: bool
    best_index: int


def fit_focus(z_um: Float64, sharpness: Float64) -> FocusFit:
    """Return the best focus of a stack.

    Parameters
    ----------
    z_um
        Plane positions, ascending, evenly spaced, at least 5.
    sharpness
        One positive number a plane, noise bias removed.

    Returns
    -------
    FocusFit
        With an edge peak, `focus_um` is that edge and `is_peak_inside` is False.

    Raises
    ------
    CalibrationError
        If there are too few planes, or they do not ascend.

    Examples
    --------
    >>> import numpy as np
    >>> z = np.arange(-3.0, 3.5, 0.5)
    >>> round(fit_focus(z, np.exp(-((z - 0.2) ** 2))).focus_um, 6)
    0.2
    """
    if z_um.size < 5 or z_um.shape != sharpness.shape:
        msg = f"a focus curve needs at least 5 planes, got {z_um.size}"
        raise CalibrationError(msg)
    if not np.all(np.diff(z_um) > 0):
        msg = "the planes of a focus curve must ascend in z"
        raise CalibrationError(msg)
    best = int(np.argmax(sharpness))
    low = float(np.quantile(sharpness, 0.25))
    prominence = float(sharpness[best]) / low if low > 0 else float("inf")
    inside = 0 < best < z_um.size - 1
    focus_um = float(z_um[best])
    if inside:
        focus_um += _peak_shift(sharpness[best - 1 : best + 2]) * float(
            z_um[best + 1] - z_um[best]
        )
    return FocusFit(
        focus_um=focus_um,
        prominence=prominence,
        is_peak_inside=inside,
        best_index=best,
    )


def check_stack(fit: FocusFit, texture: float, where: str) -> None:
    """Refuse a stack that does not show one focus.

    Parameters
    ----------
    fit
        The fit of the stack.
    texture
        Peak sharpness over the noise's own Brenner value.
    where
        The place, for the message.

    Raises
    ------
    CalibrationError
        If the stack is blank or flat.
    """
    if texture < LEAST_TEXTURE:
        msg = (
            f"{where}: no texture to focus on: the sharpest plane has "
            f"{texture:.2f} times the noise's own sharpness, "
            f"at least {LEAST_TEXTURE} is needed; move to tissue"
        )
        raise CalibrationError(msg)
    if fit.prominence < LEAST_PROMINENCE:
        msg = (
            f"{where}: the focus curve is flat: its peak is {fit.prominence:.2f} times "
            f"its low end, at least {LEAST_PROMINENCE} is needed; "
            "widen the range, or move to tissue with detail"
        )
        raise CalibrationError(msg)


def _peak_shift(three: Float64) -> float:
    """Return the vertex of the parabola through log(three), in steps."""
    left, middle, right = np.log(np.maximum(three, 1e-12))
    curvature = left - 2 * middle + right
    if curvature >= 0:
        return 0.0
    return float(np.clip(0.5 * (left - right) / curvature, -0.5, 0.5))
