"""Which length the scale across the slide rests on, and what follows from it. Pure.

Pictures show how many pixels the field moves for a commanded micrometre: the product of
the stage's scale and the pixel's. One of the two must be known from elsewhere.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bifocus.calib.graticule import GraticuleFit
from bifocus.calib.stage_matrix import AxisFit
from bifocus.calib.uncertainty import root_sum_square, widened
from bifocus.config import Graticule, Instrument
from bifocus.records import Measured

# What fitted pitches are off by without noise, as a share, at 256 px of field; it falls
# with the square of the field. Measured on virtual graticules of 10 um.
_PITCH_FLOOR = 2e-5
_FLOOR_FIELD_PX = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Pixel and scales of an instrument, and the length that they rest on."""

    source: Literal["graticule", "pixel", "stage"]
    pixel_um: Measured
    scale_x: Measured
    scale_y: Measured
    budget: dict[str, float]


def lengths_from_pixel(config: Instrument, x: AxisFit, y: AxisFit) -> Lengths:
    """Trust the instrument file's pixel, and measure the stage."""
    tolerance = config.optics.pixel_tolerance
    pixel = Measured(
        value=config.optics.pixel_um,
        standard_uncertainty=config.optics.pixel_um * tolerance / math.sqrt(3),
        method=(
            f"given by the instrument file, +-{tolerance:.3g} of itself, rectangular"
        ),
    )
    return _scaled("pixel", pixel, x, y, {"pixel_tolerance": tolerance / math.sqrt(3)})


def lengths_from_graticule(
    config: Instrument,
    target: Graticule,
    fits: Sequence[GraticuleFit],
    x: AxisFit,
    y: AxisFit,
) -> Lengths:
    """Measure the pixel on a target of known pitch, and with it the stage.

    Parameters
    ----------
    fits
        Of at least two pictures; the target has moved in between.
    """
    pixels = np.array([target.pitch_um / fit.pitch_px for fit in fits])
    side_px = min(config.camera.width_px, config.camera.height_px)
    budget = {
        "scatter_of_pictures": widened(
            float(pixels.std(ddof=1) / pixels.mean()) / math.sqrt(pixels.size),
            pixels.size - 1,
        ),
        "certificate": target.u_um / target.pitch_um,
        "fit": _PITCH_FLOOR * (_FLOOR_FIELD_PX / side_px) ** 2,
    }
    value = float(pixels.mean())
    pixel = Measured(
        value=value,
        standard_uncertainty=value * root_sum_square(list(budget.values())),
        method=(
            f"pitch of a graticule of {target.pitch_um:g} um (u {target.u_um:g} um), "
            f"harmonics of both directions in {pixels.size} pictures"
        ),
    )
    return _scaled("graticule", pixel, x, y, budget)


def lengths_from_stage(config: Instrument, x: AxisFit, y: AxisFit) -> Lengths:
    """Trust the stage, and measure the pixel."""
    tolerance = config.calibration.stage_tolerance
    lengths = (x.length_px, y.length_px)
    shift_u = root_sum_square([x.relative_u, y.relative_u]) / 2
    budget = {"stage_tolerance": tolerance / math.sqrt(3), "shifts": shift_u}
    value = 2 / sum(lengths)
    pixel = Measured(
        value=value,
        standard_uncertainty=value * root_sum_square(list(budget.values())),
        method=f"the stage's own length, +-{tolerance:.3g} of itself, rectangular",
    )
    scales = [
        Measured(
            value=length * value,
            standard_uncertainty=length * value * tolerance / math.sqrt(3),
            method="the stage trusted on the mean of both axes; from image shifts",
            unit="",
        )
        for length in lengths
    ]
    return Lengths(
        source="stage",
        pixel_um=pixel,
        scale_x=scales[0],
        scale_y=scales[1],
        budget=budget,
    )


def _scaled(
    source: Literal["graticule", "pixel"],
    pixel: Measured,
    x: AxisFit,
    y: AxisFit,
    budget: dict[str, float],
) -> Lengths:
    pixel_u = pixel.standard_uncertainty / pixel.value
    scales = []
    for fit in (x, y):
        value = fit.length_px * pixel.value
        scales.append(
            Measured(
                value=value,
                standard_uncertainty=value * root_sum_square([pixel_u, fit.relative_u]),
                method=(
                    "true over commanded: image shifts of moves up and down, times "
                    f"the pixel ({source})"
                ),
                unit="",
            )
        )
    return Lengths(
        source=source,
        pixel_um=pixel,
        scale_x=scales[0],
        scale_y=scales[1],
        budget=budget | {"shifts_x": x.relative_u, "shifts_y": y.relative_u},
    )
