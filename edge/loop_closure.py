"""Find false pair shifts: round a block of 2 x 2 tiles, shifts must add up to nothing.

A least-squares solve smears a false shift over its neighbourhood; this test names it.
A false pair between two blocks spoils both, while each true pair beside it also belongs
to a block that closes: so the worst pair is the one with the most open and the fewest
closed blocks. Where that leaves a choice, the lower score goes, then the one that the
stage contradicts more.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from bifocus.edge.registration import PairShift

Cell = tuple[int, int]  # (row, column)
Edge = tuple[Cell, Cell]  # from the upper or left tile to the lower or right one
Block = tuple[Edge, Edge, Edge, Edge]  # top, right, left, bottom
Vector = tuple[float, float]  # (x_px, y_px)

# Four true shifts, each good to a tenth of a pixel, close to a few tenths.
CLOSURE_PX = 1.5


def find_false_pairs(
    pairs: Sequence[PairShift],
    nominal: Mapping[Cell, Vector],
    closure_px: float = CLOSURE_PX,
) -> set[int]:
    """Return the indices of the pairs that keep 2 x 2 blocks from closing.

    Parameters
    ----------
    pairs
        Trusted pairs of direct neighbours, in any order and direction.
    nominal
        Stage position of every tile in `pairs`, (row, column) -> (x_px, y_px).
    closure_px
        Largest sum, as a length, of the four shifts round a true block.

    Returns
    -------
    set of int
        What to leave out so that every complete block that remains closes. Pairs
        outside every complete block are not judged.
    """
    shifts: dict[Edge, Vector] = {}
    index_of: dict[Edge, int] = {}
    for i, pair in enumerate(pairs):
        edge, shift = _directed(pair)
        shifts[edge], index_of[edge] = shift, i
    strain_px = _stage_strain(shifts, nominal)
    is_open: dict[Block, bool] = {}
    blocks_of: dict[Edge, list[Block]] = {edge: [] for edge in shifts}
    for block in _complete_blocks(shifts):
        is_open[block] = _closure(block, shifts) > closure_px
        for edge in block:
            blocks_of[edge].append(block)

    def suspicion(edge: Edge) -> tuple[float, float, float, Edge]:
        votes = sum(1 if is_open[block] else -1 for block in blocks_of[edge])
        score = round(pairs[index_of[edge]].score, 1)
        return votes, -score, strain_px[edge], edge

    false: set[int] = set()
    while suspects := {e for block, is_bad in is_open.items() if is_bad for e in block}:
        worst = max(suspects, key=suspicion)
        false.add(index_of[worst])
        for block in blocks_of[worst].copy():
            del is_open[block]
            for edge in block:
                blocks_of[edge].remove(block)
    return false


def _directed(pair: PairShift) -> tuple[Edge, Vector]:
    """Turn a pair so that it points right or down."""
    a, b = (pair.row_a, pair.column_a), (pair.row_b, pair.column_b)
    if a < b:
        return (a, b), (pair.dx_px, pair.dy_px)
    return (b, a), (-pair.dx_px, -pair.dy_px)


def _complete_blocks(shifts: Mapping[Edge, Vector]) -> list[Block]:
    """List the 2 x 2 blocks that have all four edges: top, right, left, bottom."""
    blocks = []
    for row, column in {edge[0] for edge in shifts}:
        here, right = (row, column), (row, column + 1)
        below, across = (row + 1, column), (row + 1, column + 1)
        block = ((here, right), (right, across), (here, below), (below, across))
        if all(edge in shifts for edge in block):
            blocks.append(block)
    return sorted(blocks)


def _closure(block: Block, shifts: Mapping[Edge, Vector]) -> float:
    """Length in px of the way round the block: over the right, back over the left."""
    top, right, left, bottom = (np.array(shifts[edge]) for edge in block)
    return float(np.hypot(*(top + right - left - bottom)))


def _stage_strain(
    shifts: Mapping[Edge, Vector], nominal: Mapping[Cell, Vector]
) -> dict[Edge, float]:
    """Return how far, in px, each shift is from what the stage says.

    The median of each direction is taken off first: a wrong scale or a turned camera
    stretches all steps to the right alike, and all steps down.
    """
    strain: dict[Edge, float] = {}
    for is_right in (True, False):
        edges = [edge for edge in shifts if (edge[0][0] == edge[1][0]) == is_right]
        off = [
            np.array(shifts[a, b]) - (np.array(nominal[b]) - np.array(nominal[a]))
            for a, b in edges
        ]
        if edges:
            lengths = np.hypot(*(np.array(off) - np.median(off, axis=0)).T)
            strain.update(zip(edges, lengths.tolist(), strict=True))
    return strain
