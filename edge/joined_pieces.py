"""Which tiles hold together by pairs, and which pieces of them may still be joined."""

from collections.abc import Collection, Iterable

from bifocus.edge.loop_closure import Cell, Edge


def find_joined_later(
    cells: Iterable[Cell],
    joined: Iterable[Edge],
    final: Collection[Cell],
    last_row: int,
) -> set[Cell]:
    """Return the cells that no chain of pairs leads to yet, but the next row may.

    Parameters
    ----------
    cells
        All that is solved for.
    joined
        Pairs of cells that hold together.
    final
        Cells whose place is settled; without any, the largest piece counts as final.
    last_row
        A piece that does not reach it can be joined to nothing any more.
    """
    pieces = _pieces(cells, joined)
    settled = [piece for piece in pieces if not piece.isdisjoint(final)]
    if not settled:
        settled = [max(pieces, key=len)]
    return {
        cell
        for piece in pieces
        if piece not in settled and any(row == last_row for row, _ in piece)
        for cell in piece
    }


def _pieces(cells: Iterable[Cell], joined: Iterable[Edge]) -> list[set[Cell]]:
    """Split cells into those that chains of pairs hold together."""
    beside: dict[Cell, list[Cell]] = {cell: [] for cell in cells}
    for a, b in joined:
        beside[a].append(b)
        beside[b].append(a)
    pieces: list[set[Cell]] = []
    left = set(beside)
    while left:
        piece, front = set(), [left.pop()]
        while front:
            cell = front.pop()
            piece.add(cell)
            front += [other for other in beside[cell] if other in left]
            left.difference_update(beside[cell])
        pieces.append(piece)
    return pieces
