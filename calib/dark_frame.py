"""The level of no light: from a picture taken without light, or from exposures."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from bifocus.calib.sensor_response import Response, rounding_bias_u
from bifocus.config import Instrument
from bifocus.errors import CalibrationError, ImageFileError
from bifocus.records import FloatImage, UInt8Image
from bifocus.tone import decode

# A quarter of the range: no camera's black level, so there was light.
_MOST_DARK = 0.25
_PARTS = 4  # the frame is cut into so many bands each way, whose means are compared


@dataclass(frozen=True, slots=True, kw_only=True)
class DarkLevel:
    """Linear light that the camera reports without any, 0..1 of full scale.

    `parts` are the standard uncertainties that make up `u`, under their names.
    """

    light: float
    u: float
    method: str
    parts: dict[str, float]


def read_dark_frame(config: Instrument, response: Response | None) -> DarkLevel | None:
    """Return the dark level from the file's dark frame, or from the exposures.

    Returns
    -------
    DarkLevel or None
        None where there is neither.

    Raises
    ------
    ImageFileError
        If the picture cannot be read.
    CalibrationError
        If it is not dark.
    """
    path = config.calibration.dark_frame
    if path is not None:
        return measure_dark_frame(path, config)
    if response is None:
        return None
    shares = sorted({round(float(time), 6) for time in response.exposures_s})
    return DarkLevel(
        light=response.dark_mean,
        u=response.dark_u,
        method=f"levels over {len(shares)} exposures from {shares[0]:g} to "
        f"{shares[-1]:g} s, extrapolated to none; mean of the colours",
        parts=response.parts,
    )


def measure_dark_frame(path: Path, config: Instrument) -> DarkLevel:
    """Return the mean level of a picture without light.

    Its uncertainty: scatter of the means of its parts, which shows gradients, and
    rounding.
    """
    light = decode(_read_rgb(path), config.optics.tone_curve)
    mean = float(light.mean(dtype=np.float64))
    if mean > _MOST_DARK:
        msg = (
            f"{path}: calibration.dark_frame is not dark: its mean is "
            f"{255 * mean:.0f} of 255, at most {255 * _MOST_DARK:.0f} is expected; "
            "take it with the lamp off, or leave the key out"
        )
        raise CalibrationError(msg)
    parts = {
        "scatter over the frame": float(np.std(_part_means(light), ddof=1) / _PARTS),
        "rounding to levels": rounding_bias_u(float(light.std()) * 255) / 255,
    }
    return DarkLevel(
        light=mean,
        u=math.hypot(*parts.values()),
        method=f"mean of {path.name}, taken without light",
        parts=parts,
    )


def _part_means(light: FloatImage) -> list[float]:
    return [
        float(part.mean(dtype=np.float64))
        for band in np.array_split(light, _PARTS)
        for part in np.array_split(band, _PARTS, axis=1)
    ]


def _read_rgb(path: Path) -> UInt8Image:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"), dtype=np.uint8)
    except (OSError, ValueError) as error:
        msg = (
            f"{path}: cannot read calibration.dark_frame: {error}; give an 8-bit PNG "
            "or TIFF of this camera"
        )
        raise ImageFileError(msg) from error
