"""All that the illumination step has seen, and what is odd about it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bifocus.calib.chromatic_shift import ColourShift
from bifocus.calib.dark_frame import DarkLevel
from bifocus.calib.flat_field import GlassFit
from bifocus.calib.light_meter import EXPOSURE_SHARES, Look
from bifocus.calib.sensor_response import Noise, Response
from bifocus.config import Instrument

_COLOURS = ("red", "green", "blue")
# Beyond these, a technician should know: light off the straight line, a surface that
# misses the lamp, a lamp that flickers, colours that use the range unevenly.
_MOST_BEND = 0.01
_MOST_MISFIT = 0.005
_MOST_SCATTER = 0.005
_MOST_IMBALANCE = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """All that the step has measured; None where something could not be."""

    looks: tuple[Look, ...]
    best: Look
    glass: GlassFit | None
    dark: DarkLevel | None
    response: Response | None
    noise: Noise | None
    shifts: Mapping[str, ColourShift | None]


def list_warnings(seen: Seen, config: Instrument) -> list[str]:
    """Return what a technician should know although the step has passed."""
    return [*_about_glass(seen), *_about_sensor(seen, config)]


def _about_glass(seen: Seen) -> list[str]:
    found = []
    glass = seen.glass
    if glass is None:
        found.append(
            f"no clear glass at {len(seen.looks)} places: neither flat field nor white "
            "point measured; name a place in calibration.blank_field_um"
        )
    elif glass.uncovered:
        guess = "the flat field is a guess there"
        if glass.flat_field is None:
            guess = "no flat field measured"
        found.append(
            "no place showed clear glass in the field's "
            f"{', '.join(glass.uncovered)}: {guess}; name a place in "
            "calibration.blank_field_um"
        )
    if glass is not None:
        if glass.misfit > _MOST_MISFIT:
            found.append(
                f"clear glass deviates from a smooth surface by "
                f"{100 * glass.misfit:.1f} %: dust, or a sharp shadow in the light path"
            )
        if glass.frame_scatter > _MOST_SCATTER:
            found.append(
                "the brightness of glass scatters by "
                f"{100 * glass.frame_scatter:.1f} % between places: the lamp flickers, "
                "or the exposure is not locked"
            )
        if max(glass.white) > _MOST_IMBALANCE * min(glass.white):
            dim = _COLOURS[int(np.argmin(glass.white))]
            found.append(
                f"{dim} uses {100 * min(glass.white) / max(glass.white):.0f} % of the "
                "range of the brightest colour: set the camera's colour gains"
            )
    return found


def _about_sensor(seen: Seen, config: Instrument) -> list[str]:
    found = []
    response = seen.response
    if response is not None and response.nonlinearity > _MOST_BEND:
        found.append(
            f"light deviates from a straight line by {100 * response.nonlinearity:.1f}"
            " % of full scale: fusion takes it as linear"
        )
    if seen.dark is None:
        found.append(
            "dark level not measured: the camera gave fewer than three exposures from "
            f"{config.camera.exposure_s * min(EXPOSURE_SHARES):.2g} s up; give a "
            "picture without light in calibration.dark_frame"
        )
    if seen.noise is None:
        found.append("noise not measured: too little range of light")
    found += [
        f"{'red' if name == 'r' else 'blue'} not registered to green: too little "
        "texture that both share"
        for name, shift in seen.shifts.items()
        if shift is None
    ]
    return found
