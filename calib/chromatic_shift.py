"""How far red and blue lie beside green, over the field: pure mathematics.

Each colour is registered to green in parts of the field, by edges only: where one stain
gives way to another, colours differ on purpose. The parts agree on one shift and on one
difference in magnification; what is left of them tells the uncertainty.
The axial difference, focus of one colour against another, belongs to the optics step.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft

from bifocus.records import FloatImage

Float64 = npt.NDArray[np.float64]

_GREEN = 1
# The field is cut into so many parts a side, none smaller than the registration takes.
_PARTS = 3
_LEAST_PART_PX = 80
_LEAST_PARTS = 4
# Edges: Laplacian of Gaussian of this width, in frequencies a band about 0.2 per pixel.
_EDGE_PX = 1.1
# Colours further apart than this are not those of one objective.
_LARGEST_PX = 6
# Share of the band's power that must agree on one shift; noise alone stays far below.
_LEAST_AGREEMENT = 0.15
_NEWTON_STEPS = 20
# A part this far from the others has locked onto another edge.
_OUTLIER_PX = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class ColourShift:
    """Where one colour's picture lies against green's.

    Attributes
    ----------
    right_px, down_px
        In the field's middle.
    u_px
        Standard uncertainty of each of the two.
    magnification
        Its picture is larger than green's by this share of the distance to the middle.
    parts
        Places in which both colours showed common texture.
    """

    right_px: float
    down_px: float
    u_px: float
    magnification: float
    parts: int

    @property
    def distance_px(self) -> float:
        """Length of the shift, without what the noise of two components adds to it."""
        squared = self.right_px**2 + self.down_px**2 - 2 * self.u_px**2
        return float(np.sqrt(max(squared, 0.0)))


def measure_colour_shift(
    frames: Sequence[FloatImage], colour: int
) -> ColourShift | None:
    """Register one colour to green.

    Parameters
    ----------
    frames
        Linear light, (rows, columns, 3), of one place in focus; noise averages out.
    colour
        0 for red, 2 for blue.

    Returns
    -------
    ColourShift or None
        None where too few parts of the field have texture that both colours share.
    """
    mean: FloatImage = np.stack(list(frames)).mean(axis=0, dtype=np.float32)
    rows, columns = mean.shape[:2]
    middles: list[tuple[float, float]] = []
    shifts: list[tuple[float, float]] = []
    for top, bottom in _bands(rows):
        for left, right in _bands(columns):
            part = mean[top:bottom, left:right]
            found = _register(part[..., colour], part[..., _GREEN])
            if found is not None:
                middles.append(
                    ((left + right - columns) / 2, (top + bottom - rows) / 2)
                )
                shifts.append(found)
    places, seen = np.asarray(middles), np.asarray(shifts).reshape(-1, 2)
    if len(seen) < _LEAST_PARTS:
        return None
    away_px = np.abs(seen - np.median(seen, axis=0)).max(axis=1)
    kept = away_px <= max(_OUTLIER_PX, 4 * float(np.median(away_px)))
    if kept.sum() < _LEAST_PARTS:
        return None
    return _combine(places[kept], seen[kept])


def _bands(size: int) -> list[tuple[int, int]]:
    count = max(1, min(_PARTS, size // _LEAST_PART_PX))
    edges = np.linspace(0, size, count + 1).astype(int)
    return [(int(a), int(b)) for a, b in itertools.pairwise(edges)]


def _register(moved: FloatImage, fixed: FloatImage) -> tuple[float, float] | None:
    """Return how far right and down `moved` lies beside `fixed`, or None."""
    edges, frequency = _edge_filter(moved.shape)
    first, second = (
        scipy.fft.rfft2(_windowed(plane)) * edges for plane in (moved, fixed)
    )
    cross = first * np.conj(second)
    correlation = scipy.fft.irfft2(cross, moved.shape)
    reach = np.arange(-_LARGEST_PX, _LARGEST_PX + 1)
    near = correlation[np.ix_(reach, reach)]
    row, column = np.unravel_index(int(np.argmax(near)), near.shape)
    shift = np.array([reach[row], reach[column]], dtype=np.float64)
    cross, frequency = cross.ravel(), frequency.reshape(2, -1)
    for _ in range(_NEWTON_STEPS):
        turned = cross * np.exp(1j * (shift @ frequency))
        slope = -(frequency * turned.imag).sum(axis=1)
        curvature = (frequency * np.maximum(turned.real, 0)) @ frequency.T
        step = np.linalg.solve(curvature + 1e-12 * np.eye(2), slope)
        shift = shift + np.clip(step, -0.5, 0.5)
        if np.abs(step).max() < 1e-4:
            break
    turned = cross * np.exp(1j * (shift @ frequency))
    power = float(np.sqrt((np.abs(first) ** 2).sum() * (np.abs(second) ** 2).sum()))
    agreement = float(turned.real.sum()) / (power + 1e-30)
    if agreement < _LEAST_AGREEMENT or np.abs(shift).max() > _LARGEST_PX:
        return None
    return float(shift[1]), float(shift[0])


def _windowed(plane: FloatImage) -> Float64:
    down, right = (np.hanning(size + 2)[1:-1] for size in plane.shape)
    window = np.outer(down, right)
    level = float((plane * window).sum() / window.sum())
    return np.asarray((plane - level) * window, dtype=np.float64)


def _edge_filter(shape: tuple[int, ...]) -> tuple[Float64, Float64]:
    """Return the filter on the half plane, and angular frequencies (2, rows, half)."""
    rows = np.broadcast_to(
        np.fft.fftfreq(shape[0])[:, None], (shape[0], shape[1] // 2 + 1)
    )
    columns = np.broadcast_to(np.fft.rfftfreq(shape[1])[None, :], rows.shape)
    squared = (2 * np.pi) ** 2 * (rows**2 + columns**2)
    edges = squared * np.exp(-squared * _EDGE_PX**2 / 2)
    return edges, 2 * np.pi * np.stack([rows, columns])


def _combine(middles: Float64, shifts: Float64) -> ColourShift:
    """Fit shift and magnification to the parts."""
    count = len(shifts)
    columns = np.zeros((2 * count, 3))
    columns[:count, 0] = columns[count:, 1] = 1
    columns[:, 2] = middles.T.ravel()
    seen = shifts.T.ravel()
    fitted = np.linalg.lstsq(columns, seen, rcond=None)[0]
    freedom = 2 * count - 3
    variance = float(((seen - columns @ fitted) ** 2).sum()) / freedom
    spread = variance * np.linalg.inv(columns.T @ columns)
    # Few parts know their own scatter badly: Student's t has this much more variance.
    inflation = freedom / (freedom - 2)
    return ColourShift(
        right_px=float(fitted[0]),
        down_px=float(fitted[1]),
        u_px=float(np.sqrt(inflation * max(spread[0, 0], spread[1, 1]))),
        magnification=float(fitted[2]),
        parts=count,
    )
