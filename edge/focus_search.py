"""The focus of one place by a stack of shots, and the way to a place far away."""

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from bifocus.edge.capture import Microscope
from bifocus.edge.focus_tracking import FocusTracker
from bifocus.focus_curve import LEAST_PROMINENCE, LEAST_TEXTURE, fit_focus
from bifocus.sharpness import measure_sharpness

Float64 = npt.NDArray[np.float64]
Place = tuple[float, float]

# On the way, the next stop is as far ahead as the focus there is this sure.
_STOP_SD_UM = 1.5
# On a slide of glass alone nobody walks for ever.
_MOST_STOPS = 60


def find_peak_um(
    microscope: Microscope, x_um: float, y_um: float, planes_um: Float64
) -> float | None:
    """Shoot ascending planes; return the sharpest height, None if there is no peak."""
    measured = np.array(
        [
            measure_sharpness(microscope.shoot(x_um, y_um, z_um).pixels)
            for z_um in planes_um.tolist()
        ]
    )
    curve, noise_floor = measured[:, 0], float(np.median(measured[:, 1]))
    fit = fit_focus(planes_um, curve)
    # Prominence alone would find a peak in noise, whose low end is zero.
    has_texture = float(curve.max()) >= LEAST_TEXTURE * max(noise_floor, 1e-9)
    is_peak = fit.prominence >= LEAST_PROMINENCE and fit.is_peak_inside
    return fit.focus_um if has_texture and is_peak else None


def stops_to(tracker: FocusTracker, goal: Place) -> Iterator[Place]:
    """Yield where to measure the focus on the way from the known place to `goal`.

    The caller teaches the tracker at each stop before it asks for the next one. Stops
    are a tile apart at first, and further as the tilt of the slide becomes known; the
    goal itself is no stop.
    """
    here = tracker.known_place
    for _ in range(_MOST_STOPS):
        yield here
        left_um = math.dist(here, goal)
        ahead_um = left_um
        while ahead_um > tracker.step_um:
            place = _towards(here, goal, ahead_um / left_um)
            if tracker.predict(*place).sd_um <= _STOP_SD_UM:
                break
            ahead_um /= 2
        ahead_um = max(ahead_um, tracker.step_um)
        if ahead_um >= left_um:
            return
        here = _towards(here, goal, ahead_um / left_um)


def _towards(here: Place, goal: Place, share: float) -> Place:
    x_um, y_um = (a + share * (b - a) for a, b in zip(here, goal, strict=True))
    return x_um, y_um
