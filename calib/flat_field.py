"""Illumination over the field, fitted to clear glass: pure mathematics.

Tissue hides the lamp's falloff, glass shows it. Log intensity of the glass pixels of
several frames is fitted with a smooth surface per colour; pixels darker than the
surface are dropped and the fit repeated, until only glass is left. The surface is of
fourth order where all parts of the field were seen as glass, else of second order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from bifocus.illumination import (
    field_coordinates,
    quadratic_columns,
    quartic_columns,
    surface_columns,
)
from bifocus.records import FlatField, FloatImage

Float64 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

# Frames are averaged down so that noise and grain do not decide what glass is.
CELL_PX = 8
# Log intensity that glass may scatter about the surface (1 %), and the share of cells
# of all frames, and of the nine parts of the field, that must be glass.
_GLASS_SCATTER = 0.012
_LEAST_GLASS = 0.01
_LEAST_PARTS = 7
_LEAST_PART = 0.05
# The search climbs onto the glass in so many steps, and gives up with fewer cells.
_CLIMBS = 12
_FEW_CELLS = 20
_RIDGE = 1e-9
# Faint stain is cut off so many times, and never within this log intensity of glass.
_TRIMS = 4
_LEAST_TRIM = 0.0015
# Stain too faint to be told from glass darkens it by so many misfits at most: measured
# on the virtual instrument with 10 % of glass in narrow gaps, as a standard deviation.
_STAIN_LEAN = 2.0
# Gaps between tissue may carry stain evenly, which no gap shows: by up to 1.3 % in real
# H&E against clear glass; as a standard uncertainty, where no frame is all glass.
_GAP_STAIN = 0.015
_PARTS = tuple(
    f"{row} {column}".strip()
    for row in ("top", "", "bottom")
    for column in ("left", "", "right")
)
PART_NAMES = tuple({"": "middle"}.get(name, name) for name in _PARTS)
# Light below this share of full scale is taken as this: its logarithm stays finite.
_LEAST_LIGHT = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class GlassFit:
    """The lamp as clear glass shows it.

    Attributes
    ----------
    coefficients
        (3, 6) or (3, 15): log of linear light, as in `FlatField`.
    white, white_u
        Linear light of glass where each colour is brightest, and its standard
        uncertainty: of the mean over frames, of the surface's misfit, of faint stain.
    frame_shares
        Share of each frame that is glass.
    uncovered
        Names of those of the field's nine parts in which no frame shows glass.
    misfit
        Root mean square of what the mean of all glass leaves of the surface.
    frame_scatter
        Standard deviation of the brightness of glass from frame to frame, relative.
    """

    coefficients: Float64
    white: tuple[float, float, float]
    white_u: tuple[float, float, float]
    frame_shares: tuple[float, ...]
    uncovered: tuple[str, ...]
    misfit: float
    frame_scatter: float

    @property
    def flat_field(self) -> FlatField | None:
        """The falloff; None where too much of the field was never seen as glass."""
        if len(PART_NAMES) - len(self.uncovered) < _LEAST_PARTS:
            return None
        return FlatField(
            coefficients=tuple(tuple(map(float, row)) for row in self.coefficients),
            glass_fraction=float(np.mean(self.frame_shares)),
        )


def average_cells(light: FloatImage) -> FloatImage:
    """Return a picture averaged over squares of 8 px, (rows, columns, 3)."""
    size = (max(light.shape[1] // CELL_PX, 8), max(light.shape[0] // CELL_PX, 8))
    return np.asarray(
        cv2.resize(light, size, interpolation=cv2.INTER_AREA), dtype=np.float32
    )


def fit_glass(
    cells: Sequence[FloatImage], shape_px: tuple[int, int]
) -> GlassFit | None:
    """Find the clear glass of several frames and fit the lamp's light to it.

    Parameters
    ----------
    cells
        From `average_cells`, of linear light above the dark level, of different places
        with the same lamp.
    shape_px
        Rows and columns of the frames that were averaged.

    Returns
    -------
    GlassFit or None
        None when there is too little glass.
    """
    stack = np.log(np.maximum(np.stack(list(cells)), _LEAST_LIGHT)).astype(np.float64)
    x, y = _cell_coordinates(stack.shape[1:3], shape_px)
    basis = quadratic_columns(x, y)
    bright = stack[..., 1] > np.quantile(stack[..., 1], 0.99) - 0.15
    glass = _find_glass(stack, basis, bright)
    if float(glass.mean()) < _LEAST_GLASS:
        return None
    if not _uncovered(glass):
        fourth = quartic_columns(x, y)
        again = _drop_faint_stain(stack, fourth, _find_glass(stack, fourth, glass))
        if not _uncovered(again):
            basis, glass = fourth, again
    if basis.shape[-1] == 6:
        glass = _drop_faint_stain(stack, basis, glass)
    coefficients = _fit(stack, basis, glass)
    residual = stack - basis @ coefficients
    scatter, relative_u, misfit = _doubts(residual, glass)
    stain = np.array([_mode(residual[..., colour][glass]) for colour in range(3)])
    grid = surface_columns(basis.shape[-1], *field_coordinates((65, 65)))
    white = np.exp((grid @ coefficients).max(axis=(0, 1)) + stain)
    gaps_u = _GAP_STAIN * (1 - float(glass.mean(axis=(1, 2)).max()))
    relative_u = np.sqrt(relative_u**2 + stain**2 / 3 + gaps_u**2)
    return GlassFit(
        coefficients=coefficients.T,
        white=(float(white[0]), float(white[1]), float(white[2])),
        white_u=tuple(map(float, white * relative_u)),  # type: ignore[arg-type]
        frame_shares=tuple(map(float, glass.mean(axis=(1, 2)))),
        uncovered=_uncovered(glass),
        misfit=misfit,
        frame_scatter=scatter,
    )


def fit_flat_field(frames: Sequence[FloatImage]) -> FlatField | None:
    """Fit the falloff from frames of linear light that show some glass.

    Returns
    -------
    FlatField or None
        None when there is too little glass, or it covers too few parts of the field.
    """
    shape = frames[0].shape
    fit = fit_glass([average_cells(frame) for frame in frames], (shape[0], shape[1]))
    return fit.flat_field if fit is not None else None


def _cell_coordinates(
    cells: tuple[int, ...], shape_px: tuple[int, int]
) -> tuple[Float64, Float64]:
    """Return x and y of the cells' middles, where the outermost pixels are at +-1."""
    along = [
        ((np.arange(count) + 0.5) * size / count - 0.5) / (size - 1) * 2 - 1
        for count, size in zip(cells, shape_px, strict=True)
    ]
    y, x = np.meshgrid(*along, indexing="ij")
    return x, y


