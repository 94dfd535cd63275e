"""The height of best focus over the slide: a plane, or a quadratic where that helps.

Pure. Each measured place is left out in turn and predicted from the others; a quadratic
is taken only if that gets better by it. A surface knows how far its places reach, and
refuses to tell what lies beyond.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import ConvexHull, QhullError

from bifocus.calib.uncertainty import fit_linear
from bifocus.errors import CalibrationError

Float64 = npt.NDArray[np.float64]

_LEAST_PLACES = 5  # a plane, and something left to contradict it
_LEAST_FOR_QUADRATIC = 9
# The quadratic must predict places it has not seen this much better.
_LEAST_GAIN = 0.8
_OUTLIER_MADS = 6.0
_MAD_TO_SD = 1.4826  # of a normal distribution
_LEAST_SD_UM = 0.05  # what a short stack is good to at best
_LARGEST_CUT = 0.2  # share of the places that may be dropped


@dataclass(frozen=True, slots=True, kw_only=True)
class FocusSurface:
    """Height of best focus over x, y in stage um.

    Attributes
    ----------
    origin_um
        Where the coefficients are counted from.
    coefficients
        Of 1, x, y and, for a quadratic, x^2, x y, y^2; x and y in mm from the origin,
        heights in um.
    hull_um
        Corners of the convex hull of the measured places, in order.
    margin_um
        How far beyond the hull heights are still told.
    """

    origin_um: tuple[float, float]
    coefficients: tuple[float, ...]
    hull_um: tuple[tuple[float, float], ...]
    margin_um: float

    def height_um(self, x_um: float, y_um: float) -> float:
        """Return the height of best focus at a place.

        Raises
        ------
        CalibrationError
            Beyond the hull and its margin.
        """
        beyond_um = self.beyond_um(x_um, y_um)
        if beyond_um > self.margin_um:
            low, high = np.min(self.hull_um, axis=0), np.max(self.hull_um, axis=0)
            msg = (
                f"focus surface: x {x_um:.1f}, y {y_um:.1f} um lies {beyond_um:.1f} um "
                f"outside the measured places (x {low[0]:.1f} to {high[0]:.1f}, y "
                f"{low[1]:.1f} to {high[1]:.1f} um), at most {self.margin_um:.1f} um "
                "are allowed; calibrate with a region that holds this place"
            )
            raise CalibrationError(msg)
        place = np.array([[x_um, y_um]])
        columns = _columns(place, self.origin_um, len(self.coefficients))
        return float((columns @ np.array(self.coefficients))[0])

    def beyond_um(self, x_um: float, y_um: float) -> float:
        """Return how far a place lies outside the hull; 0 or less inside."""
        corners = np.array(self.hull_um)
        edges = np.roll(corners, -1, axis=0) - corners
        # Corners run counter-clockwise about increasing y: outside is to the right.
        normals = np.stack([edges[:, 1], -edges[:, 0]], axis=1)
        normals /= np.linalg.norm(normals, axis=1)[:, None]
        return float(
            np.max(np.sum((np.array([x_um, y_um]) - corners) * normals, axis=1))
        )

    def as_facts(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "origin_um": list(self.origin_um),
            "coefficients": list(self.coefficients),
            "hull_um": [list(corner) for corner in self.hull_um],
            "margin_um": self.margin_um,
        }

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> "FocusSurface":
        """Return the surface that `as_facts` described."""
        x_um, y_um = facts["origin_um"]
        return cls(
            origin_um=(float(x_um), float(y_um)),
            coefficients=tuple(map(float, facts["coefficients"])),
            hull_um=tuple((float(x), float(y)) for x, y in facts["hull_um"]),
            margin_um=float(facts["margin_um"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SurfaceFit:
    """A surface and what speaks for it; heights in um, slopes at the origin in um/um.

    `residual_um` has NaN where a place was dropped as an outlier. `hold_out_um` is the
    RMS error at places left out in turn, `other_hold_out_um` that of the other model.
    """

    surface: FocusSurface
    is_quadratic: bool
    slopes: tuple[float, float]
    u_slopes: tuple[float, float]
    residual_um: Float64
    residual_rms_um: float
    hold_out_um: float
    other_hold_out_um: float | None


def fit_surface(
    places_um: Float64, heights_um: Float64, margin_um: float
) -> SurfaceFit:
    """Fit a plane or a quadratic to measured heights.

    Parameters
    ----------
    places_um
        Shape (places, 2), at least five, not in a line.
    heights_um
        Shape (places,).
    margin_um
        How far beyond the places the surface may be used.

    Raises
    ------
    CalibrationError
        If the places are too few or in a line.
    """
    count = heights_um.size
    if count < _LEAST_PLACES:
        msg = (
            f"focus surface: {count} places with a focus, at least {_LEAST_PLACES} are "
            "needed; choose a region with more tissue"
        )
        raise CalibrationError(msg)
    origin = places_um.mean(axis=0)
    origin_um = (float(origin[0]), float(origin[1]))
    hull_um = _hull(places_um)
    plane = _columns(places_um, origin_um, 3)
    kept = _keep(plane, heights_um)
    flat = _hold_out(plane[kept], heights_um[kept])
    curved = None
    if kept.sum() >= _LEAST_FOR_QUADRATIC:
        curved = _hold_out(_columns(places_um, origin_um, 6)[kept], heights_um[kept])
    is_quadratic = curved is not None and curved < _LEAST_GAIN * flat
    design = _columns(places_um, origin_um, 6 if is_quadratic else 3)
    fit = fit_linear(design[kept], heights_um[kept])
    hold_out_um = curved if is_quadratic and curved is not None else flat
    # What is no plane or quadratic shows in places left out more than in residuals.
    unseen = max(1.0, hold_out_um / max(fit.residual_sd, 1e-9))
    residual = heights_um - design @ fit.coefficients
    return SurfaceFit(
        surface=FocusSurface(
            origin_um=origin_um,
            coefficients=tuple(map(float, fit.coefficients)),
            hull_um=hull_um,
            margin_um=margin_um,
        ),
        is_quadratic=is_quadratic,
        slopes=(float(fit.coefficients[1]) / 1e3, float(fit.coefficients[2]) / 1e3),
        u_slopes=(unseen * float(fit.u[1]) / 1e3, unseen * float(fit.u[2]) / 1e3),
        residual_um=np.where(kept, residual, np.nan),
        residual_rms_um=_rms(residual[kept]),
        hold_out_um=hold_out_um,
        other_hold_out_um=flat if is_quadratic else curved,
    )


def _columns(places_um: Float64, origin_um: tuple[float, float], count: int) -> Float64:
    x, y = ((places_um - np.array(origin_um)) / 1e3).T
    return np.stack([np.ones(x.size), x, y, x * x, x * y, y * y][:count], axis=1)


def _keep(design: Float64, heights_um: Float64) -> npt.NDArray[np.bool_]:
    """Return which places are no outliers, as dirt on the cover glass would be."""
    count = heights_um.size
    kept = np.ones(count, bool)
    for _ in range(3):
        coefficients = np.linalg.lstsq(design[kept], heights_um[kept])[0]
        distance = np.abs(heights_um - design @ coefficients)
        sd_um = max(_MAD_TO_SD * float(np.median(distance)), _LEAST_SD_UM)
        found = distance <= _OUTLIER_MADS * sd_um
        if np.array_equal(found, kept) or (~found).sum() > _LARGEST_CUT * count:
            break
        kept = found
    return kept


def _hold_out(design: Float64, heights_um: Float64) -> float:
    """Return the RMS error at each place, predicted from all others.

    By the hat matrix H, without fitting again: residual / (1 - H_ii).
    """
    hat = design @ np.linalg.pinv(design)
    residual = heights_um - hat @ heights_um
    return _rms(residual / np.maximum(1 - np.diag(hat), 1e-9))


def _hull(places_um: Float64) -> tuple[tuple[float, float], ...]:
    try:
        corners = places_um[ConvexHull(places_um).vertices]
    except QhullError as error:
        msg = (
            "focus surface: all places with a focus lie in one line; choose a region "
            "with tissue in more of it"
        )
        raise CalibrationError(msg) from error
    return tuple((float(x), float(y)) for x, y in corners)


def _rms(values: Float64) -> float:
    return math.sqrt(float(np.mean(np.square(values))))
