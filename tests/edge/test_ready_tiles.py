"""When a tile of the slide is ready: against a brute-force look at every pixel box."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bifocus.edge.ready_tiles import Box, ReadyTiles

SIZE_PX, TILE_PX = (200, 130), 32

boxes = st.lists(
    st.tuples(
        st.floats(-60, 220), st.floats(-60, 150), st.floats(1, 90), st.floats(1, 90)
    ).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])),
    max_size=5,
)


def meets(cell: tuple[int, ...], box: Box) -> bool:
    top, left = cell[0] * TILE_PX, cell[1] * TILE_PX
    return (
        box[0] < left + TILE_PX
        and box[2] > left
        and box[1] < top + TILE_PX
        and box[3] > top
    )


@given(final=boxes, still_open=boxes, later=boxes)
@settings(max_examples=60, deadline=None)
def test_ready_means_reached_and_not_open(
    final: list[Box], still_open: list[Box], later: list[Box]
) -> None:
    ready = ReadyTiles(SIZE_PX, TILE_PX, band_rows=2)
    cells = list(np.ndindex(5, 7))
    ready.reach(final)
    first = ready.take_ready(still_open)
    assert sorted(first) == [
        cell
        for cell in cells
        if any(meets(cell, box) for box in final)
        and not any(meets(cell, box) for box in still_open)
    ]
    ready.reach(later)
    second = ready.take_ready([])
    assert not set(first) & set(second)
    assert sorted(first + second) == [
        cell for cell in cells if any(meets(cell, box) for box in final + later)
    ]
    for box in final + later:
        assert not ready.is_needed(box)


def test_bands_are_visited_column_by_column() -> None:
    ready = ReadyTiles((64, 96), 32, band_rows=2)
    ready.reach([(0, 0, 64, 96)])
    assert ready.take_ready([]) == [(0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (2, 1)]
    assert ready.take_ready([]) == []
