"""Halve tiles into the reduced levels of a slide, as soon as their children exist.

Pure: no file, no encoder. A level is half the one below it (rounded up); the last
level fits in one tile, so a slide of more than 1024 px has at least three levels with
512-px tiles. Half means 2x2 box mean, rounded half up.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from bifocus.records import UInt8Image

# Quarters of 100,000 px of width in 512-px tiles; compressing one takes 2 ms more.
PLAIN_BYTES = 64_000_000

LevelSize = tuple[int, int]  # width_px, height_px
Cell = tuple[int, int]  # row, column in the tile grid of one level
_Kept = UInt8Image | bytes  # a quarter, plain or by zlib


@dataclass(frozen=True, slots=True, kw_only=True)
class ReducedTile:
    """A finished tile of a reduced level (1 or more), tile_px x tile_px x 3 uint8."""

    level: int
    row: int
    column: int
    pixels: UInt8Image


def compute_level_sizes(
    width_px: int, height_px: int, tile_px: int
) -> tuple[LevelSize, ...]:
    """Return (width, height) in pixels of every level, full resolution first.

    >>> compute_level_sizes(2000, 1001, 512)
    ((2000, 1001), (1000, 501), (500, 251))
    """
    sizes = [(width_px, height_px)]
    while max(sizes[-1]) > tile_px:
        width_px, height_px = sizes[-1]
        sizes.append(((width_px + 1) // 2, (height_px + 1) // 2))
    return tuple(sizes)


def compute_grid(size: LevelSize, tile_px: int) -> Cell:
    """Return the number of tile rows and tile columns of a level."""
    width_px, height_px = size
    return -(-height_px // tile_px), -(-width_px // tile_px)


def compute_valid_size(size: LevelSize, cell: Cell, tile_px: int) -> tuple[int, int]:
    """Return height and width of the part of a tile that lies inside the image."""
    width_px, height_px = size
    row, column = cell
    return (
        min(tile_px, height_px - row * tile_px),
        min(tile_px, width_px - column * tile_px),
    )


def pad_by_replication(pixels: UInt8Image, tile_px: int) -> UInt8Image:
    """Extend HxWx3 to a full tile by repeating its last row and column.

    Black beyond the image would ring through JPEG blocks and darken reduced levels.
    """
    height_px, width_px = pixels.shape[:2]
    if (height_px, width_px) == (tile_px, tile_px):
        return pixels
    margins = ((0, tile_px - height_px), (0, tile_px - width_px), (0, 0))
    return np.pad(pixels, margins, mode="edge")


def halve(pixels: UInt8Image) -> UInt8Image:
    """Return the 2x2 box mean of an image with even sides."""
    height_px, width_px = pixels.shape[:2]
    half_size = (width_px // 2, height_px // 2)
    halved = cv2.resize(pixels, half_size, interpolation=cv2.INTER_AREA)
    return np.asarray(halved, dtype=np.uint8)


class ReducedTiles:
    """Collects quarters until a reduced tile has all its children; not thread-safe.

    Only quarters are kept (tile_px/2 squared), so that scanning by rows holds at most
    one row's worth of them per level: less than one full tile per level-0 column. On
    slides so wide that this is more than `PLAIN_BYTES`, the rest is kept compressed.
    """

    def __init__(
        self, sizes: tuple[LevelSize, ...], tile_px: int, background: UInt8Image
    ) -> None:
        """Store the level sizes and the (3,) uint8 colour of what is never written."""
        self._sizes = sizes
        self._tile_px = tile_px
        self._background = background
        self._pending: list[dict[Cell, dict[Cell, _Kept]]] = [{} for _ in sizes]
        self._plain_bytes = 0

    @property
    def n_pending(self) -> int:
        """Number of reduced tiles that still wait for a child."""
        return sum(len(cells) for cells in self._pending)

    def add(self, cell: Cell, pixels: UInt8Image) -> Iterator[ReducedTile]:
        """Take a full level-0 tile; yield each reduced tile that it completes."""
        yield from self._add(0, cell, pixels)

    def finish(self) -> Iterator[ReducedTile]:
        """Yield every tile still pending, lacking children as background."""
        for level in range(1, len(self._sizes)):
            for cell in sorted(self._pending[level]):
                yield from self._complete(level, cell)

    def _add(self, level: int, cell: Cell, pixels: UInt8Image) -> Iterator[ReducedTile]:
        parent_level = level + 1
        if parent_level == len(self._sizes):
            return
        row, column = cell
        parent = row // 2, column // 2
        quarters = self._pending[parent_level].setdefault(parent, {})
        quarters[row % 2, column % 2] = self._keep(halve(pixels))
        if len(quarters) == self._count_children(level, parent):
            yield from self._complete(parent_level, parent)

    def _complete(self, level: int, cell: Cell) -> Iterator[ReducedTile]:
        pixels = self._assemble(level, cell, self._pending[level].pop(cell))
        row, column = cell
        yield ReducedTile(level=level, row=row, column=column, pixels=pixels)
        yield from self._add(level, cell, pixels)

    def _count_children(self, child_level: int, parent: Cell) -> int:
        n_rows, n_columns = compute_grid(self._sizes[child_level], self._tile_px)
        row, column = parent
        return min(2, n_rows - 2 * row) * min(2, n_columns - 2 * column)

    def _keep(self, quarter: UInt8Image) -> _Kept:
        if self._plain_bytes + quarter.nbytes > PLAIN_BYTES:
            return zlib.compress(quarter.tobytes(), 1)
        self._plain_bytes += quarter.nbytes
        return quarter

    def _give_back(self, kept: _Kept) -> UInt8Image:
        if isinstance(kept, bytes):
            half_px = self._tile_px // 2
            plain = np.frombuffer(zlib.decompress(kept), np.uint8)
            return plain.reshape(half_px, half_px, 3)
        self._plain_bytes -= kept.nbytes
        return kept

    def _assemble(
        self, level: int, cell: Cell, quarters: dict[Cell, _Kept]
    ) -> UInt8Image:
        half_px = self._tile_px // 2
        shape = (self._tile_px, self._tile_px, 3)
        tile = np.empty(shape, dtype=np.uint8)
        if len(quarters) < 4:
            tile[:] = self._background
        for (i_row, i_column), kept in quarters.items():
            top, left = i_row * half_px, i_column * half_px
            tile[top : top + half_px, left : left + half_px] = self._give_back(kept)
        height_px, width_px = compute_valid_size(
            self._sizes[level], cell, self._tile_px
        )
        return pad_by_replication(tile[:height_px, :width_px], self._tile_px)
