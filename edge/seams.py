"""Register tiles as they arrive, keeping only the strips that are still needed."""

from bifocus.edge.registration import (
    EdgeStrips,
    PairShift,
    Strip,
    register_strips,
)


class SeamRegister:
    """Measures the shift between each tile and its neighbours that came before it.

    Strips of the row before the last are dropped: memory grows with the width of the
    scan, not with its number of tiles.
    """

    def __init__(self, step_px: tuple[float, float]) -> None:
        self._step_px = step_px
        self._strips: dict[tuple[int, int], EdgeStrips] = {}
        self.pairs: list[PairShift] = []

    def add(self, row: int, column: int, strips: EdgeStrips) -> None:
        """Register one tile against those of its four neighbours that are known."""
        self._strips[row, column] = strips
        for cell in [cell for cell in self._strips if cell[0] < row - 1]:
            del self._strips[cell]
        left, right = (self._strips.get((row, column + d)) for d in (-1, 1))
        above, below = (self._strips.get((row + d, column)) for d in (-1, 1))
        if left is not None:
            self._measure(left.right, strips.left, across=True)
        if right is not None:
            self._measure(strips.right, right.left, across=True)
        if above is not None:
            self._measure(above.bottom, strips.top, across=False)
        if below is not None:
            self._measure(strips.bottom, below.top, across=False)

    def _measure(self, first: Strip, second: Strip, *, across: bool) -> None:
        self.pairs.append(
            register_strips(
                first,
                second,
                nominal_dx_px=self._step_px[0] if across else 0.0,
                nominal_dy_px=0.0 if across else self._step_px[1],
            )
        )
