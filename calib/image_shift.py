"""By how much the field has moved over the slide, between two pictures. Pure.

What `bifocus.correlation` finds, with its frame of reference and its trust. On tissue
of 256 px with shot noise, shifts of up to 0.4 of a side are good to 0.005 px; on
128 px, to 0.012 px.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bifocus.correlation import find_whole_shift, high_pass, refine_shift
from bifocus.errors import BlankSlideError
from bifocus.records import FloatImage, UInt8Image

Float64 = npt.NDArray[np.float64]

# Of the high-passed overlap: false shifts of tissue stay under 0.35, true ones over
# 0.8.
TRUSTED_NCC = 0.5
# With the 8 px that the comparison itself leaves out, half of the high-pass's box: what
# the picture's border makes of it stands still, and would pull shifts by 0.04 px.
_BORDER_PX = 8
# Errors that repeat from shift to shift: interpolation.
FLOOR_PX = 0.005
# Standard deviation of a shift times the picture's side, in px: what shading and the
# borders of the overlap add to sensor noise. See the figures above.
_SIDE_PX2 = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldShift:
    """Where the second field lies relative to the first, x right and y down, in px.

    `score` is the NCC of what both show, 0 where nothing fits.
    """

    dx_px: float
    dy_px: float
    score: float

    @property
    def is_trusted(self) -> bool:
        """Whether the pictures really show the same."""
        return self.score >= TRUSTED_NCC

    @property
    def vector_px(self) -> Float64:
        """(x, y)."""
        return np.array([self.dx_px, self.dy_px])


def prepare_picture(green: UInt8Image) -> FloatImage:
    """Return a picture for comparing: high-passed, its border cut off."""
    inner = (slice(_BORDER_PX, -_BORDER_PX), slice(_BORDER_PX, -_BORDER_PX))
    return np.ascontiguousarray(high_pass(green)[inner])


def measure_shift(
    first: FloatImage,
    second: FloatImage,
    *,
    expected_px: Sequence[float] | Float64 = (0.0, 0.0),
    search_px: float,
) -> FieldShift:
    """Find how far the field has moved from the first picture to the second.

    Parameters
    ----------
    first, second
        As `prepare_picture` makes them, of one size.
    expected_px
        About where to look: x, y.
    search_px
        Largest deviation from that on each axis. On a periodic target it must stay
        under half a period.
    """
    start = (round(float(expected_px[0])), round(float(expected_px[1])))
    score, whole = find_whole_shift(first, second, start, max(int(search_px), 2))
    if score <= 0:
        return FieldShift(dx_px=start[0], dy_px=start[1], score=0.0)
    dx_px, dy_px, score = refine_shift(first, second, whole)
    return FieldShift(dx_px=whole[0] + dx_px, dy_px=whole[1] + dy_px, score=score)


def check_shift(shift: FieldShift, where: str) -> None:
    """Refuse a shift that the pictures do not prove.

    Raises
    ------
    BlankSlideError
        With the score and what is needed.
    """
    if not shift.is_trusted:
        msg = (
            f"{where}: two overlapping pictures do not show the same: their "
            f"correlation is {shift.score:.2f}, at least {TRUSTED_NCC} is needed; "
            "choose a region full of tissue, in focus and well lit"
        )
        raise BlankSlideError(msg)


def estimate_noise_px(pictures: Sequence[FloatImage]) -> float:
    """Return the standard deviation of one shift, from pictures of one place.

    Parameters
    ----------
    pictures
        At least two; nothing has moved in between.
    """
    shifts = [
        measure_shift(pictures[0], other, search_px=8).vector_px
        for other in pictures[1:]
    ]
    rms = float(np.sqrt(np.mean(np.square(shifts))))
    side_px = min(pictures[0].shape) + 2 * _BORDER_PX
    return float(np.hypot(rms, _SIDE_PX2 / side_px))
