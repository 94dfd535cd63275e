"""The step `illumination`: lamp, dark level, white point, noise, colours side by side.

Places of the region are looked at until clear glass has covered the field; at the one
with most glass, pairs of frames over several exposures tell dark level, linearity and
noise; where the focus was found, red and blue are registered to green.
"""

import logging
from collections.abc import Iterator, Mapping

import numpy as np

from bifocus.blank_field import is_blank_field
from bifocus.calib.chromatic_shift import ColourShift, measure_colour_shift
from bifocus.calib.dark_frame import read_dark_frame
from bifocus.calib.flat_field import GlassFit, fit_glass
from bifocus.calib.illumination_checks import (
    check_brightness,
    check_lamp,
    check_saturation,
    check_tone,
)
from bifocus.calib.illumination_result import compose_result
from bifocus.calib.illumination_warnings import Seen
from bifocus.calib.light_meter import LightMeter, Look
from bifocus.calib.sensor_response import fit_noise, fit_response
from bifocus.calib.step_result import Bench, StepResult
from bifocus.calib.zstack import check_targets
from bifocus.errors import CalibrationError
from bifocus.records import StagePosition

logger = logging.getLogger(__name__)

# Glass is looked for on grids of so many places a side, finer while parts of the field
# were never seen as glass.
_GRIDS = (4, 5)
# Around a blank field that the user names, dust is averaged out over places this share
# of the field apart.
_BLANK_OFFSETS = ((0.0, 0.0), (0.12, 0.05), (-0.05, 0.12))
_COLOUR_FRAMES = 4


def measure_illumination(bench: Bench, before: Mapping[str, StepResult]) -> StepResult:
    """Measure what the light does to a picture; see the module.

    Raises
    ------
    CalibrationError
        If the lamp is off or far too dim, glass is clipped, the camera's tone curve is
        not the declared one, or the named blank field shows tissue.
    ConfigError
        If the region or the blank field lie outside the travel.
    ImageFileError
        If the dark frame cannot be read.
    """
    focus = before.get("focus")
    z_um = focus.values["focus_um"].value if focus else bench.stage.position().z_um
    meter = LightMeter(bench, z_um)
    looks, glass = _find_glass(bench, meter, z_um)
    best = looks[_best_place(looks, glass)]
    pairs = meter.take_series(best.x_um, best.y_um)
    tone_curve = bench.config.optics.tone_curve
    response = fit_response(pairs, tone_curve)
    check_lamp(looks, response, bench.config)
    check_tone(response, bench.config)
    check_saturation(looks, pairs, bench.config)
    dark = read_dark_frame(bench.config, response)
    level = dark.light if dark is not None else 0.0
    rows, columns = best.pixels.shape[:2]
    if glass is not None:
        lit = [look.cells - np.float32(level) for look in looks]
        glass = fit_glass(lit, (rows, columns))
    check_brightness(looks, glass, level, bench.config)
    seen = Seen(
        looks=tuple(looks),
        best=best,
        glass=glass,
        dark=dark,
        response=response,
        noise=fit_noise(pairs, level),
        shifts=_measure_shifts(meter, focus),
    )
    return compose_result(seen, bench.config, meter.digest)


def _find_glass(
    bench: Bench, meter: LightMeter, z_um: float
) -> tuple[list[Look], GlassFit | None]:
    """Look at more and more places until glass has covered the field."""
    camera = bench.camera.capabilities
    shape = (camera.height_px, camera.width_px)
    if bench.config.calibration.blank_field_um is not None:
        looks = [meter.look(*place) for place in _blank_places(bench, z_um)]
        tissue = [look for look in looks if not is_blank_field(look.pixels)]
        if tissue and not all(look.clipped > 0.01 for look in looks):
            msg = (
                f"calibration.blank_field_um: the field at x {tissue[0].x_um:.1f}, y "
                f"{tissue[0].y_um:.1f} um is not blank; name a place of clear glass at "
                "least a field wide, or leave the key out"
            )
            raise CalibrationError(msg)
        return looks, fit_glass([look.cells for look in looks], shape)
    looks = []
    glass = None
    for count in _GRIDS:
        looks += [meter.look(*place) for place in _grid(bench.region_um, count)]
        glass = fit_glass([look.cells for look in looks], shape)
        if glass is not None and not glass.uncovered:
            break
        logger.info(
            "%d places: %s",
            len(looks),
            "no clear glass"
            if glass is None
            else f"no clear glass in the field's {', '.join(glass.uncovered)}",
        )
    return looks, glass


def _blank_places(bench: Bench, z_um: float) -> list[tuple[float, float]]:
    blank_um = bench.config.calibration.blank_field_um
    if blank_um is None:
        return []
    camera, pixel_um = bench.camera.capabilities, bench.config.optics.pixel_um
    places = [
        (
            blank_um[0] + across * camera.width_px * pixel_um,
            blank_um[1] + down * camera.height_px * pixel_um,
        )
        for across, down in _BLANK_OFFSETS
    ]
    check_targets(
        bench.stage, [StagePosition(x_um=x, y_um=y, z_um=z_um) for x, y in places]
    )
    return places


def _grid(
    region_um: tuple[float, float, float, float], count: int
) -> Iterator[tuple[float, float]]:
    """Yield places on a grid over the region, in a serpentine."""
    x_um, y_um, width_um, height_um = region_um
    steps = [(number + 0.5) / count for number in range(count)]
    for number, down in enumerate(steps):
        for across in steps if number % 2 == 0 else steps[::-1]:
            yield x_um + across * width_um, y_um + down * height_um


def _best_place(looks: list[Look], glass: GlassFit | None) -> int:
    """Return the place with most glass, or the brightest where there is none."""
    if glass is not None:
        return int(np.argmax(glass.frame_shares))
    return int(np.argmax([look.brightest for look in looks]))


def _measure_shifts(
    meter: LightMeter, focus: StepResult | None
) -> dict[str, ColourShift | None]:
    """Register the colours where the focus was found; nothing without that step."""
    if focus is None or "x_um" not in focus.facts:
        return {}
    place = (float(focus.facts["x_um"]), float(focus.facts["y_um"]))
    frames = meter.shoot(*place, _COLOUR_FRAMES)
    return {
        name: measure_colour_shift(frames, colour)
        for name, colour in (("r", 0), ("b", 2))
    }