def _find_glass(log_light: Float64, basis: Float64, start: Mask) -> Mask:
    """Return which cells are glass, by fitting the upper envelope of the green."""
    green = log_light[..., 1]
    glass = start
    for _ in range(_CLIMBS):
        if glass.sum() < _FEW_CELLS:
            return glass
        residual = green - basis @ _fit(green, basis, glass)
        # Move the surface onto the bright side of what is left, then keep what is near.
        top = float(np.quantile(residual[glass], 0.8))
        glass = np.abs(residual - top) < 2 * _GLASS_SCATTER
    for colour in (0, 2):  # glass has no colour of its own, the lamp has one, smoothly
        if glass.sum() < _FEW_CELLS:
            return glass
        colours = log_light[..., colour] - green
        tint = colours - basis @ _fit(colours, basis, glass)
        glass = glass & (np.abs(tint) < 3 * _GLASS_SCATTER)
    return glass


def _fit(log_light: Float64, basis: Float64, glass: Mask) -> Float64:
    """Return the coefficients of the surface, (columns,) or (columns, colours)."""
    chosen = np.broadcast_to(basis, (*glass.shape, basis.shape[-1]))[glass]
    # Normal equations: tens of thousands of cells, a few columns of about 1. The ridge
    # keeps glass on one side only from being singular.
    normal = chosen.T @ chosen + _RIDGE * len(chosen) * np.eye(chosen.shape[1])
    return np.asarray(np.linalg.solve(normal, chosen.T @ log_light[glass]))


