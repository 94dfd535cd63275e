"""Register tiles as they arrive, keeping only the strips that are still needed."""

import math
from collections.abc import Callable

import numpy as np

from bifocus.edge.loop_closure import Cell
from bifocus.edge.placement import STAGE_SD_PX, Matrix, Placement
from bifocus.edge.registration import (
    EdgeStrips,
    PairShift,
    Strip,
    register_strips,
)

# Before the stage is known: both tiles of a pair off by 30 px, and some skew. Looking
# further costs no time, and the score keeps false shifts out.
FIRST_SEARCH_PX = 64
LEAST_SEARCH_PX, MOST_SEARCH_PX = 24, 120
# Of the difference of two tiles' errors, per axis: one pair in 16,000 is missed.
SEARCH_SDS = 4.0
# For the change of the stage's error along a row, which the fit does not follow.
SEARCH_SLACK_PX = 8
# A fit to few tiles says little: as many tiles off by STAGE_SD_PX are added to it.
PRIOR_TILES = 8
IDENTITY: Matrix = ((1.0, 0.0), (0.0, 1.0))

CutAgain = Callable[[int, int], EdgeStrips]


class SeamRegister:
    """Measures the shift between each tile and its neighbours that came before it.

    A strip is dropped as soon as its pair is measured, and strips of the row before the
    last in any case: memory grows with the width of the scan, not with its number of
    tiles. Where a tile arrives late, its neighbours' strips are cut again.
    """

    def __init__(
        self, step_px: tuple[float, float], cut_again: CutAgain | None = None
    ) -> None:
        """Store the nominal step (x, y) between neighbours.

        Parameters
        ----------
        step_px
            Distance of the centres of neighbours by the stage, in px.
        cut_again
            (row, column) -> the strips of a tile that was added before; without it,
            pairs whose strips are gone are not measured.
        """
        self._step_px = step_px
        self._cut_again = cut_again
        self._matrix = IDENTITY
        self._search_px = FIRST_SEARCH_PX
        self._strips: dict[tuple[int, int, str], Strip] = {}
        self._known: set[Cell] = set()
        self.pairs: list[PairShift] = []

    @property
    def search_px(self) -> int:
        """Largest deviation from the expected shift that is looked for now."""
        return self._search_px

    @property
    def n_strips(self) -> int:
        """Number of strips in memory."""
        return len(self._strips)

    def learn(self, placement: Placement) -> None:
        """Expect from now on what a solve has taught about the stage.

        Its scale and rotation move the middle of the search, its error sets the width.
        """
        self._matrix = placement.stage_matrix
        if placement.stage_sd_px is not None:
            n_tiles = len(placement.tiles)
            squares = n_tiles * placement.stage_sd_px**2 + PRIOR_TILES * STAGE_SD_PX**2
            reach_px = SEARCH_SDS * math.sqrt(2 * squares / (n_tiles + PRIOR_TILES))
            wanted = math.ceil(reach_px + SEARCH_SLACK_PX)
            self._search_px = min(MOST_SEARCH_PX, max(LEAST_SEARCH_PX, wanted))

    def add(self, row: int, column: int, strips: EdgeStrips) -> list[PairShift]:
        """Register one tile against those of its four neighbours that are known.

        A tile that was added before is replaced, with all its pairs.

        Returns
        -------
        list of PairShift
            The pairs measured now, which `pairs` holds too.
        """
        if (row, column) in self._known:
            self.pairs = [pair for pair in self.pairs if not _joins(pair, row, column)]
        self._known.add((row, column))
        for side in ("left", "right", "top", "bottom"):
            self._strips[row, column, side] = getattr(strips, side)
        for key in [key for key in self._strips if key[0] < row - 1]:
            del self._strips[key]
        edges = (
            ((row, column - 1), (row, column)),
            ((row, column), (row, column + 1)),
            ((row - 1, column), (row, column)),
            ((row, column), (row + 1, column)),
        )
        new = []
        for first, second in edges:
            if first in self._known and second in self._known:
                pair = self._measure(first, second)
                new += [pair] if pair else []
        self.pairs += new
        return new

    def take_pairs_above(self, row: int) -> list[PairShift]:
        """Remove and return the pairs of which both tiles lie above a row."""
        taken = [pair for pair in self.pairs if max(pair.row_a, pair.row_b) < row]
        self.pairs = [pair for pair in self.pairs if max(pair.row_a, pair.row_b) >= row]
        return taken

    def _measure(self, first: Cell, second: Cell) -> PairShift | None:
        across = first[0] == second[0]
        a = self._take(first, "right" if across else "bottom")
        b = self._take(second, "left" if across else "top")
        if a is None or b is None:
            return None
        step = (self._step_px[0], 0.0) if across else (0.0, self._step_px[1])
        dx_px, dy_px = (np.array(self._matrix) @ step).tolist()
        return register_strips(
            a,
            b,
            nominal_dx_px=dx_px,
            nominal_dy_px=dy_px,
            search_px=self._search_px,
        )

    def _take(self, cell: Cell, side: str) -> Strip | None:
        """Return a strip, which is needed just this once, from memory or cut again."""
        strip = self._strips.pop((*cell, side), None)
        if strip is None and self._cut_again is not None:
            again: Strip = getattr(self._cut_again(*cell), side)
            return again
        return strip


def _joins(pair: PairShift, row: int, column: int) -> bool:
    return (row, column) in ((pair.row_a, pair.column_a), (pair.row_b, pair.column_b))
