"""Pieces of tiles that may still be joined to the final ones, on a grid of 3 x 3."""

from bifocus.edge.joined_pieces import find_joined_later


def test_what_is_joined_later() -> None:
    cells = [(row, column) for row in range(3) for column in range(3)]
    down = [((row, column), (row + 1, column)) for row in range(2) for column in (0, 2)]
    right = {(row, 2) for row in range(3)}
    assert find_joined_later(cells, down, {(0, 0)}, 2) == right | {(2, 1)}
    assert find_joined_later(cells, down, {(0, 0), (0, 2)}, 2) == {(2, 1)}
    assert find_joined_later(cells, down, {(0, 0)}, 3) == set()
    # With nothing final, the largest piece is what others are joined to.
    more = [*down, ((0, 0), (0, 1))]
    assert find_joined_later(cells, more, set(), 2) == right | {(2, 1)}
    across = [*down, ((1, 0), (1, 1)), ((1, 1), (1, 2))]
    assert find_joined_later(cells, across, {(0, 0)}, 2) == {(2, 1)}
