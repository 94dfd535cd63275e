"""How well a stack tells its optics, all in all.

Blocks of the field are left out in turn (to first order: one Newton step), so that
relief, texture and noise count and no curvature is believed; what the planes' scatter
does comes from the joint fit. On top comes what the model itself misses.
"""

import numpy as np
import numpy.typing as npt

from bifocus.calib.optics_planes import PRIOR_SD, PlaneFit
from bifocus.calib.uncertainty import limits_u, student_factor

Float64 = npt.NDArray[np.float64]

# What windowed blocks and the model itself add (k = 1); `bench.na_coverage` counts.
_MODEL_U = np.array([0.003, 0.005, 0.006, 0.006, 0.02])
# Tissue some depth thick has its planes mixed, as a smaller NA would: by 0.25 to 0.3 of
# (sd of its heights / unit of defocus)^2 of the NA (the presets). It is not known to be
# thinner than 0.4 um between its faces, with nothing in between.
_THICK_SHARE, _THICK_SD_UM = 0.3, 0.2


def estimate_uncertainty(found: PlaneFit) -> tuple[Float64, Float64]:
    """Return the u of the point, and each colour's own (NA, spherical), (3, 2)."""
    search = found.search
    point = search.point
    covariance = found.covariance + _left_out(found.by_block) * search.evidence.overlap
    model = _MODEL_U[: point.size].copy()
    thick = _THICK_SHARE * (_THICK_SD_UM / search.unit_um) ** 2
    model[0] = np.hypot(model[0], limits_u(float(point[0]) * thick))
    return np.sqrt(np.diag(covariance) + model**2), _by_colour(found)


def _by_colour(found: PlaneFit) -> Float64:
    """Return what each colour alone says of NA and aberration, planes and rest kept."""
    point = found.search.point
    gradient, hessian = found.search.derivatives()
    prior = np.diag(PRIOR_SD[:2] ** -2)
    colours = np.empty((3, 2))
    for colour in range(3):
        own = hessian[:2, :2, :, colour].sum(axis=2) + prior
        pull = gradient[:2, :, colour].sum(axis=1)
        colours[colour] = point[:2] - np.linalg.pinv(own) @ pull
    return colours


def _left_out(moves: Float64) -> Float64:
    """Return the covariance of a sum of independent moves, shape (parameters, parts).

    Scaled by Student's factor, since there are few parts.
    """
    count = moves.shape[1]
    centred = moves - moves.mean(axis=1, keepdims=True)
    factor = student_factor(count - 1) / 2
    return np.asarray(factor**2 * count / (count - 1) * centred @ centred.T)
