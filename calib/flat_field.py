"""Illumination over the field, fitted to clear glass: pure mathematics.

Tissue hides the lamp's falloff, glass shows it. Log intensity of the glass pixels of
several frames is fitted with a quadratic surface per colour; pixels darker than the
surface are dropped and the fit repeated, until only glass is left. A smooth surface is
all that brightfield needs, and it cannot invent structure.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from bifocus.illumination import field_coordinates, quadratic_columns
from bifocus.records import FlatField, FloatImage

Float64 = npt.NDArray[np.float64]

# Frames are averaged down so that noise and grain do not decide what glass is.
_CELL_PX = 8
# Log intensity that glass may scatter about the surface (1 %), and the share of cells
# of a frame, and of the nine fields of the picture, that must be glass.
_GLASS_SCATTER = 0.012
_LEAST_GLASS = 0.02
_LEAST_FIELDS = 7


def fit_flat_field(frames: Sequence[FloatImage]) -> FlatField | None:
    """Fit the falloff from frames that show some glass.

    Parameters
    ----------
    frames
        Linear light, (rows, columns, 3), of different places with the same lamp.

    Returns
    -------
    FlatField or None
        None when there is too little glass, or it covers too few parts of the field.
    """
    cells = np.stack([_averaged(frame) for frame in frames])
    rows, columns = cells.shape[1:3]
    basis = quadratic_columns(*field_coordinates((rows, columns)))
    log_light = np.log(np.maximum(cells, 1e-4)).astype(np.float64)
    glass = _find_glass(log_light, basis)
    fraction = float(glass.mean())
    if fraction < _LEAST_GLASS or _fields_covered(glass) < _LEAST_FIELDS:
        return None
    chosen = np.broadcast_to(basis, (*glass.shape, 6))[glass]
    coefficients = np.linalg.lstsq(chosen, log_light[glass], rcond=None)[0].T
    return FlatField(
        coefficients=tuple(tuple(map(float, row)) for row in coefficients),
        glass_fraction=fraction,
    )


def _averaged(frame: FloatImage) -> FloatImage:
    size = (max(frame.shape[1] // _CELL_PX, 8), max(frame.shape[0] // _CELL_PX, 8))
    return np.asarray(
        cv2.resize(frame, size, interpolation=cv2.INTER_AREA), dtype=np.float32
    )


def _find_glass(log_light: Float64, basis: Float64) -> npt.NDArray[np.bool_]:
    """Return which cells are glass, by fitting the upper envelope of the green."""
    green = log_light[..., 1]
    stacked = np.broadcast_to(basis, (*green.shape, 6))
    glass = green > np.quantile(green, 0.9) - 0.15
    for _ in range(12):
        if glass.sum() < 20:
            break
        fit = np.linalg.lstsq(stacked[glass], green[glass], rcond=None)[0]
        residual = green - stacked @ fit
        # Move the surface onto the bright side of what is left, then keep what is near.
        top = float(np.quantile(residual[glass], 0.8))
        glass = np.abs(residual - top) < 2 * _GLASS_SCATTER
    colours = log_light - log_light[..., 1:2]
    for colour in (0, 2):  # glass has no colour of its own, the lamp has one, smoothly
        if glass.sum() < 20:
            break
        fit = np.linalg.lstsq(stacked[glass], colours[..., colour][glass], rcond=None)[
            0
        ]
        tint = colours[..., colour] - stacked @ fit
        glass = glass & (np.abs(tint) < 3 * _GLASS_SCATTER)
    return glass


def _fields_covered(glass: npt.NDArray[np.bool_]) -> int:
    """Return how many of the 3 x 3 parts of the field hold glass in some frame."""
    seen = glass.any(axis=0)
    parts = [part for band in np.array_split(seen, 3) for part in _thirds(band)]
    return sum(bool(part.mean() > 0.05) for part in parts)


def _thirds(band: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.bool_]]:
    return np.array_split(band, 3, axis=1)
