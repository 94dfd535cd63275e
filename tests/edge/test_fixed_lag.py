"""Placing behind the scan: against truth, a solve of all at once, and its promises."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest

from bifocus.edge.fixed_lag import FixedLagPlacement
from bifocus.edge.loop_closure import Cell, Vector
from bifocus.edge.placement import Placement, solve_placement
from bifocus.edge.registration import PairShift
from bifocus.errors import ConfigError

Float64 = npt.NDArray[np.float64]
ROWS, COLUMNS = 24, 12
STEP_PX = (1100.0, 920.0)


class Simulated:
    """A grid whose pairs are measured with noise, some of them not at all."""

    def __init__(self, seed: int, missing: float = 0.0, scale: float = 1.0) -> None:
        rng = np.random.default_rng(seed)
        cells = [(row, column) for row in range(ROWS) for column in range(COLUMNS)]
        self.nominal: dict[Cell, Vector] = {
            (row, column): (column * STEP_PX[0], row * STEP_PX[1])
            for row, column in cells
        }
        self.true = {
            cell: scale * np.array(self.nominal[cell]) + rng.uniform(-12, 12, 2)
            for cell in cells
        }
        self.pairs = [
            self._measure(cell, other, rng)
            for cell in cells
            for other in ((cell[0], cell[1] + 1), (cell[0] + 1, cell[1]))
            if other in self.true and rng.random() >= missing
        ]

    def _measure(self, a: Cell, b: Cell, rng: np.random.Generator) -> PairShift:
        shift = self.true[b] - self.true[a] + rng.normal(0, 0.03, 2)
        return PairShift(
            row_a=a[0],
            column_a=a[1],
            row_b=b[0],
            column_b=b[1],
            dx_px=float(shift[0]),
            dy_px=float(shift[1]),
            score=0.97,
            is_trusted=True,
        )

    def seam_errors(self, placement: Placement) -> Float64:
        """Error of each seam that was measured."""
        at = {(t.row, t.column): (t.x_px, t.y_px) for t in placement.tiles}
        edges = [((p.row_a, p.column_a), (p.row_b, p.column_b)) for p in self.pairs]
        return np.array(
            [
                np.hypot(*(np.subtract(at[b], at[a]) - (self.true[b] - self.true[a])))
                for a, b in edges
                if a in at and b in at
            ]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A scan that was placed: row by row, and what waited for longer than the lag."""

    places: FixedLagPlacement
    placement: Placement
    waited: set[Cell]


def run(grid: Simulated, lag_rows: int, skip: Iterable[Cell] = ()) -> Done:
    """Scan row by row, solving after each; cells in `skip` do not come."""
    places = FixedLagPlacement(grid.nominal, lag_rows=lag_rows)
    waited: set[Cell] = set()

    def in_use(last_row: int) -> list[PairShift]:
        first = places.first_row_in_use
        return [
            pair
            for pair in grid.pairs
            if first <= pair.row_a
            and pair.row_b <= last_row
            and not {(pair.row_a, pair.column_a), (pair.row_b, pair.column_b)}
            & set(skip)
        ]

    for row in range(ROWS):
        for column in range(COLUMNS):
            if (row, column) not in skip:
                places.add((row, column))
        _, final = places.complete_row(row, in_use(row))
        assert all(row - 2 * lag_rows <= cell[0] <= row - lag_rows for cell in final)
        waited.update(cell for cell in final if cell[0] < row - lag_rows)
    places.finish(in_use(ROWS))
    return Done(places=places, placement=places.to_placement(), waited=waited)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("missing", "scale", "lag_rows"),
    [(0.0, 1.0, 4), (0.0, 1.005, 4), (0.3, 1.0, 3), (0.3, 1.005, 4)],
)
def test_some_rows_behind_is_as_good_as_at_once(
    missing: float, scale: float, lag_rows: int
) -> None:
    """1.1 is the project's goal; no seam may be off by what the stage is off."""
    live, at_once = [], []
    for seed in range(3):
        grid = Simulated(seed, missing, scale)
        live.append(grid.seam_errors(run(grid, lag_rows).placement))
        at_once.append(grid.seam_errors(solve_placement(grid.nominal, grid.pairs)))
    ratio = np.quantile(np.concatenate(live), 0.99) / np.quantile(
        np.concatenate(at_once), 0.99
    )
    assert ratio <= 1.1
    assert np.concatenate(live).max() < 0.25


def bridge(rows: int) -> Simulated:
    """Left and right of a slit lies tissue; the two are joined in one row only."""
    grid = Simulated(11)
    left = COLUMNS // 2 - 1
    grid.pairs = [
        pair
        for pair in grid.pairs
        if not (pair.column_a == left < pair.column_b and pair.row_a != rows)
    ]
    return grid


def test_a_piece_waits_until_it_is_joined() -> None:
    done = run(bridge(7), 4)
    assert {row for row, _ in done.waited} == {0, 1, 2}
    assert len(done.waited) == 3 * COLUMNS // 2
    assert bridge(7).seam_errors(done.placement).max() < 0.2


def test_no_piece_waits_for_ever() -> None:
    """Joined after more than twice the lag: the stage has decided, and it shows."""
    done = run(bridge(12), 4)
    assert {row for row, _ in done.waited} == {0, 1, 2, 3, 4}
    assert bridge(12).seam_errors(done.placement).max() > 0.2


