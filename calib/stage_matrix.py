"""The camera-stage matrix and what it is made of. Pure mathematics.

A = F R(-t) S: a commanded motion is stretched by the stage's scales (S), seen under the
camera's angle t (x towards y positive), and turned over where the camera mirrors (F).
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bifocus.calib.field_walk import AxisTrace
from bifocus.calib.image_shift import FLOOR_PX
from bifocus.calib.uncertainty import LinearFit, fit_linear, root_sum_square

Float64 = npt.NDArray[np.float64]

_OUTLIER_MADS = 6.0  # of the scatter; one in 1e4 of normal values lies beyond 5.8
_MAD_TO_SD = 1.4826  # of a normal distribution
_LARGEST_CUT = 0.2  # share of the places that may be dropped


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisFit:
    """One column of the matrix, in px per commanded um, with standard uncertainties.

    Attributes
    ----------
    column_px, u_px
        Motion of the field in the picture (x, y).
    residual_um
        Places less the fit, in commanded um along the axis: upward, then downward; NaN
        where a place was dropped as an outlier.
    gap_um
        Downward less upward: the reversal value over the whole trace.
    """

    column_px: Float64
    u_px: Float64
    residual_um: Float64
    gap_um: float
    residual_sd_um: float
    n_dropped: int

    @property
    def length_px(self) -> float:
        """How far the field moves per commanded um."""
        return float(np.linalg.norm(self.column_px))

    @property
    def relative_u(self) -> float:
        """Standard uncertainty of that, as a share."""
        unit = self.column_px / self.length_px
        return float(np.linalg.norm(unit * self.u_px)) / self.length_px


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixParts:
    """What a matrix is made of; `rotation_mrad` lies within +-pi x 1000.

    Attributes
    ----------
    scale_x, scale_y
        Lengths of the columns.
    shear_mrad
        How far the axes are from a right angle.
    mirrored
        Whether the picture is a mirror image.
    """

    scale_x: float
    scale_y: float
    rotation_mrad: float
    shear_mrad: float
    mirrored: bool


def fit_trace(trace: AxisTrace, noise_px: float) -> AxisFit:
    """Fit one line to the upward and one to the downward run, with a common slope.

    Type A from the residuals; errors of successive shifts add up along a run, which
    residuals hide: a random walk of n steps of s px leaves 1.2 sd^2 / (n s^2) in its
    slope, half that in the slope of two runs.
    """
    places_um = np.concatenate([trace.up_um, trace.down_um])
    field_px = np.concatenate([trace.up_px, trace.down_px])
    is_down = np.repeat([0.0, 1.0], [trace.up_um.size, trace.down_um.size])
    design = np.stack(
        [np.ones(places_um.size), is_down, places_um - places_um.mean()], axis=1
    )
    kept = _keep(design, field_px)
    fits = [fit_linear(design[kept], field_px[kept, k]) for k in (0, 1)]
    column_px = np.array([fit.coefficients[2] for fit in fits])
    length_px = float(np.linalg.norm(column_px))
    steps = max(trace.up_um.size - 1, 1)
    link_px = math.hypot(noise_px * math.sqrt(0.6 / steps), FLOOR_PX)
    chain = link_px / trace.step_px * length_px
    residual = (field_px - _predict(design, fits)) @ column_px / length_px**2
    gap_px = np.array([fit.coefficients[1] for fit in fits])
    return AxisFit(
        column_px=column_px,
        u_px=np.array([root_sum_square([fit.u[2], chain]) for fit in fits]),
        residual_um=np.where(kept, residual, np.nan),
        gap_um=float(gap_px @ column_px) / length_px**2,
        residual_sd_um=float(residual[kept].std()),
        n_dropped=int((~kept).sum()),
    )


def take_apart(matrix: Float64) -> MatrixParts:
    """Return scales, rotation, shear and mirror of a 2x2 matrix.

    A mirrored picture is taken as turned over left to right or top to bottom, as
    leaves the smaller rotation.

    Examples
    --------
    >>> parts = take_apart(np.array([[-1.0, 0.0], [0.0, -1.0]]))
    >>> round(abs(parts.rotation_mrad)), parts.mirrored
    (3142, False)
    >>> take_apart(np.array([[1.0, 0.0], [0.0, -1.0]])).mirrored
    True
    """
    mirrored = bool(np.linalg.det(matrix) < 0)
    flips = [np.eye(2)]
    if mirrored:
        flips = [np.diag([-1.0, 1.0]), np.diag([1.0, -1.0])]
    lengths = np.linalg.norm(matrix, axis=0)
    angles = []
    for flip in flips:
        turned = flip @ matrix / lengths
        of_x = math.atan2(-turned[1, 0], turned[0, 0])
        of_y = math.atan2(turned[0, 1], turned[1, 1])
        shear = math.remainder(of_y - of_x, 2 * math.pi)
        angles.append((math.remainder(of_x + shear / 2, 2 * math.pi), shear))
    angle, shear = min(angles, key=lambda pair: abs(pair[0]))
    return MatrixParts(
        scale_x=float(lengths[0]),
        scale_y=float(lengths[1]),
        rotation_mrad=1e3 * angle,
        shear_mrad=1e3 * shear,
        mirrored=mirrored,
    )


def rotation_u_mrad(x: AxisFit, y: AxisFit) -> float:
    """Return the standard uncertainty of the mean angle of two columns."""
    parts = []
    for fit in (x, y):
        across = np.array([-fit.column_px[1], fit.column_px[0]]) / fit.length_px
        parts.append(float(np.linalg.norm(across * fit.u_px)) / fit.length_px)
    return 1e3 * root_sum_square(parts) / 2


def _keep(design: Float64, field_px: Float64) -> npt.NDArray[np.bool_]:
    """Return which places are no outliers, by the median of the residuals."""
    count = design.shape[0]
    kept = np.ones(count, bool)
    for _ in range(3):
        fits = [np.linalg.lstsq(design[kept], column[kept])[0] for column in field_px.T]
        residual = np.linalg.norm(field_px - design @ np.stack(fits, axis=1), axis=1)
        sd_px = max(_MAD_TO_SD * float(np.median(residual)), 2 * FLOOR_PX)
        found = residual <= _OUTLIER_MADS * sd_px
        if np.array_equal(found, kept) or (~found).sum() > _LARGEST_CUT * count:
            break
        kept = found
    return kept


def _predict(design: Float64, fits: list[LinearFit]) -> Float64:
    return np.stack([design @ fit.coefficients for fit in fits], axis=1)
