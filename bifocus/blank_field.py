"""Is there anything in a field at all, in focus or not? Pure.

Sharpness cannot tell clear glass from tissue that is far out of focus: both are smooth.
Coarse brightness can: defocus spreads what tissue absorbs, and does not take it away.
"""

import cv2
import numpy as np

from bifocus.illumination import field_coordinates, quadratic_columns
from bifocus.records import UInt8Image
from bifocus.sharpness import to_gray

# Pixels are averaged over squares of this side, so that noise falls to a sixteenth.
_CELL_PX = 16
# Spread of the cells over their mean, the lamp's falloff taken off. Measured on the
# virtual instrument (NA 0.75, 128 to 576 px): glass 0.001 even at 5000 electrons, a
# sliver of tissue 4 um wide 0.05, tissue 10 um out of focus 0.025 and more.
LEAST_CONTRAST = 0.01


def coarse_contrast(pixels: UInt8Image) -> float:
    """Return the relative spread of coarse brightness about a quadratic surface.

    Parameters
    ----------
    pixels
        uint8, RGB or grey, at least 64 px on both sides.

    Examples
    --------
    >>> coarse_contrast(np.full((128, 128), 200, np.uint8)) < 1e-6
    True
    """
    gray = to_gray(pixels)
    size = (max(gray.shape[1] // _CELL_PX, 4), max(gray.shape[0] // _CELL_PX, 4))
    cells = cv2.resize(gray, size, interpolation=cv2.INTER_AREA).astype(np.float64)
    columns = quadratic_columns(*field_coordinates((size[1], size[0]))).reshape(-1, 6)
    level = cells.ravel()
    surface = columns @ np.linalg.lstsq(columns, level, rcond=None)[0]
    return float((level - surface).std() / max(float(level.mean()), 1.0))


def is_blank_field(pixels: UInt8Image) -> bool:
    """Return whether a picture shows clear glass, whatever its focus."""
    return coarse_contrast(pixels) < LEAST_CONTRAST
