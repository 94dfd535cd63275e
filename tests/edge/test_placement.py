"""Placement against closed forms, exact truth, invariants and planted false pairs."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bifocus.edge.loop_closure import Cell, Vector, find_false_pairs
from bifocus.edge.placement import Placement, solve_placement
from bifocus.edge.registration import PairShift
from bifocus.errors import ConfigError

Float64 = npt.NDArray[np.float64]
STEP_PX = (1100.0, 920.0)


def make_pair(
    a: Cell, b: Cell, shift: Float64 | Vector, *, score: float = 0.97
) -> PairShift:
    return PairShift(
        row_a=a[0],
        column_a=a[1],
        row_b=b[0],
        column_b=b[1],
        dx_px=float(shift[0]),
        dy_px=float(shift[1]),
        score=score,
        is_trusted=score >= 0.5,
    )


def make_grid(
    n_rows: int,
    n_columns: int,
    rng: np.random.Generator,
    *,
    stage_error_px: float = 12.0,
    pair_noise_px: float = 0.0,
    scale: tuple[float, float] = (1.0, 1.0),
) -> tuple[dict[Cell, Vector], dict[Cell, Float64], list[PairShift]]:
    """Nominal and true positions of a grid, and all pair shifts."""
    cells = [(row, column) for row in range(n_rows) for column in range(n_columns)]
    nominal = {(r, c): (c * STEP_PX[0], r * STEP_PX[1]) for r, c in cells}
    true = {
        cell: np.array(nominal[cell]) * scale
        + rng.uniform(-stage_error_px, stage_error_px, 2)
        for cell in cells
    }
    pairs = [
        make_pair((r, c), b, true[b] - true[r, c] + rng.normal(0, pair_noise_px, 2))
        for r, c in cells
        for b in ((r, c + 1), (r + 1, c))
        if b in true
    ]
    return nominal, true, pairs


def positions(placement: Placement) -> dict[Cell, Float64]:
    return {
        (tile.row, tile.column): np.array([tile.x_px, tile.y_px])
        for tile in placement.tiles
    }


def worst_error_px(placement: Placement, true: dict[Cell, Float64]) -> float:
    """Largest distance from the truth, after the common offset is taken off."""
    placed = positions(placement)
    error = np.array([placed[cell] - true[cell] for cell in placed])
    return float(np.hypot(*(error - error.mean(axis=0)).T).max())


def test_two_tiles_lie_one_shift_apart() -> None:
    nominal = {(0, 0): (0.0, 0.0), (0, 1): (1100.0, 0.0)}
    placement = solve_placement(nominal, [make_pair((0, 0), (0, 1), (1093.25, -4.5))])
    # The stage pulls with (0.05 / 10)^2 of the pair's weight: 0.0002 px of 7 px.
    a, b = placement.tiles
    assert (a.x_px, b.y_px) == (0, 0)
    assert (b.x_px, a.y_px) == pytest.approx((1093.25, 4.5), abs=1e-3)
    assert placement.residual_px[(0, 0), (0, 1)] < 1e-3


def test_a_loop_shares_its_misclosure_among_its_sides() -> None:
    # Closed form: four equal weights share a misclosure of 0.04 px equally.
    nominal, true, pairs = make_grid(2, 2, np.random.default_rng(1), stage_error_px=0)
    pairs[0] = replace(pairs[0], dx_px=pairs[0].dx_px + 0.04)
    placement = solve_placement(nominal, pairs)
    for residual_px in placement.residual_px.values():
        assert residual_px == pytest.approx(0.01, abs=5e-4)
    assert placement.n_rejected == 0
    assert len(placement.residual_px) == len(pairs)
    assert worst_error_px(placement, true) < 0.03


def test_agrees_with_dense_least_squares() -> None:
    nominal, _, pairs = make_grid(3, 4, np.random.default_rng(2), pair_noise_px=0.01)
    cells = sorted(nominal)
    design = np.zeros((len(pairs), len(cells)))
    for i, pair in enumerate(pairs):
        design[i, cells.index((pair.row_b, pair.column_b))] = 1
        design[i, cells.index((pair.row_a, pair.column_a))] = -1
    shifts = np.array([(pair.dx_px, pair.dy_px) for pair in pairs])
    expected = np.linalg.lstsq(design, shifts, rcond=None)[0]
    placed = np.array(list(positions(solve_placement(nominal, pairs)).values()))
    # What differs is the faint pull of the stage and the Cauchy weights near 1.
    np.testing.assert_allclose(
        placed - placed.mean(axis=0), expected - expected.mean(axis=0), atol=2e-3
    )


def test_many_noisy_pairs_give_exact_positions() -> None:
    nominal, true, pairs = make_grid(
        12, 12, np.random.default_rng(3), pair_noise_px=0.03, scale=(1.004, 0.997)
    )
    placement = solve_placement(nominal, pairs)
    assert worst_error_px(placement, true) < 0.15
    assert placement.n_rejected == 0
    (xx, xy), (yx, yy) = placement.stage_matrix
    # 12 px of stage error over 12 steps of 1000 px leave some 0.0003 of doubt.
    assert (xx, yy) == pytest.approx((1.004, 0.997), abs=1e-3)
    assert (xy, yx) == pytest.approx((0, 0), abs=1e-3)
    # Uniform +-12 px has a standard deviation of 12 / sqrt(3).
    assert placement.stage_sd_px == pytest.approx(12 / 3**0.5, rel=0.15)


def test_false_pairs_are_rejected() -> None:
    rng = np.random.default_rng(4)
    nominal, true, pairs = make_grid(8, 8, rng, pair_noise_px=0.03)
    planted = rng.choice(len(pairs), 8, replace=False)
    for i in planted:
        off = rng.uniform(8, 30, 2) * rng.choice([-1, 1], 2)
        pair = pairs[i]
        pairs[i] = replace(
            pair, dx_px=pair.dx_px + off[0], dy_px=pair.dy_px + off[1], score=0.55
        )
    assert find_false_pairs(pairs, nominal) <= set(planted.tolist())
    placement = solve_placement(nominal, pairs)
    assert placement.n_rejected == len(planted)
    assert worst_error_px(placement, true) < 0.2


def test_the_false_pair_between_two_loops_needs_no_score() -> None:
    nominal, _, pairs = make_grid(2, 3, np.random.default_rng(5))
    (middle,) = (
        i
        for i, pair in enumerate(pairs)
        if (pair.row_a, pair.column_a, pair.row_b) == (0, 1, 1)
    )
    pairs[middle] = replace(pairs[middle], dx_px=pairs[middle].dx_px + 5)
    assert find_false_pairs(pairs, nominal) == {middle}


def test_pairs_that_are_not_trusted_do_not_matter() -> None:
    nominal, _, pairs = make_grid(3, 3, np.random.default_rng(6), pair_noise_px=0.02)
    noise = [make_pair((0, 0), (0, 1), (900, 50), score=0.2)]
    outside = [make_pair((2, 2), (2, 3), (1100, 0))]
    without = solve_placement(nominal, pairs)
    assert solve_placement(nominal, [*pairs, *noise, *outside]) == without


def test_tiles_on_glass_lie_where_the_corrected_stage_says() -> None:
    rng = np.random.default_rng(7)
    # No stage error but its scale: the rest is exact, so islands must fit exactly.
    nominal, true, pairs = make_grid(7, 7, rng, stage_error_px=0.0, scale=(1.01, 0.985))
    glass = {(r, c) for r in range(7) for c in range(2, 5)} | {(0, 0)}
    pairs = [
        pair
        for pair in pairs
        if not {(pair.row_a, pair.column_a), (pair.row_b, pair.column_b)} & glass
    ]
    placement = solve_placement(nominal, pairs)
    # Uncorrected, the islands would be 1 % of 5500 px = 55 px off.
    assert worst_error_px(placement, true) < 0.5


def test_glass_is_as_good_as_the_stage() -> None:
    rng = np.random.default_rng(8)
    nominal, true, pairs = make_grid(8, 8, rng, stage_error_px=12, scale=(1.005, 1))
    lonely = {(2, 3), (5, 5), (0, 7)}
    pairs = [
        pair
        for pair in pairs
        if not {(pair.row_a, pair.column_a), (pair.row_b, pair.column_b)} & lonely
    ]
    placement = solve_placement(nominal, pairs)
    placed = positions(placement)
    reference = placed[4, 4] - true[4, 4]
    for cell, place in placed.items():
        limit_px = 25 if cell in lonely else 0.01
        assert np.abs(place - true[cell] - reference).max() < limit_px


def test_no_pairs_at_all_leave_the_stage() -> None:
    nominal = {(0, 0): (5.0, 7.0), (0, 2): (2205.0, 8.0), (3, 1): (1105.0, 2760.0)}
    placement = solve_placement(nominal, [])
    for cell, place in positions(placement).items():
        assert place == pytest.approx(np.array(nominal[cell]) - (5, 7), abs=1e-6)
    assert placement.stage_sd_px is None
    assert placement.n_rejected == 0


def test_one_tile_is_a_mosaic() -> None:
    (tile,) = solve_placement({(4, 2): (310.0, 20.0)}, []).tiles
    assert (tile.row, tile.column, tile.x_px, tile.y_px) == (4, 2, 0, 0)


@given(x_px=st.floats(-1e5, 1e5), y_px=st.floats(-1e5, 1e5), seed=st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_moving_the_stage_origin_moves_nothing(
    x_px: float, y_px: float, seed: int
) -> None:
    nominal, _, pairs = make_grid(3, 4, np.random.default_rng(seed))
    del pairs[seed % len(pairs)]
    moved = {cell: (x + x_px, y + y_px) for cell, (x, y) in nominal.items()}
    here = positions(solve_placement(nominal, pairs))
    there = positions(solve_placement(moved, pairs))
    for cell, place in here.items():
        np.testing.assert_allclose(there[cell], place, atol=1e-5)
    assert np.min(list(here.values()), axis=0) == pytest.approx((0, 0))


def test_without_moving_to_the_origin_the_mosaic_stays_on_the_stage() -> None:
    nominal, _, pairs = make_grid(4, 4, np.random.default_rng(9))
    placed = positions(solve_placement(nominal, pairs, is_moved_to_origin=False))
    offset = np.mean([placed[cell] - nominal[cell] for cell in nominal], axis=0)
    assert np.abs(offset).max() < 0.01


def test_frozen_tiles_stay_and_the_rest_joins_them() -> None:
    rng = np.random.default_rng(10)
    nominal, true, pairs = make_grid(4, 5, rng, pair_noise_px=0.02)
    frozen = {
        cell: (float(x) + 300, float(y) - 40)
        for cell, (x, y) in true.items()
        if cell[0] < 2
    }
    placed = positions(solve_placement(nominal, pairs, frozen=frozen))
    for cell, held in frozen.items():
        assert tuple(placed[cell]) == held
    for cell, place in placed.items():
        assert np.abs(place - true[cell] - (300, -40)).max() < 0.15


def test_rows_frozen_as_the_scan_goes_are_as_good_as_a_global_solve() -> None:
    rng = np.random.default_rng(11)
    nominal, true, pairs = make_grid(10, 6, rng, pair_noise_px=0.03)
    frozen: dict[Cell, Vector] = {}
    for last_row in range(10):
        window = {c: nominal[c] for c in nominal if last_row - 5 <= c[0] <= last_row}
        held = {cell: place for cell, place in frozen.items() if cell in window}
        placement = solve_placement(window, pairs, frozen=held)
        for tile in placement.tiles:
            if tile.row <= last_row - 3:
                frozen[tile.row, tile.column] = (tile.x_px, tile.y_px)
    for a, b in zip(list(frozen)[:-1], list(frozen)[1:], strict=True):
        if a[0] == b[0]:
            step = np.subtract(frozen[b], frozen[a])
            assert np.abs(step - (true[b] - true[a])).max() < 0.12


def test_nothing_to_place_is_refused() -> None:
    with pytest.raises(ConfigError, match="0 nominal tiles"):
        solve_placement({}, [])
    with pytest.raises(ConfigError, match="1 frozen"):
        solve_placement({(0, 0): (0.0, 0.0)}, [], frozen={(0, 1): (1.0, 1.0)})
