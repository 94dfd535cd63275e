"""Which tiles of the slide can be rendered: all that shows in them has its final place.

A tile of the slide is ready when a final source tile reaches into it and no source tile
that is still to come, or to be moved, can. Pure bookkeeping on two grids of booleans.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from bifocus.edge.pyramid import Cell, LevelSize, compute_grid

Box = tuple[float, float, float, float]  # left, top, right, bottom in px


class ReadyTiles:
    """The tile grid of a slide's full resolution; each tile becomes ready once."""

    def __init__(self, size_px: LevelSize, tile_px: int, band_rows: int = 1) -> None:
        """Store the slide's (width, height) and the side of its tiles.

        `band_rows` rows of tiles are taken together, column by column: best as many as
        a source tile is high.
        """
        self._tile_px = tile_px
        self._band_rows = band_rows
        self._shape = compute_grid(size_px, tile_px)
        self._is_reached = np.zeros(self._shape, bool)
        self._is_taken = np.zeros(self._shape, bool)

    def reach(self, boxes: Iterable[Box]) -> None:
        """Note final source tiles."""
        for box in boxes:
            self._is_reached[self._window(box)] = True

    def take_ready(self, still_open: Sequence[Box]) -> list[Cell]:
        """Return the cells that have become ready, band by band.

        That order lets neighbours share the source tiles that both show, whatever the
        size of the slide.

        Parameters
        ----------
        still_open
            Where source tiles that are not final may come to lie.
        """
        is_open = np.zeros(self._shape, bool)
        for box in still_open:
            is_open[self._window(box)] = True
        is_ready = self._is_reached & ~self._is_taken & ~is_open
        self._is_taken |= is_ready
        rows, columns = np.nonzero(is_ready)
        order = np.lexsort((rows, columns, rows // self._band_rows))
        return list(zip(rows[order].tolist(), columns[order].tolist(), strict=True))

    def is_needed(self, box: Box) -> bool:
        """Whether a source tile in this box shows in a tile that is not yet taken."""
        return not bool(self._is_taken[self._window(box)].all())

    def _window(self, box: Box) -> tuple[slice, slice]:
        left, top, right, bottom = box
        first = np.maximum(np.floor(np.array([top, left]) / self._tile_px), 0)
        last = np.maximum(np.ceil(np.array([bottom, right]) / self._tile_px), 0)
        (row, column), (end_row, end_column) = first.astype(int), last.astype(int)
        return slice(row, end_row), slice(column, end_column)


def box_of(
    place: tuple[float, float], field_px: tuple[int, int], reach_px: float = 0.0
) -> Box:
    """Return the box of a source tile of (width, height) at a place, widened.

    >>> box_of((10.0, 20.5), (100, 50), reach_px=2)
    (8.0, 18.5, 112.0, 72.5)
    """
    x_px, y_px = place
    width_px, height_px = field_px
    return (
        x_px - reach_px,
        y_px - reach_px,
        x_px + width_px + reach_px,
        y_px + height_px + reach_px,
    )
