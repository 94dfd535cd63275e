"""Place tiles while the scan runs: rows some way behind it are final.

After each row, the rows that are not final yet are solved together, held by the last
final ones; the oldest of them then become final too. With four rows between, seams are
as good as those of one solve at the end (tests/edge/test_fixed_lag.py), and neither
memory nor time of a solve grow with the number of rows.

What no pair joins to the final tiles yet, but a row to come may, waits: only the stage
knows where it lies, and once it is final, the seam at which it is joined later stays
open by the stage's error. It waits for `lag_rows` more, at most.

Final rows are held to as they are, without covariance: they are in the slide. How far
they are from the truth does not show; how far a tile is from them does.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from bifocus.edge.joined_pieces import find_joined_later
from bifocus.edge.loop_closure import Cell, Edge, Vector
from bifocus.edge.placement import (
    LARGEST_RESIDUAL_PX,
    Matrix,
    Placement,
    solve_placement,
)
from bifocus.edge.registration import PairShift
from bifocus.errors import ConfigError
from bifocus.records import PlacedTile

LAG_ROWS = 4
ANCHOR_ROWS = 2  # Final rows in each solve: one is held to, two show its direction.
LATE_REACH = (
    2  # Rows and columns around a late tile that tell what the stage did there.
)


class FixedLagPlacement:
    """Positions of the tiles of a scan, final row by row; pure, without pictures.

    Feed it the cells as they arrive and the pairs of each solve; it never changes a
    position that it has returned.
    """

    def __init__(
        self, nominal: Mapping[Cell, Vector], *, lag_rows: int = LAG_ROWS
    ) -> None:
        """Store where the stage would put every planned tile.

        Parameters
        ----------
        nominal
            (row, column) -> (x_px, y_px) of every tile that may come; results are in
            the same frame.
        lag_rows
            Whole rows that stay open behind the one last completed, >= 1.
        """
        if not nominal or lag_rows < 1:
            msg = f"{len(nominal)} tiles and a lag of {lag_rows} rows cannot be placed"
            raise ConfigError(msg)
        self._nominal = dict(nominal)
        self._lag_rows = lag_rows
        self._open: set[Cell] = set()
        self._final_rows = min(row for row, _ in nominal)  # rows above it are final
        self._anchors: dict[Cell, Vector] = {}
        self._placed: dict[Cell, Vector] = {}
        self._residual_px: dict[Edge, float] = {}
        self._n_rejected = 0
        self._n_untrusted = 0
        self._estimate: dict[Cell, Vector] = {}
        self._stage_sd_px: float | None = None
        self._matrix: Matrix = ((1.0, 0.0), (0.0, 1.0))

    @property
    def final_rows(self) -> int:
        """Rows above this one are final, but for what waits; see `is_late`."""
        return self._final_rows

    @property
    def n_untrusted(self) -> int:
        """Pairs accounted for between which nothing could be measured."""
        return self._n_untrusted

    @property
    def first_row_in_use(self) -> int:
        """Pairs above this row are not needed by any later solve."""
        waiting = min((row for row, _ in self._open), default=self._final_rows)
        return min(waiting, self._final_rows) - ANCHOR_ROWS

    def place_of(self, cell: Cell) -> Vector | None:
        """Return the final position of a tile, None while it has none."""
        return self._placed.get(cell)

    def tiles_of(self, cells: Sequence[Cell]) -> list[PlacedTile]:
        """Return the final positions of these cells, all of which are final."""
        return [
            PlacedTile(
                row=cell[0],
                column=cell[1],
                x_px=self._placed[cell][0],
                y_px=self._placed[cell][1],
            )
            for cell in cells
        ]

    def predict(self, cell: Cell) -> Vector:
        """Return the best guess of where a planned tile lies or will lie."""
        for known in (self._placed, self._estimate):
            if cell in known:
                return known[cell]
        x_px, y_px = self._nominal[cell]
        for n_rows in range(1, self._lag_rows + ANCHOR_ROWS + 1):
            above = (cell[0] - n_rows, cell[1])
            at = self._estimate.get(above) or self._placed.get(above)
            if at is not None:
                was_x_px, was_y_px = self._nominal[above]
                return x_px + at[0] - was_x_px, y_px + at[1] - was_y_px
        return x_px, y_px

    def add(self, cell: Cell) -> None:
        """Count a tile as arrived, for the next solve; may be repeated until then."""
        if cell not in self._nominal or cell in self._placed:
            msg = f"tile {cell} is not in the plan, or it is final already"
            raise ConfigError(msg)
        self._open.add(cell)

    def is_late(self, cell: Cell, pairs: Sequence[PairShift]) -> bool:
        """Whether a tile's row is final, and nothing that is open holds the tile.

        `pairs` are its own. One that is held by open tiles belongs into their solve.
        """
        if cell[0] >= self._final_rows or cell in self._open:
            return False
        return not any(
            pair.is_trusted
            and not self._open.isdisjoint(
                {(pair.row_a, pair.column_a), (pair.row_b, pair.column_b)}
            )
            for pair in pairs
        )

    def complete_row(
        self, row: int, pairs: Sequence[PairShift]
    ) -> tuple[Placement | None, list[Cell]]:
        """Solve all that is open; rows `lag_rows` above `row` become final.

        All of their tiles that are joined to final ones, that is, or never will be.

        Parameters
        ----------
        row
            The last row that the scan has left behind.
        pairs
            All pairs from `first_row_in_use` on.

        Returns
        -------
        tuple
            The solve (None if nothing is open), and the cells that became final.
        """
        solved = self._solve(row - self._lag_rows, pairs)
        if solved is None:
            return None, []
        waiting = find_joined_later(
            self._open | self._anchors.keys(), solved.residual_px, self._anchors, row
        )
        longest = row - 2 * self._lag_rows
        done = [
            cell
            for cell in sorted(self._open)
            if cell[0] < self._final_rows
            and (cell not in waiting or cell[0] <= longest)
        ]
        self._finalise(done, self._estimate)
        return solved, done

    def finish(self, pairs: Sequence[PairShift]) -> tuple[Placement | None, list[Cell]]:
        """Solve what is open; every tile that arrived becomes final."""
        solved = self._solve(max(row for row, _ in self._nominal), pairs)
        done = sorted(self._open)
        self._finalise(done, self._estimate)
        return solved, done

    def place_late(self, cell: Cell, pairs: Sequence[PairShift]) -> None:
        """Place one tile of a final row among its final neighbours, for good.

        `pairs` are its own; those with tiles that are still open wait for their solve.
        """
        row, column = cell
        around = {
            at: self._placed[at]
            for at in (
                (row + down, column + across)
                for down in range(-LATE_REACH, LATE_REACH + 1)
                for across in range(-LATE_REACH, LATE_REACH + 1)
            )
            if at in self._placed
        }
        nominal = {at: self._nominal[at] for at in (cell, *around)}
        solved = solve_placement(
            nominal, pairs, frozen=around, is_moved_to_origin=False
        )
        self._finalise([cell], _by_cell(solved.tiles))

    def account(self, pairs: Sequence[PairShift]) -> None:
        """Note the seam errors of pairs that no later solve needs."""
        for pair in pairs:
            a, b = (pair.row_a, pair.column_a), (pair.row_b, pair.column_b)
            if not pair.is_trusted:
                self._n_untrusted += 1
                continue
            shift = np.subtract(self._placed[b], self._placed[a])
            left_px = float(np.hypot(*(shift - (pair.dx_px, pair.dy_px))))
            if left_px <= LARGEST_RESIDUAL_PX:
                self._residual_px[a, b] = left_px
            else:
                self._n_rejected += 1

    def to_placement(self) -> Placement:
        """Return all final positions and what is known of their quality."""
        return Placement(
            tiles=tuple(self.tiles_of(sorted(self._placed))),
            residual_px=dict(self._residual_px),
            n_rejected=self._n_rejected,
            stage_sd_px=self._stage_sd_px,
            stage_matrix=self._matrix,
        )

    def _solve(
        self, last_final_row: int, pairs: Sequence[PairShift]
    ) -> Placement | None:
        """Estimate the place of all that is open; None if nothing is."""
        self._final_rows = max(self._final_rows, last_final_row + 1)
        if not self._open:
            return None
        solved = solve_placement(
            {cell: self._nominal[cell] for cell in self._open | self._anchors.keys()},
            pairs,
            frozen=self._anchors,
            is_moved_to_origin=False,
        )
        self._estimate = _by_cell(solved.tiles)
        self._matrix = solved.stage_matrix
        if solved.stage_sd_px is not None:
            self._stage_sd_px = solved.stage_sd_px
        return solved

    def _finalise(self, cells: Sequence[Cell], at: Mapping[Cell, Vector]) -> None:
        for cell in cells:
            self._placed[cell] = at[cell]
            self._anchors[cell] = at[cell]
            self._open.discard(cell)
        for cell in [c for c in self._anchors if c[0] < self.first_row_in_use]:
            del self._anchors[cell]


def _by_cell(tiles: Sequence[PlacedTile]) -> dict[Cell, Vector]:
    return {(tile.row, tile.column): (tile.x_px, tile.y_px) for tile in tiles}
