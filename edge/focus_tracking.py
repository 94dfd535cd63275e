"""The focus surface that a scan follows, learned from the tiles' own focal offsets.

The surface is a Gaussian process (`bifocus.edge.focus_process`) on the tiles nearest to
the next one. How uneven the slide is shows while scanning: several kinds of relief
compete, and the one that has lately predicted best is believed. A tile far off its
prediction (dust, a fold, a wrong reading) is set aside; where three in a row agree that
the level has changed, they are a step, and the level is learned anew.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from bifocus.edge.focus_process import (
    TILE_SD_UM,
    Heights,
    Place,
    Prediction,
    Relief,
    predict_height,
)

Float64 = npt.NDArray[np.float64]

Verdict = Literal["learned", "suspect", "step"]

# Kinds of relief, (sd in um, length in tiles): from float glass to a section that lies
# in folds. The slopes between tiles run from 0.05 to 0.8 um.
_RELIEFS = ((0.3, 3), (1, 6), (3, 6), (1, 12), (5, 12), (15, 24), (5, 48))
# Tiles that a prediction rests on: two rows on both sides of a tile and more.
_NEAREST = 40
# Past predictions count less and less: a memory of about 50 tiles.
_FORGETTING = 0.98
# Students's t with so many degrees of freedom, for errors with heavy tails.
_DEGREES = 4
# Kinds of relief that have predicted nearly as well as the best are not ruled out yet.
_PLAUSIBLE_NATS = 6.0
# A tile so many standard deviations off is set aside; so many in a row are a step.
_SUSPECT_SD = 4.0
_STEP_TILES = 3
# Of the calibrated focus when a scan begins: the slide may have been taken out since.
_FIRST_SD_UM = 3.0
# Relief that no plane can follow, for the report's robust fit.
_PLANE_SD_UM = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class SurfacePlane:
    """A plane of best focus: height at (0, 0) and slopes, 1 mrad = 1 um per mm."""

    z0_um: float
    slope_x_mrad: float
    slope_y_mrad: float

    def height_um(self, x_um: float, y_um: float) -> float:
        """Return the plane's height at a stage position."""
        return self.z0_um + (self.slope_x_mrad * x_um + self.slope_y_mrad * y_um) / 1e3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tile:
    x_um: float
    y_um: float
    at_s: float
    height_um: float
    sd_um: float


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
        self._reliefs = tuple(
            Relief(sd_um=sd_um, length_um=tiles * step_um) for sd_um, tiles in _RELIEFS
        )
        self._scores = np.zeros(len(self._reliefs))
        self._rows: Float64 = np.empty((64, 6))
        self._count = 0
        self._epoch = 0
        self._now_s = float("-inf")
        self._suspects: list[tuple[_Tile, bool]] = []
        self._first = first
        self._step_um = step_um

    @property
    def step_um(self) -> float:
        """Typical distance between tiles."""
        return self._step_um

    @property
    def known_place(self) -> tuple[float, float]:
        """Where the calibrated focus was found."""
        return self._first[0], self._first[1]

    @property
    def is_in_doubt(self) -> bool:
        """Whether the last tile was set aside: dust, or the begin of a step."""
        return bool(self._suspects)

    @property
    def n_measured(self) -> int:
        """Tiles that have taught the surface, besides the calibration."""
        return max(self._count - 1, 0)

    @property
    def n_steps(self) -> int:
        """Steps of level noticed so far."""
        return self._epoch

    def predict_um(self, x_um: float, y_um: float) -> float:
        """Return the expected best focus at a place, now."""
        return self.predict(x_um, y_um).height_um

    def predict(
        self, x_um: float, y_um: float, at_s: float | None = None
    ) -> Prediction:
        """Return the expected best focus at a place and time, with its uncertainty.

        Without `at_s`, the time is that of the newest tile.
        """
        best = int(np.argmax(self._scores))
        self._begin(at_s)
        return self._predict(x_um, y_um, at_s, (self._reliefs[best],))[0]

    def add(
        self,
        x_um: float,
        y_um: float,
        height_um: float,
        sd_um: float,
        at_s: float | None = None,
        *,
        is_new_level: bool = False,
    ) -> Verdict:
        """Learn the best focus of one tile and its standard uncertainty.

        `is_new_level` says that the focus was lost and has been searched: whatever the
        tiles before said of the level, this one is right.

        Returns
        -------
        str
            `learned`; `suspect` when the tile is set aside; `step` when it is one of
            several that agree on a new level, which has now been learned.
        """
        self._begin(at_s)
        predictions = self._predict(x_um, y_um, at_s, self._reliefs)
        expected = np.array([p.height_um for p in predictions])
        spread = np.array([p.sd_um for p in predictions])
        spread = np.sqrt(spread**2 + sd_um**2 + TILE_SD_UM**2)
        error_um = height_um - expected
        plausible = np.flatnonzero(self._scores > self._scores.max() - _PLAUSIBLE_NATS)
        least = plausible[np.argmin((np.abs(error_um) / spread)[plausible])]
        tile = _Tile(
            x_um=x_um,
            y_um=y_um,
            at_s=self._now_s,
            height_um=height_um,
            sd_um=sd_um,
        )
        is_far = abs(error_um[least]) > _SUSPECT_SD * spread[least]
        if is_far and is_new_level:
            return self._step([tile])
        if is_far:
            return self._set_aside(tile, is_higher=bool(error_um[least] > 0))
        self._suspects.clear()
        likelihood = np.log1p((error_um / spread) ** 2 / _DEGREES)
        self._scores *= _FORGETTING
        self._scores -= np.log(spread) + (_DEGREES + 1) / 2 * likelihood
        self._learn(tile)
        return "learned"

    def fit_plane(self) -> SurfacePlane:
        """Return the plane through the whole slide, for reports."""
        self._begin(None)
        rows = self._rows[: self._count]
        middle: Float64 = rows[:, :2].mean(axis=0)
        level_um, slopes = _robust_plane(rows[:, :2] - middle, rows[:, 3], rows[:, 4])
        return SurfacePlane(
            z0_um=float(level_um - slopes @ middle),
            slope_x_mrad=float(slopes[0] * 1e3),
            slope_y_mrad=float(slopes[1] * 1e3),
        )

    def _begin(self, at_s: float | None) -> None:
        """Put the calibrated focus in as the first tile, at the first time known."""
        if not self._count:
            self._now_s = 0.0 if at_s is None else at_s
            x_um, y_um, z_um = self._first
            self._learn(
                _Tile(
                    x_um=x_um,
                    y_um=y_um,
                    at_s=self._now_s,
                    height_um=z_um,
                    sd_um=_FIRST_SD_UM,
                )
            )
        if at_s is not None:
            self._now_s = max(self._now_s, at_s)

    def _set_aside(self, tile: _Tile, *, is_higher: bool) -> Verdict:
        self._suspects.append((tile, is_higher))
        last = self._suspects[-_STEP_TILES:]
        if len(last) < _STEP_TILES or len({higher for _, higher in last}) > 1:
            return "suspect"
        return self._step([agreed for agreed, _ in last])

    def _step(self, tiles: list[_Tile]) -> Verdict:
        self._epoch += 1
        self._suspects.clear()
        for tile in tiles:
            self._learn(tile)
        return "step"

    def _learn(self, tile: _Tile) -> None:
        if self._count == len(self._rows):
            self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
        place = (tile.x_um, tile.y_um, tile.at_s)
        self._rows[self._count] = (*place, tile.height_um, tile.sd_um, self._epoch)
        self._count += 1

    def _predict(
        self,
        x_um: float,
        y_um: float,
        at_s: float | None,
        reliefs: tuple[Relief, ...],
    ) -> list[Prediction]:
        rows = self._rows[: self._count]
        if self._count > _NEAREST:
            away_um = np.hypot(rows[:, 0] - x_um, rows[:, 1] - y_um)
            rows = rows[np.argpartition(away_um, _NEAREST)[:_NEAREST]]
        heights = Heights(
            x_um=rows[:, 0],
            y_um=rows[:, 1],
            at_s=rows[:, 2],
            height_um=rows[:, 3],
            sd_um=rows[:, 4],
            epoch=rows[:, 5].astype(np.int64),
        )
        at_s = self._now_s if at_s is None else max(at_s, float(rows[:, 2].max()))
        place = Place(x_um=x_um, y_um=y_um, at_s=at_s, epoch=self._epoch)
        return predict_height(heights, place, reliefs)


def _robust_plane(
    away_um: Float64, height_um: Float64, sd_um: Float64
) -> tuple[float, Float64]:
    """Weighted plane with Cauchy re-weighting; returns the level and the two slopes."""
    columns: Float64 = np.column_stack([np.ones(len(away_um)), away_um])
    # Few tiles in a line leave a slope free: level is what is then assumed.
    prior: Float64 = np.diag([0.0, 1.0, 1.0]) / 5e-3**2
    weight = 1 / (sd_um**2 + _PLANE_SD_UM**2)
    robust: Float64 = np.ones(len(away_um))
    solution: Float64 = np.zeros(3)
    for _ in range(6):
        w = weight * robust
        normal = columns.T @ (columns * w[:, None]) + prior
        right = columns.T @ (w * height_um)
        solution = np.asarray(np.linalg.solve(normal, right), dtype=np.float64)
        residual = height_um - columns @ solution
        scale = max(2 * 1.4826 * float(np.median(np.abs(residual))), _PLANE_SD_UM)
        robust = 1 / (1 + (residual / scale) ** 2)
    return float(solution[0]), solution[1:]
