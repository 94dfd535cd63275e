"""How far one tile lies from its neighbour, to a few hundredths of a pixel.

A tile is needed only while its `EdgeStrips` are cut; a scan keeps the strips whose
neighbours are still to come, which is one row's `bottom` strips in the main. The shift
is found by `correlation`; here it gets its frame of reference and its trust.
"""

from dataclasses import dataclass

import numpy as np

from bifocus.correlation import find_whole_shift, high_pass, refine_shift
from bifocus.errors import ConfigError
from bifocus.records import UInt8Image

# Synthetic tissue with up to 97 % glass: false pairs score 0.34 at most, true ones 0.88
# at least. tests/edge/test_registration.py keeps watch.
TRUSTED_NCC = 0.5
# A stage is off by +-12 px, so a pair by +-24; the rest is for drift and skew.
SEARCH_PX = 40
GREEN = 1  # Haematoxylin and eosin both absorb it, and a Bayer sensor has most of it.


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """The border of a tile that may overlap a neighbour: one channel, (rows, columns).

    `row` and `column` name the tile; `x_px, y_px` is the strip's corner inside it.
    """

    row: int
    column: int
    x_px: int
    y_px: int
    pixels: UInt8Image


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeStrips:
    """The four border strips of a tile, as copies, so that the tile can be let go."""

    left: Strip
    right: Strip
    top: Strip
    bottom: Strip


@dataclass(frozen=True, slots=True, kw_only=True)
class PairShift:
    """Where tile b lies relative to tile a, corner to corner, in mosaic_px.

    `score` is the high-passed NCC of the overlap, -1 to 1; a pair that `is_trusted` has
    passed the gate. The shift of any other pair is no more than a guess.
    """

    row_a: int
    column_a: int
    row_b: int
    column_b: int
    dx_px: float
    dy_px: float
    score: float
    is_trusted: bool


def extract_strips(
    pixels: UInt8Image,
    *,
    row: int,
    column: int,
    overlap_x_px: float,
    overlap_y_px: float,
    margin_px: int = SEARCH_PX,
) -> EdgeStrips:
    """Cut the four border strips of a tile.

    Parameters
    ----------
    pixels
        The tile, (rows, columns, 3) RGB or (rows, columns), uint8.
    row, column
        Its cell in the scan grid.
    overlap_x_px, overlap_y_px
        Nominal overlap with the neighbours to the left and right, and above and below.
    margin_px
        What the strips are wider than that, for tiles that overlap more than planned.

    Returns
    -------
    EdgeStrips
        Copies; no view into `pixels` is kept.

    Raises
    ------
    ConfigError
        The image is not 8-bit grey or RGB, or an overlap is not positive.
    """
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3):
        msg = f"a tile must be 8-bit grey or RGB, got {pixels.dtype} {pixels.shape}"
        raise ConfigError(msg)
    if min(overlap_x_px, overlap_y_px) <= 0:
        msg = f"overlaps must be positive, got {overlap_x_px} and {overlap_y_px} px"
        raise ConfigError(msg)
    plane = pixels if pixels.ndim == 2 else pixels[:, :, GREEN]
    height, width = plane.shape
    across = min(width, round(overlap_x_px) + margin_px)
    down = min(height, round(overlap_y_px) + margin_px)

    def cut(x_px: int, y_px: int, columns: int, rows: int) -> Strip:
        part = plane[y_px : y_px + rows, x_px : x_px + columns].copy()
        return Strip(row=row, column=column, x_px=x_px, y_px=y_px, pixels=part)

    return EdgeStrips(
        left=cut(0, 0, across, height),
        right=cut(width - across, 0, across, height),
        top=cut(0, 0, width, down),
        bottom=cut(0, height - down, width, down),
    )


def register_strips(
    first: Strip,
    second: Strip,
    *,
    nominal_dx_px: float,
    nominal_dy_px: float,
    search_px: int = SEARCH_PX,
    trusted_ncc: float = TRUSTED_NCC,
) -> PairShift:
    """Measure where the second strip's tile lies relative to the first one's.

    Parameters
    ----------
    first, second
        Facing strips: the first's `right` and the second's `left`, or `bottom`, `top`.
    nominal_dx_px, nominal_dy_px
        Expected shift of the second tile's corner against the first's, from the stage.
    search_px
        Largest deviation from the nominal shift that is looked for, on each axis.
    trusted_ncc
        Score from which a pair is trusted.

    Returns
    -------
    PairShift
        Untrusted, with the nominal shift and score 0, where nothing can be measured.
    """
    # From here to the end, shifts are those of the second strip in the first's frame.
    x_px, y_px = second.x_px - first.x_px, second.y_px - first.y_px
    start = (round(nominal_dx_px + x_px), round(nominal_dy_px + y_px))
    a, b = high_pass(first.pixels), high_pass(second.pixels)
    score, whole = find_whole_shift(a, b, start, search_px)
    fraction_x = fraction_y = 0.0
    if score > 0:
        fraction_x, fraction_y, score = refine_shift(a, b, whole)
    dx_px, dy_px = nominal_dx_px, nominal_dy_px
    if score > 0:
        dx_px = whole[0] + fraction_x - x_px
        dy_px = whole[1] + fraction_y - y_px
    return PairShift(
        row_a=first.row,
        column_a=first.column,
        row_b=second.row,
        column_b=second.column,
        dx_px=dx_px,
        dy_px=dy_px,
        score=score,
        is_trusted=score >= trusted_ncc,
    )