def test_glass_waits_for_nothing() -> None:
    grid = Simulated(12)
    glass = {(row, column) for row in range(5, 9) for column in range(3, 7)}
    grid.pairs = [
        pair
        for pair in grid.pairs
        if not {(pair.row_a, pair.column_a), (pair.row_b, pair.column_b)} & glass
    ]
    assert run(grid, 4).waited == set()


def test_final_places_never_move() -> None:
    grid = Simulated(5)
    places = FixedLagPlacement(grid.nominal, lag_rows=2)
    known: dict[Cell, Vector] = {}
    for row in range(ROWS):
        for column in range(COLUMNS):
            places.add((row, column))
        places.complete_row(row, [p for p in grid.pairs if p.row_b <= row])
        for cell, place in known.items():
            assert places.place_of(cell) == place
        known = {
            (tile.row, tile.column): (tile.x_px, tile.y_px)
            for tile in places.to_placement().tiles
        }
        assert len(known) == COLUMNS * max(0, row - 1)


def test_a_late_tile_goes_between_its_neighbours() -> None:
    grid = Simulated(6)
    late = (3, 5)
    done = run(grid, 4, skip=[late])
    places, placement = done.places, done.placement
    before = {(t.row, t.column): (t.x_px, t.y_px) for t in placement.tiles}
    assert late not in before
    own = [
        pair
        for pair in grid.pairs
        if late in ((pair.row_a, pair.column_a), (pair.row_b, pair.column_b))
    ]
    assert len(own) == 4
    places.place_late(late, own)
    after = places.to_placement()
    assert len(after.tiles) == len(before) + 1
    assert grid.seam_errors(after).max() < 0.2


def test_a_late_tile_that_open_tiles_hold_is_solved_with_them() -> None:
    grid = Simulated(13)
    late, own = (4, 5), []
    places = FixedLagPlacement(grid.nominal, lag_rows=2)
    for row in range(9):
        for column in range(COLUMNS):
            if (row, column) != late:
                places.add((row, column))
        came = row >= 7
        if row == 7:
            own = [p for p in grid.pairs if late in _ends(p) and p.row_b <= 7]
            assert not places.is_late(late, own), "row 5 is open"
            assert places.is_late(late, [p for p in own if p.row_a == p.row_b])
            places.add(late)
        known = [p for p in grid.pairs if p.row_b <= row]
        _, final = places.complete_row(
            row, [p for p in known if came or late not in _ends(p)]
        )
        assert (late in final) == (row == 7)
    assert len(own) == 4
    assert grid.seam_errors(places.to_placement()).max() < 0.2


def _ends(pair: PairShift) -> tuple[Cell, Cell]:
    return (pair.row_a, pair.column_a), (pair.row_b, pair.column_b)


def test_a_late_tile_on_glass_goes_where_the_stage_says() -> None:
    grid = Simulated(7, scale=1.01)
    late = (3, 5)
    done = run(grid, 4, skip=[late])
    places, placement = done.places, done.placement
    places.place_late(late, [])
    at = places.place_of(late)
    assert at is not None
    origin = np.mean(
        [(t.x_px, t.y_px) - grid.true[t.row, t.column] for t in placement.tiles],
        axis=0,
    )
    # Off by what the stage is off there, 12 px at most, not by its scale: 36 px here.
    assert np.abs(at - origin - grid.true[late]).max() < 20


def test_places_are_predicted_from_the_row_above() -> None:
    grid = Simulated(8, scale=1.01)
    places = FixedLagPlacement(grid.nominal)
    for row in range(20):
        for column in range(COLUMNS):
            places.add((row, column))
        places.complete_row(row, [p for p in grid.pairs if p.row_b <= row])
    placement = places.to_placement()
    offset = np.mean(
        [(t.x_px, t.y_px) - grid.true[t.row, t.column] for t in placement.tiles],
        axis=0,
    )
    for column in range(COLUMNS):
        predicted = np.array(places.predict((20, column)))
        assert np.abs(predicted - offset - grid.true[20, column]).max() < 40


def test_false_and_untrusted_pairs_are_counted() -> None:
    places = FixedLagPlacement({(0, 0): (0.0, 0.0), (0, 1): (1100.0, 0.0)})
    places.add((0, 0))
    places.add((0, 1))
    places.finish([])
    measured = Simulated(9).pairs[0]
    near = replace(measured, dx_px=1100.5, dy_px=0.0)
    places.account([near, replace(near, dx_px=1130.0)])
    places.account([replace(near, is_trusted=False)])
    placement = places.to_placement()
    assert placement.residual_px == {((0, 0), (0, 1)): pytest.approx(0.5)}
    assert (placement.n_rejected, places.n_untrusted) == (1, 1)


def test_what_is_not_in_the_plan_is_refused() -> None:
    places = FixedLagPlacement({(0, 0): (0.0, 0.0), (1, 0): (0.0, 900.0)}, lag_rows=1)
    with pytest.raises(ConfigError, match="not in the plan"):
        places.add((0, 1))
    places.add((0, 0))
    places.complete_row(1, [])
    with pytest.raises(ConfigError, match="it is final already"):
        places.add((0, 0))
    with pytest.raises(ConfigError, match="lag of 0"):
        FixedLagPlacement({(0, 0): (0.0, 0.0)}, lag_rows=0)
