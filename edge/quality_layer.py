"""The second layer of a slide: how good each tile's fusion was, and where focus lay.

Two images of one pixel for each source tile, 32-bit floating point, inside the slide
file: `quality` (0 to 1) and `focal offset` (um). A pixel is NaN until its tile is
fused. Their pixel size is the scan's step, so that viewers lay them over the slide.
The same numbers, and more, stand in words in the slide's OME-XML.
"""

from dataclasses import dataclass

import numpy as np

from bifocus.edge.pyramid import Cell

PLANES = ("quality", "focal offset")


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityGrid:
    """The scan's grid of source tiles: its size, and the step (x, y) between them."""

    rows: int
    columns: int
    step_um: tuple[float, float]

    @property
    def n_bytes(self) -> int:
        """Size of one plane."""
        return 4 * self.rows * self.columns

    def unknown_plane(self) -> bytes:
        """Return a plane before any tile: all NaN."""
        return np.full((self.rows, self.columns), np.nan, "<f4").tobytes()

    def position_of(self, cell: Cell) -> int:
        """Return where a tile's value starts in its plane, in bytes."""
        return 4 * (cell[0] * self.columns + cell[1])

    def holds(self, cell: Cell) -> bool:
        """Whether there is such a tile."""
        return 0 <= cell[0] < self.rows and 0 <= cell[1] < self.columns


@dataclass(frozen=True, slots=True, kw_only=True)
class TileNote:
    """What a slide tells of one source tile; None where it is not known.

    `focus_um` is the stage's z it was shot around, `offset_um` the distance of best
    focus from it, `quality` the fusion's own; x and y are its corner in the slide.
    """

    status: str
    focus_um: float
    offset_um: float | None = None
    quality: float | None = None
    x_px: float | None = None
    y_px: float | None = None

    def to_text(self) -> str:
        """Return one line of names and values.

        >>> TileNote(status="captured", focus_um=12.5, quality=0.75).to_text()
        'status=captured focus_um=12.5 quality=0.75'
        """
        values = {
            "focus_um": self.focus_um,
            "offset_um": self.offset_um,
            "quality": self.quality,
            "x_px": self.x_px,
            "y_px": self.y_px,
        }
        known = [f"{name}={v:.6g}" for name, v in values.items() if v is not None]
        return " ".join([f"status={self.status}", *known])


def pack_value(value: float | None) -> bytes:
    """Return one pixel of a plane; NaN for None."""
    return np.array(np.nan if value is None else value, "<f4").tobytes()
