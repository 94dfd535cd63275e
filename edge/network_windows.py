"""Cuts a picture into windows of one size, so that memory stays bounded.

Every window starts at a multiple of the network's stride and overlaps its neighbour by
twice the halo; of each only what lies a halo away from its inner edges is kept. So the
kept pixels are, bit for bit, those of the network run on the whole picture.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np

from bifocus.edge.network_inputs import NetworkForm
from bifocus.errors import EngineError
from bifocus.records import UInt8Image

# Pixels of a window where the graph leaves the choice. `base` in fp32 needs about 290
# bytes a pixel in ONNX Runtime; a 1224x1024 tile in two windows stays under 600 MB
# with its physics image, and costs 14 % more than in one.
MOST_WINDOW_PX = 720_000
_MOST_CUTS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One window along one axis: it starts at `start`, and `keep_*` of it is kept."""

    start: int
    keep_from: int
    keep_to: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowPlan:
    """Windows of one size that cover a padded picture; spans are of rows, columns."""

    size_px: tuple[int, int]
    padded_px: tuple[int, int]
    rows: tuple[Span, ...]
    columns: tuple[Span, ...]

    def cut(
        self, pictures: Mapping[str, UInt8Image]
    ) -> Iterator[dict[str, UInt8Image]]:
        """Yield the windows of the pictures, row by row; they share memory with them.

        The picture's last row and column are repeated up to the padded size, as the
        networks do inside.
        """
        padded = {
            name: _padded(part, self.padded_px) for name, part in pictures.items()
        }
        height, width = self.size_px
        for row, column in product(self.rows, self.columns):
            rows = slice(row.start, row.start + height)
            columns = slice(column.start, column.start + width)
            yield {name: part[rows, columns] for name, part in padded.items()}

    def join(self, windows: Iterator[UInt8Image], shape: tuple[int, int]) -> UInt8Image:
        """Return the picture of `shape` (rows, columns) from the computed windows."""
        whole = np.empty((*self.padded_px, 3), dtype=np.uint8)
        spans = product(self.rows, self.columns)
        for (row, column), pixels in zip(spans, windows, strict=True):
            rows = slice(row.keep_from, row.keep_to)
            columns = slice(column.keep_from, column.keep_to)
            from_row, from_column = row.start, column.start
            whole[rows, columns] = pixels[
                row.keep_from - from_row : row.keep_to - from_row,
                column.keep_from - from_column : column.keep_to - from_column,
            ]
        return np.ascontiguousarray(whole[: shape[0], : shape[1]])


def plan_windows(
    form: NetworkForm,
    shape: tuple[int, int],
    *,
    most_window_px: int = MOST_WINDOW_PX,
) -> WindowPlan:
    """Return the cheapest windows for a picture of `shape` (rows, columns).

    Parameters
    ----------
    form
        The network; a graph of one size decides the windows.
    shape
        Rows and columns of the picture.
    most_window_px
        Pixels a window may have, where the graph takes any size and its halo allows.

    Raises
    ------
    EngineError
        If a graph of one size cannot cover the picture; it names the legal size.
    """
    stride = form.stride_px
    padded = (_rounded(shape[0], stride), _rounded(shape[1], stride))
    if form.size_px is not None:
        rows, columns = (
            _cuts_of(form, side, size)
            for side, size in zip(padded, form.size_px, strict=True)
        )
        size = form.size_px
    else:
        rows, columns = _cheapest(form, padded, most_window_px)
        size = (_side(padded[0], rows, form), _side(padded[1], columns, form))
    return WindowPlan(
        size_px=size,
        padded_px=padded,
        rows=_spans(padded[0], size[0], rows, form),
        columns=_spans(padded[1], size[1], columns, form),
    )


def _cheapest(
    form: NetworkForm, padded: tuple[int, int], most_px: int
) -> tuple[int, int]:
    """Return how many windows down and across cost least and stay small enough."""
    choices = []
    for rows, columns in product(range(1, _MOST_CUTS), repeat=2):
        height, width = _side(padded[0], rows, form), _side(padded[1], columns, form)
        too_many = (rows > 1 and height < 2 * form.halo_px + form.stride_px) or (
            columns > 1 and width < 2 * form.halo_px + form.stride_px
        )
        if too_many:
            continue
        area = height * width
        # Windows that are too large for the limit come last, the smallest first.
        excess = max(0, area - most_px)
        choices.append((excess, area * rows * columns, rows * columns, rows, columns))
    return min(choices)[3:]


def _side(padded: int, count: int, form: NetworkForm) -> int:
    """Return the side of each of `count` windows that together cover `padded`."""
    overlap = 2 * form.halo_px * (count - 1)
    return _rounded(-(-(padded + overlap) // count), form.stride_px)


def _cuts_of(form: NetworkForm, padded: int, size: int) -> int:
    inner = size - 2 * form.halo_px
    if size > padded or size % form.stride_px or (size < padded and inner <= 0):
        manifest = form.manifest
        mend = f"; mend: {manifest.export_command}" if manifest else ""
        msg = (
            f"{form.network}: made for a side of {size} px, the picture's is {padded}; "
            f"it needs a side of at most {padded} px, in multiples of "
            f"{form.stride_px}, and more than {2 * form.halo_px}{mend}"
        )
        raise EngineError(msg)
    return 1 if size == padded else -(-(padded - 2 * form.halo_px) // inner)


def _spans(padded: int, size: int, count: int, form: NetworkForm) -> tuple[Span, ...]:
    stride = form.stride_px
    starts = [
        (padded - size) * i // max(count - 1, 1) // stride * stride
        for i in range(count)
    ]
    # A cut may lie anywhere from a halo inside the next window to one inside this.
    cuts = [
        (start + size - form.halo_px + following + form.halo_px) // 2
        for start, following in pairwise(starts)
    ]
    edges = [0, *cuts, padded]
    return tuple(
        Span(start=start, keep_from=low, keep_to=high)
        for start, (low, high) in zip(starts, pairwise(edges), strict=True)
    )


def _padded(picture: UInt8Image, shape: tuple[int, int]) -> UInt8Image:
    down, right = shape[0] - picture.shape[0], shape[1] - picture.shape[1]
    if down == 0 and right == 0:
        return picture
    return np.pad(picture, ((0, down), (0, right), (0, 0)), mode="edge")


def _rounded(side: int, stride: int) -> int:
    return -(-side // stride) * stride
