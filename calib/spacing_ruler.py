"""Heights of single pictures, read from sharpness against a z-stack. Pure.

On both flanks of the focus curve sharpness tells the height: the logarithm of a few
stacks' curves, laid upon each other by their peaks, is a polynomial in z, and where it
has the value of a picture, there the picture was taken. Lower pictures are looked for
on the lower flank, higher ones on the upper.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bifocus.calib.uncertainty import fit_linear, widened
from bifocus.errors import CalibrationError

Float64 = npt.NDArray[np.float64]

_DEGREE = 6
_GRID = 801
# Planes whose sharpness has fallen to this share of the peak tell nothing more.
_LEAST_SHARE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class SharpnessRuler:
    """The logarithm of sharpness as a polynomial in height over the focus.

    Attributes
    ----------
    reach_um
        The polynomial holds from -reach to +reach.
    coefficients
        Of powers 0.. of height / reach.
    inverse
        Inverse of the normal matrix, for the uncertainty of a value.
    residual_sd
        Scatter of one plane's logarithm about it.
    degrees
        Degrees of freedom of that.
    """

    reach_um: float
    coefficients: Float64
    inverse: Float64
    residual_sd: float
    degrees: int

    def value(self, above_um: Float64) -> Float64:
        """Return log sharpness at heights over the focus."""
        result: Float64 = _powers(above_um / self.reach_um) @ self.coefficients
        return result

    def slope_per_um(self, above_um: float) -> float:
        """Return d log sharpness / dz."""
        step_um = self.reach_um * 1e-4
        low, high = self.value(np.array([above_um - step_um, above_um + step_um]))
        return float(high - low) / (2 * step_um)

    def height_um(self, log_sharpness: float, *, is_upper: bool) -> float:
        """Return where on a flank the curve has a value; its ends beyond that.

        A value above the curve's own maximum is at its peak.
        """
        grid_um = np.asarray(
            np.linspace(-self.reach_um, self.reach_um, _GRID), dtype=np.float64
        )
        curve = self.value(grid_um)
        best = int(np.argmax(curve))
        flank = slice(best, None) if is_upper else slice(best, None, -1)
        # Downhill from the peak, as far as it goes downhill.
        downhill = np.minimum.accumulate(curve[flank])
        return float(np.interp(-log_sharpness, -downhill, grid_um[flank]))

    def u_um(self, above_um: float) -> float:
        """Return the standard uncertainty of a height from that of the curve."""
        row = _powers(np.array([above_um / self.reach_um]))[0]
        sd = self.residual_sd * float(row @ self.inverse @ row) ** 0.5
        return widened(sd, self.degrees) / max(abs(self.slope_per_um(above_um)), 1e-9)


def make_ruler(
    heights_um: Sequence[Float64], sharpness: Sequence[Float64], *, reach_um: float
) -> SharpnessRuler:
    """Fit a ruler to some stacks.

    Parameters
    ----------
    heights_um
        Of each stack's planes over its own peak.
    sharpness
        Of the planes, noise bias removed.
    reach_um
        How far from the peak it shall hold, to both sides.

    Raises
    ------
    CalibrationError
        If there are too few planes within reach.
    """
    z_um = np.concatenate(list(heights_um))
    curve = np.concatenate(list(sharpness))
    near = (np.abs(z_um) <= reach_um) & (curve > _LEAST_SHARE * curve.max())
    if int(near.sum()) <= _DEGREE + 2:
        msg = (
            f"only {int(near.sum())} planes within {reach_um:.2f} um of the focus, "
            f"at least {_DEGREE + 3} are needed to read heights from sharpness; set "
            "calibration.fine_step_um smaller, or repeats higher"
        )
        raise CalibrationError(msg)
    design = _powers(z_um[near] / reach_um)
    fit = fit_linear(design, np.log(curve[near]))
    return SharpnessRuler(
        reach_um=reach_um,
        coefficients=fit.coefficients,
        inverse=np.asarray(np.linalg.pinv(design.T @ design), dtype=np.float64),
        residual_sd=fit.residual_sd,
        degrees=fit.degrees,
    )


def _powers(share: Float64) -> Float64:
    result: Float64 = share[:, None] ** np.arange(_DEGREE + 1)
    return result
