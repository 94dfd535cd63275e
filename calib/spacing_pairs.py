"""Pairs shot as in a scan, beside the same two heights reached as a stack reaches them.

A pair's lower shot follows a way down, its upper one a single long move; in a stack all
play is closed and moves are short. What dD becomes is the commanded one and what both
ways differ by: pictures tell that to nanometres, while the height of any one plane of a
stack is known no better than the stage repeats.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bifocus.calib.spacing_ruler import SharpnessRuler
from bifocus.calib.uncertainty import LinearFit, fit_linear
from bifocus.hal.devices import Camera, Stage
from bifocus.records import FloatImage, StagePosition
from bifocus.sharpness import brenner, to_gray

if TYPE_CHECKING:
    import hashlib

Float64 = npt.NDArray[np.float64]

FEWEST_PAIRS = 10
MOST_PAIRS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Heights over the focus, as the ruler reads them; all of shape (pairs,).

    Attributes
    ----------
    minus_um, plus_um
        Shots of each pair.
    engaged_minus_um, engaged_plus_um
        The same commanded heights, come up to from far below.
    minus_log, plus_log
        Logarithm of the sharpness of the pairs' shots.
    """

    minus_um: Float64
    plus_um: Float64
    engaged_minus_um: Float64
    engaged_plus_um: Float64
    minus_log: Float64
    plus_log: Float64

    @property
    def half_um(self) -> Float64:
        """Half-spacing of each pair, on the ruler."""
        result: Float64 = (self.plus_um - self.minus_um) / 2
        return result

    @property
    def miss_um(self) -> LinearFit:
        """By how much dD exceeds the commanded one: a constant, with its u."""
        engaged_um = (self.engaged_plus_um - self.engaged_minus_um) / 2
        column = np.ones((engaged_um.size, 1))
        return fit_linear(column, self.half_um - engaged_um)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairShooter:
    """Shoots pairs of one tile and reads their heights.

    Attributes
    ----------
    at
        The place of the tile at a height.
    ruler
        Reads heights over `focus_um` from sharpness.
    noise_floor
        Of the sharpness.
    focus_um, half_um
        Commanded F and dD.
    engaged_from_um
        Coming up from here all play is closed.
    digest
        Of the pixels of the step.
    """

    stage: Stage
    camera: Camera
    at: Callable[[float], StagePosition]
    ruler: SharpnessRuler
    noise_floor: float
    focus_um: float
    half_um: float
    engaged_from_um: float
    digest: "hashlib._Hash"

    def shoot(self, target_u_um: float) -> Pairs:
        """Return so many pairs that their scatter leaves no more than a target u."""
        self.stage.move_to(self.at(self.focus_um + self.half_um))
        rows = [self._one() for _ in range(FEWEST_PAIRS)]
        pairs = self._read(rows)
        while (u_um := float(pairs.miss_um.u[0])) > target_u_um:
            needed = math.ceil(len(rows) * (u_um / target_u_um) ** 2)
            more = min(needed, MOST_PAIRS) - len(rows)
            if more <= 0:
                break
            rows += [self._one() for _ in range(more)]
            pairs = self._read(rows)
        return pairs

    def _one(self) -> list[float]:
        """Return log sharpness of a pair's shots, then of the same heights engaged."""
        low_um, high_um = (self.focus_um + side * self.half_um for side in (-1, 1))
        pair = [self._log_sharpness(low_um), self._log_sharpness(high_um)]
        self.stage.move_to(self.at(min(self.engaged_from_um, low_um)))
        return [*pair, self._log_sharpness(low_um), self._log_sharpness(high_um)]

    def _log_sharpness(self, z_um: float) -> float:
        picture = grab_gray(self.stage, self.camera, self.at(z_um), self.digest)
        return math.log(max(brenner(picture) - self.noise_floor, 1e-9))

    def _read(self, rows: list[list[float]]) -> Pairs:
        logs = np.array(rows)
        heights_um = np.array(
            [
                [
                    self.ruler.height_um(value, is_upper=bool(shot % 2))
                    for shot, value in enumerate(row)
                ]
                for row in rows
            ]
        )
        return Pairs(
            minus_um=heights_um[:, 0],
            plus_um=heights_um[:, 1],
            engaged_minus_um=heights_um[:, 2],
            engaged_plus_um=heights_um[:, 3],
            minus_log=logs[:, 0],
            plus_log=logs[:, 1],
        )


def grab_gray(
    stage: Stage, camera: Camera, place: StagePosition, digest: "hashlib._Hash"
) -> FloatImage:
    """Return the green picture at a place, approached as in a scan."""
    frame = camera.grab(after=stage.move_to(place))
    digest.update(np.ascontiguousarray(frame.pixels).tobytes())
    return to_gray(frame.pixels)