def _drop_faint_stain(log_light: Float64, basis: Float64, glass: Mask) -> Mask:
    """Return the glass without cells that are darker than noise makes them.

    Stain only darkens, so the bright side of the residuals shows what noise and misfit
    do, and the dark side is cut where it goes on further than that.
    """
    for _ in range(_TRIMS):
        residual = log_light - basis @ _fit(log_light, basis, glass)
        kept = glass
        for colour in range(3):
            left = residual[..., colour]
            mode = _mode(left[glass])
            above = left[glass & (left > mode)] - mode
            noise = 1.48 * float(np.median(above)) if above.size else 0.0
            kept = kept & (left > mode - max(3 * noise, _LEAST_TRIM))
        if kept.sum() < max(_FEW_CELLS, _LEAST_GLASS * glass.size):
            break
        glass = kept
    return glass


def _mode(values: Float64) -> float:
    """Return the half-sample mode (Robertson and Cryer, JASA 69, 1974)."""
    ordered = np.sort(values)
    while ordered.size > 3:
        half = (ordered.size + 1) // 2
        widths = ordered[half - 1 :] - ordered[: ordered.size - half + 1]
        start = int(np.argmin(widths))
        ordered = ordered[start : start + half]
    return float(ordered.mean())


def _doubts(residual: Float64, glass: Mask) -> tuple[float, Float64, float]:
    """Return scatter between frames, relative u of white per colour, and misfit."""
    shares = glass.mean(axis=(1, 2))
    weighted = np.where(glass[..., None], residual, 0)
    means = np.stack(
        [
            part.sum(axis=(0, 1)) / seen.sum()
            for part, seen, share in zip(weighted, glass, shares, strict=True)
            if share > _LEAST_PART
        ]
        or [np.zeros(3)]
    )
    scatter = means.std(axis=0, ddof=1) if len(means) > 1 else np.zeros(3)
    seen = glass.sum(axis=0)
    left = weighted.sum(axis=0)[seen > 0] / seen[seen > 0, None]
    parts = _part_means(weighted.sum(axis=0), seen)
    # The surface may miss the brightest point by as much as it misses any part: a
    # rectangular distribution (GUM 4.3.7).
    model = np.abs(parts).max(axis=0) / np.sqrt(3)
    misfit = float(np.sqrt(np.mean(left**2)))
    parts_u = (scatter / np.sqrt(len(means)), model, np.full(3, _STAIN_LEAN * misfit))
    return float(scatter.mean()), np.sqrt(np.sum(np.square(parts_u), axis=0)), misfit


def _part_means(total: Float64, seen: npt.NDArray[np.int64]) -> Float64:
    """Return the mean of the cells in each of 5 x 5 parts of the field that has any."""
    means = [
        part.sum(axis=(0, 1)) / count.sum()
        for band, counts in zip(
            np.array_split(total, 5), np.array_split(seen, 5), strict=True
        )
        for part, count in zip(
            np.array_split(band, 5, axis=1),
            np.array_split(counts, 5, axis=1),
            strict=True,
        )
        if count.sum() > 0
    ]
    return np.stack(means)


def _uncovered(glass: Mask) -> tuple[str, ...]:
    """Return the names of those of the 3 x 3 parts that no frame shows as glass."""
    seen = glass.any(axis=0)
    parts = [
        part
        for band in np.array_split(seen, 3)
        for part in np.array_split(band, 3, axis=1)
    ]
    return tuple(
        name
        for name, part in zip(PART_NAMES, parts, strict=True)
        if float(part.mean()) <= _LEAST_PART
    )
