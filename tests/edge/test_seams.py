"""Registration on arrival: every neighbour pair once, and few strips kept."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from bifocus.edge.registration import EdgeStrips, extract_strips
from bifocus.edge.seams import SeamRegister
from bifocus.records import UInt8Image

TILE_PX, STEP_PX = 176, 128
ROWS, COLUMNS = 4, 3


@pytest.fixture(scope="module")
def mosaic() -> UInt8Image:
    rng = np.random.default_rng(2)
    noise = gaussian_filter(rng.normal(size=(700, 700)), 1.5)
    return np.asarray(np.clip(128 + 40 * noise / noise.std(), 0, 255), np.uint8)


def corner_px(row: int, column: int) -> tuple[int, int]:
    """True (x, y): the grid, with whole pixels of a cheap stage's error."""
    error = np.random.default_rng([row, column]).integers(-6, 7, 2).tolist()
    return 20 + STEP_PX * column + error[0], 20 + STEP_PX * row + error[1]


def strips(mosaic: UInt8Image, row: int, column: int) -> EdgeStrips:
    x_px, y_px = corner_px(row, column)
    return extract_strips(
        mosaic[y_px : y_px + TILE_PX, x_px : x_px + TILE_PX],
        row=row,
        column=column,
        overlap_x_px=TILE_PX - STEP_PX,
        overlap_y_px=TILE_PX - STEP_PX,
    )


def test_every_neighbour_pair_is_measured_once_and_truly(
    mosaic: UInt8Image,
) -> None:
    register = SeamRegister((float(STEP_PX), float(STEP_PX)))
    most_kept = 0
    for row in range(ROWS):
        order = range(COLUMNS) if row % 2 == 0 else reversed(range(COLUMNS))
        for column in order:
            register.add(row, column, strips(mosaic, row, column))
            most_kept = max(most_kept, register.n_strips)
    edges = {(p.row_a, p.column_a, p.row_b, p.column_b) for p in register.pairs}
    across = {
        (row, column, row, column + 1)
        for row in range(ROWS)
        for column in range(COLUMNS - 1)
    }
    down = {
        (row, column, row + 1, column)
        for row in range(ROWS - 1)
        for column in range(COLUMNS)
    }
    assert edges == across | down
    assert len(register.pairs) == len(edges)
    for pair in register.pairs:
        xa_px, ya_px = corner_px(pair.row_a, pair.column_a)
        xb_px, yb_px = corner_px(pair.row_b, pair.column_b)
        assert pair.is_trusted
        assert pair.dx_px == pytest.approx(xb_px - xa_px, abs=0.05)
        assert pair.dy_px == pytest.approx(yb_px - ya_px, abs=0.05)
    # Those of one row at most, however many rows there are.
    assert most_kept <= 4 * COLUMNS


def test_a_missing_tile_is_no_neighbour(
    mosaic: UInt8Image,
) -> None:
    register = SeamRegister((float(STEP_PX), float(STEP_PX)))
    for row, column in [(0, 0), (0, 2), (2, 0), (2, 1)]:
        register.add(row, column, strips(mosaic, row, column))
    assert [(p.column_a, p.column_b) for p in register.pairs] == [(0, 1)]
