"""What the light must be to be worth measuring; each refusal says what to set."""

from collections.abc import Sequence

import numpy as np

from bifocus.calib.flat_field import GlassFit
from bifocus.calib.light_meter import ExposurePair, Look
from bifocus.calib.sensor_response import Response
from bifocus.config import Instrument
from bifocus.errors import CalibrationError

# Clear glass is set to this share of full scale: 230 of 255 levels.
TARGET = 0.9
# A lamp that adds less than this at the full exposure is off.
_LEAST_SIGNAL = 3 / 255
# Without an exposure series the dark level is unknown, and hides that much.
_LEAST_LIGHT = 12 / 255
# Glass below this wastes two of the eight bits; pixels clip in more than this share.
_LEAST_WHITE = 0.2
_MOST_CLIPPED = 0.01
# The other curve is the camera's when it bends so many times less, and the declared
# one bends visibly.
_BEND = 0.01
_BEND_RATIO = 3.0


def check_lamp(
    looks: Sequence[Look], response: Response | None, config: Instrument
) -> None:
    """Refuse light that does not come.

    Raises
    ------
    CalibrationError
        With what the brightest place shows.
    """
    brightest = max(look.brightest for look in looks)
    exposure_s = config.camera.exposure_s
    if response is not None:
        signal = float(response.slope_per_s.max()) * exposure_s
        if signal >= _LEAST_SIGNAL:
            return
        seen = (
            f"{exposure_s:g} s of exposure add {255 * signal:.1f} of 255 levels to the "
            f"dark level of {255 * response.dark_mean:.1f}"
        )
    elif brightest >= _LEAST_LIGHT:
        return
    else:
        seen = f"the brightest of {len(looks)} places reaches level"
        seen += f" {255 * brightest:.1f} of 255"
    msg = (
        f"no light: {seen}; at least {255 * _LEAST_SIGNAL:.0f} are expected. Switch "
        "the lamp on, open the shutter, take off the cap"
    )
    raise CalibrationError(msg)


def check_tone(response: Response | None, config: Instrument) -> None:
    """Refuse a camera that encodes its levels otherwise than the file declares.

    Raises
    ------
    CalibrationError
        With the deviation from a straight line under both curves.
    """
    if response is None:
        return
    bend, other_bend = response.nonlinearity, response.other_nonlinearity
    if bend > _BEND and other_bend * _BEND_RATIO < bend:
        declared = config.optics.tone_curve
        other = "srgb" if declared == "linear" else "linear"
        msg = (
            f"the camera's levels are not {declared}: read as {declared}, light "
            f"deviates from exposure by {100 * bend:.1f} %, read as {other} by "
            f"{100 * other_bend:.1f} %. Set optics.tone_curve: {other}, or switch the "
            "camera's gamma " + ("off" if declared == "linear" else "on")
        )
        raise CalibrationError(msg)


def check_saturation(
    looks: Sequence[Look], pairs: Sequence[ExposurePair], config: Instrument
) -> None:
    """Refuse clipped glass.

    Raises
    ------
    CalibrationError
        With the share of clipped pixels, and the exposure that would not clip.
    """
    clipped = max(look.clipped for look in looks)
    if clipped <= _MOST_CLIPPED:
        return
    msg = (
        f"the light saturates: {100 * clipped:.0f} % of the pixels of a place are at "
        f"the upper end of the range, at most {100 * _MOST_CLIPPED:.0f} % may be; "
        f"lower camera.exposure_s from {config.camera.exposure_s:g} s"
    )
    free = [pair for pair in pairs if pair.clipped <= 1e-3]
    if free:
        longest = max(free, key=lambda pair: pair.exposure_s)
        bright = float(np.percentile(longest.cells.max(axis=2), 99))
        fitting_s = longest.exposure_s * TARGET / max(bright, 1e-6)
        msg += f" to {fitting_s:.3g} s"
    raise CalibrationError(msg + ", or dim the lamp")


def check_brightness(
    looks: Sequence[Look], glass: GlassFit | None, dark: float, config: Instrument
) -> None:
    """Refuse glass that is far too dark to tell tissue from noise.

    Raises
    ------
    CalibrationError
        With the level of glass, and the exposure that would suit.
    """
    if glass is not None:
        white = max(glass.white)
    else:
        white = max(look.brightest for look in looks) - dark
    if white >= _LEAST_WHITE:
        return
    exposure_s = config.camera.exposure_s
    msg = (
        f"far too dark: {'clear glass' if glass is not None else 'the brightest place'}"
        f" reaches {255 * white:.0f} of 255 levels above the dark level, at least "
        f"{255 * _LEAST_WHITE:.0f} are needed; raise camera.exposure_s from "
        f"{exposure_s:g} s to {exposure_s * TARGET / max(white, 1e-3):.3g} s, or turn "
        "the lamp up"
    )
    raise CalibrationError(msg)
