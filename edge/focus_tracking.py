"""The focus surface that a scan follows, learned from the tiles' own focal offsets.

A plane, refitted for every tile with weights that fall with distance and with each
measurement's uncertainty, and robustly, so that a fold or a speck of dust does not bend
it. With few tiles the slopes are held near zero: a level slide is the prior.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

# Slides lie within a few mrad of level: the prior sd of each slope.
PRIOR_SLOPE_MRAD = 5.0
# Relief of section and glass: what a plane cannot follow over `REACH_TILES` tiles.
RELIEF_SD_UM = 0.3
REACH_TILES = 2.5
_MEMORY = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class SurfacePlane:
    """A plane of best focus: height at (0, 0) and slopes, 1 mrad = 1 um per mm."""

    z0_um: float
    slope_x_mrad: float
    slope_y_mrad: float

    def height_um(self, x_um: float, y_um: float) -> float:
        """Return the plane's height at a stage position."""
        return self.z0_um + (self.slope_x_mrad * x_um + self.slope_y_mrad * y_um) / 1e3


class FocusTracker:
    """Predicts the focus of the next tile from those already measured.

    Parameters
    ----------
    first
        (x, y, z) of the calibrated focus, with which the surface begins.
    step_um
        Typical distance between tiles, the scale of "near".
    """

    def __init__(self, first: tuple[float, float, float], step_um: float) -> None:
        self._step_um = step_um
        self._places: list[tuple[float, float]] = [first[:2]]
        self._heights_um: list[float] = [first[2]]
        self._sds_um: list[float] = [0.3]

    @property
    def n_measured(self) -> int:
        """Tiles that have taught the surface, besides the calibration."""
        return len(self._heights_um) - 1

    def add(self, x_um: float, y_um: float, height_um: float, sd_um: float) -> None:
        """Learn the best focus of one tile and its standard uncertainty."""
        self._places.append((x_um, y_um))
        self._heights_um.append(height_um)
        self._sds_um.append(sd_um)

    def predict_um(self, x_um: float, y_um: float) -> float:
        """Return the expected best focus at a place."""
        return self._fit(x_um, y_um, REACH_TILES * self._step_um).height_um(x_um, y_um)

    def fit_plane(self) -> SurfacePlane:
        """Return the plane through the whole slide, for reports."""
        middle = np.mean(self._places, axis=0)
        return self._fit(float(middle[0]), float(middle[1]), float("inf"))

    def _fit(self, x_um: float, y_um: float, reach_um: float) -> SurfacePlane:
        away_um = np.asarray(self._places) - (x_um, y_um)
        distance_um = np.hypot(away_um[:, 0], away_um[:, 1])
        if reach_um < float("inf") and len(distance_um) > _MEMORY:
            chosen = np.argpartition(distance_um, _MEMORY)[:_MEMORY]
        else:
            chosen = np.arange(len(distance_um))
        nearness = np.exp(-0.5 * (distance_um[chosen] / reach_um) ** 2) + 1e-4
        variance = np.asarray(self._sds_um)[chosen] ** 2 + RELIEF_SD_UM**2
        level_um, slopes = _robust_plane(
            away_um[chosen],
            np.asarray(self._heights_um)[chosen],
            nearness / variance,
        )
        return SurfacePlane(
            z0_um=float(level_um - slopes @ (x_um, y_um)),
            slope_x_mrad=float(slopes[0] * 1e3),
            slope_y_mrad=float(slopes[1] * 1e3),
        )


def _robust_plane(
    away_um: Float64, height_um: Float64, weight: Float64
) -> tuple[float, Float64]:
    """Weighted plane with Cauchy re-weighting; returns the level and the two slopes."""
    columns: Float64 = np.column_stack([np.ones(len(away_um)), away_um])
    prior: Float64 = np.diag([0.0, 1.0, 1.0]) / (PRIOR_SLOPE_MRAD * 1e-3) ** 2
    robust: Float64 = np.ones(len(away_um))
    solution: Float64 = np.zeros(3)
    for _ in range(6):
        w = weight * robust
        normal = columns.T @ (columns * w[:, None]) + prior
        right = columns.T @ (w * height_um)
        solution = np.asarray(np.linalg.solve(normal, right), dtype=np.float64)
        residual = height_um - columns @ solution
        scale = max(2 * 1.4826 * float(np.median(np.abs(residual))), RELIEF_SD_UM)
        robust = 1 / (1 + (residual / scale) ** 2)
    return float(solution[0]), solution[1:]
