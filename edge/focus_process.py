"""Best focus over the slide as a Gaussian process: the mathematics of prediction.

Height = level + tilt + relief + drift + what one tile has of its own. Each part has a
covariance, and all that is known of the surface at a new place is the regression on the
tiles measured near it (C. E. Rasmussen and C. K. I. Williams, *Gaussian Processes for
Machine Learning*, 2006, Eqs. 2.23-2.24; the relief's covariance is Eq. 4.17).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

# Slides lie within some mrad of level; 10 mrad is a badly clamped one.
SLOPE_SD_MRAD = 8.0
# What a tile's focus has of its own: thickness, and texture that pulls the estimate.
TILE_SD_UM = 0.08
# A random walk of the focus over time: 1 um in an hour.
DRIFT_UM2_PER_S = 1.0 / 3600
# Levels before and after a step (a slipped axis, a bumped slide) say nothing of each
# other; and nobody knows the level of a slide before its first tile.
LEVEL_SD_UM = 200.0
STEP_SD_UM = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Relief:
    """How uneven a slide is: spread of the height, and the length over which it turns.

    Slopes of the relief have a spread of `sqrt(5/3) sd_um / length_um`.
    """

    sd_um: float
    length_um: float

    def covariance_um2(self, distance_um: Float64) -> Float64:
        """Return the covariance of the heights at two places so far apart."""
        a = np.sqrt(5) * distance_um / self.length_um
        result: Float64 = self.sd_um**2 * (1 + a + a**2 / 3) * np.exp(-a)
        return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Heights:
    """Measured best focus: arrays of one length.

    `epoch` counts the steps of level that had been noticed before each tile.
    """

    x_um: Float64
    y_um: Float64
    at_s: Float64
    height_um: Float64
    sd_um: Float64
    epoch: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The expected best focus of a tile, and the standard deviation of its error."""

    height_um: float
    sd_um: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where, when and after how many steps a height is wanted."""

    x_um: float
    y_um: float
    at_s: float
    epoch: int


def predict_height(
    heights: Heights, place: Place, reliefs: Sequence[Relief]
) -> list[Prediction]:
    """Predict the surface at one place, once for each kind of relief.

    Parameters
    ----------
    heights
        At least one tile; none later than `place.at_s`.
    place
        Where the next tile lies.
    reliefs
        Alternatives; the sums that they have in common are done once.

    Returns
    -------
    list of Prediction
        Of the surface itself, without the scatter of one tile.
    """
    away_x, away_y = heights.x_um - place.x_um, heights.y_um - place.y_um
    slope = (SLOPE_SD_MRAD * 1e-3) ** 2
    begin_s = float(heights.at_s.min())
    drift = DRIFT_UM2_PER_S * (np.minimum.outer(heights.at_s, heights.at_s) - begin_s)
    step = STEP_SD_UM**2 * (heights.epoch[:, None] == heights.epoch)
    shared = LEVEL_SD_UM**2 + drift + step
    shared += slope * (np.outer(away_x, away_x) + np.outer(away_y, away_y))
    # The tilt turns about the place itself, so that it has no part in these two.
    to_place = LEVEL_SD_UM**2 + STEP_SD_UM**2 * (heights.epoch == place.epoch)
    to_place = to_place + DRIFT_UM2_PER_S * (heights.at_s - begin_s)
    alone = LEVEL_SD_UM**2 + STEP_SD_UM**2
    alone += DRIFT_UM2_PER_S * (place.at_s - begin_s)
    between = np.hypot(away_x[:, None] - away_x, away_y[:, None] - away_y)
    near = np.hypot(away_x, away_y)
    noise = np.diag(heights.sd_um**2 + TILE_SD_UM**2)
    middle_um = float(heights.height_um.mean())
    predictions = []
    for relief in reliefs:
        covariance = shared + relief.covariance_um2(between) + noise
        cross = to_place + relief.covariance_um2(near)
        right = np.column_stack([heights.height_um - middle_um, cross])
        solved = np.linalg.solve(covariance, right)
        variance = alone + relief.sd_um**2 - float(cross @ solved[:, 1])
        predictions.append(
            Prediction(
                height_um=middle_um + float(cross @ solved[:, 0]),
                sd_um=max(variance, 1e-4) ** 0.5,
            )
        )
    return predictions
