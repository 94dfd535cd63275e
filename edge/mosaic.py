"""Render any window of the mosaic from source tiles that come and go in a small cache.

Every source tile is moved once by the fraction of its position, and kept on whole
mosaic pixels. A window is then cut along all tile borders into rectangles in each of
which the same tiles meet: most belong to one tile and are copied as they are; the rest,
a fifth of the area at 10 % overlap, is the mean of its tiles, weighted by the distance
to each tile's border up to a limit, the feather.

Each pixel depends on tile positions alone, so windows fit together without a seam.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np

from bifocus.edge.feather import mix, weigh
from bifocus.errors import ConfigError
from bifocus.records import PlacedTile, UInt8Image
from bifocus.subpixel import sample_shifted

FEATHER_PX = 32  # Long enough to hide a step in brightness, short against the overlap.
GLASS_RGB = (240, 240, 240)  # What a reader shows where nothing was scanned.
CACHE_TILES = 48  # 180 MB at 1224 x 1024 RGB; two scan rows of an ordinary slide.
MOST_COMING = 4  # Tiles loaded ahead: what a window needs.
# A fraction closer than this to a whole pixel is taken as whole: no tile is known to
# better, and tiles at whole positions then pass unchanged.
WHOLE_PX = 1 / 256

TileLoader = Callable[[int, int], UInt8Image]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Footprint:
    """The whole mosaic pixels that a tile covers, and the fraction it is read at.

    Mosaic pixel (left + i) shows the tile at column i + fraction_x.
    """

    tile: PlacedTile
    left: int
    top: int
    right: int
    bottom: int
    fraction_x: float
    fraction_y: float


class MosaicRenderer:
    """The mosaic of some placed tiles; holds `cache_tiles` tiles in memory at most.

    Not for use by several threads at once: give each thread its own.
    """

    def __init__(
        self,
        tiles: Sequence[PlacedTile],
        tile_shape: tuple[int, int],
        load: TileLoader,
        *,
        feather_px: int = FEATHER_PX,
        background: tuple[int, int, int] = GLASS_RGB,
        cache_tiles: int = CACHE_TILES,
    ) -> None:
        """Store what is needed; no tile is loaded yet.

        Parameters
        ----------
        tiles
            Where each tile lies, in mosaic_px.
        tile_shape
            (height, width) in pixels of every source tile.
        load
            (row, column) -> the tile, (height, width, 3) uint8. Called again when a
            tile is needed that has left the cache. Its result is never written to, and
            must not change while it is in the cache.
        feather_px
            Distance from a tile's border at which it has its full weight, >= 1.
        background
            RGB where no tile lies.
        cache_tiles
            Number of tiles kept, >= 1.

        Raises
        ------
        ConfigError
            A tile side, the feather or the cache is smaller than 1 (sides: 2).
        """
        if min(tile_shape) < 2 or feather_px < 1 or cache_tiles < 1:
            msg = (
                f"tiles of {tile_shape} px, feather {feather_px} px, "
                f"cache {cache_tiles}: all must be positive"
            )
            raise ConfigError(msg)
        self._tile_shape = tile_shape
        self._load = load
        self._feather_px = feather_px
        self._background = np.array(background, np.uint8)
        self._cache_tiles = cache_tiles
        self._cache: OrderedDict[tuple[int, int], UInt8Image] = OrderedDict()
        self._coming: dict[tuple[int, int], Future[UInt8Image]] = {}
        self._footprints: dict[tuple[int, int], _Footprint] = {}
        self._bounds = np.zeros((0, 4), np.int64)
        self.add(tiles)

    def add(self, tiles: Sequence[PlacedTile]) -> None:
        """Add tiles, or move ones that are there, as a scan in progress does."""
        for tile in tiles:
            cell = (tile.row, tile.column)
            self._footprints[cell] = self._lay(tile)
            self._cache.pop(cell, None)
        self._sort()

    def forget(self, cells: Iterable[tuple[int, int]]) -> None:
        """Drop tiles that no window will show again, from the cache too."""
        for cell in cells:
            del self._footprints[cell]
            self._cache.pop(cell, None)
            self._coming.pop(cell, None)
        self._sort()

    def _sort(self) -> None:
        """Keep row-major order, so that sums do not depend on the order of arrival."""
        self._footprints = dict(sorted(self._footprints.items()))
        bounds = [(f.left, f.top, f.right, f.bottom) for f in self._footprints.values()]
        self._bounds = np.array(bounds, np.int64).reshape(-1, 4)

    @property
    def size_px(self) -> tuple[int, int]:
        """(width, height) from the origin to the last tile's end; (0, 0) if empty."""
        if not len(self._bounds):
            return 0, 0
        return int(self._bounds[:, 2].max()), int(self._bounds[:, 3].max())

    def render(self, x0: int, y0: int, width: int, height: int) -> UInt8Image:
        """Return the window with its corner at (x0, y0), which may lie anywhere.

        Parameters
        ----------
        x0, y0
            Upper left corner in mosaic_px.
        width, height
            Size of the window in pixels.

        Returns
        -------
        ndarray of uint8, shape (height, width, 3)
            Background where no tile lies.
        """
        window = np.empty((height, width, 3), np.uint8)
        met = self._footprints_within(x0, y0, x0 + width, y0 + height)
        cuts_x = _cuts(x0, x0 + width, [x for f in met for x in (f.left, f.right)])
        cuts_y = _cuts(y0, y0 + height, [y for f in met for y in (f.top, f.bottom)])
        for (top, bottom), (left, right) in product(pairwise(cuts_y), pairwise(cuts_x)):
            here = [
                f for f in met if f.left <= left < f.right and f.top <= top < f.bottom
            ]
            target = window[top - y0 : bottom - y0, left - x0 : right - x0]
            if here:
                self._blend(here, (left, top, right, bottom), target)
            else:
                target[:] = self._background
        return window

    def prepare(self, x0: int, y0: int, size_px: int, pool: Executor) -> None:
        """Begin to load, in other threads, what a square window will need.

        `load` is then called from those threads. Of tiles to come, `MOST_COMING` are
        kept beside the cache; the picture is the same with and without this call.
        """
        for f in self._footprints_within(x0, y0, x0 + size_px, y0 + size_px):
            cell = (f.tile.row, f.tile.column)
            is_known = cell in self._cache or cell in self._coming
            if not is_known and len(self._coming) < MOST_COMING:
                self._coming[cell] = pool.submit(self._load_placed, f)

    def output_tiles(
        self, tile_px: int, rows_per_band: int = 1
    ) -> Iterator[tuple[int, int, UInt8Image]]:
        """Yield (row, column, pixels) of the output grid, which covers `size_px`.

        Parameters
        ----------
        tile_px
            Side of the square output tiles; the last ones are filled with background.
        rows_per_band
            1 gives row-major order. With more, that many rows are visited together,
            column by column: where the cache cannot hold a scan row, source tiles are
            then loaded that much less often.
        """
        width, height = self.size_px
        n_rows, n_columns = -(-height // tile_px), -(-width // tile_px)
        for first in range(0, n_rows, rows_per_band):
            band = range(first, min(first + rows_per_band, n_rows))
            for column, row in product(range(n_columns), band):
                x0, y0 = column * tile_px, row * tile_px
                yield row, column, self.render(x0, y0, tile_px, tile_px)

    def _lay(self, tile: PlacedTile) -> _Footprint:
        """Find the whole pixels between the tile's first and last pixel centre."""
        height, width = self._tile_shape
        left, fraction_x = _first_whole(tile.x_px)
        top, fraction_y = _first_whole(tile.y_px)
        return _Footprint(
            tile=tile,
            left=left,
            top=top,
            right=left + width - (fraction_x > 0),
            bottom=top + height - (fraction_y > 0),
            fraction_x=fraction_x,
            fraction_y=fraction_y,
        )

    def _footprints_within(
        self, left: int, top: int, right: int, bottom: int
    ) -> list[_Footprint]:
        lefts, tops, rights, bottoms = self._bounds.T
        is_met = (lefts < right) & (tops < bottom) & (rights > left) & (bottoms > top)
        footprints = list(self._footprints.values())
        return [footprints[i] for i in np.flatnonzero(is_met)]

    def _blend(
        self,
        here: Sequence[_Footprint],
        box: tuple[int, int, int, int],
        target: UInt8Image,
    ) -> None:
        """Fill `target`, the box of the mosaic that all of `here` cover."""
        left, top, right, bottom = box
        windows = [
            (slice(top - f.top, bottom - f.top), slice(left - f.left, right - f.left))
            for f in here
        ]
        parts = [self._placed(f)[at] for f, at in zip(here, windows, strict=True)]
        if len(here) == 1:
            target[:] = parts[0]
            return
        weights = [
            weigh((f.bottom - f.top, f.right - f.left), *at, self._feather_px)
            for f, at in zip(here, windows, strict=True)
        ]
        target[:] = mix(parts, weights)

    def _placed(self, footprint: _Footprint) -> UInt8Image:
        """Return the tile on whole mosaic pixels, from the cache or loaded anew."""
        cell = (footprint.tile.row, footprint.tile.column)
        if cell in self._cache:
            self._cache.move_to_end(cell)
            return self._cache[cell]
        while len(self._cache) >= self._cache_tiles:  # before the copy that follows
            self._cache.popitem(last=False)
        coming = self._coming.pop(cell, None)
        moved = coming.result() if coming else self._load_placed(footprint)
        self._cache[cell] = moved
        return moved

    def _load_placed(self, footprint: _Footprint) -> UInt8Image:
        row, column = footprint.tile.row, footprint.tile.column
        pixels = self._load(row, column)
        if pixels.shape != (*self._tile_shape, 3) or pixels.dtype != np.uint8:
            msg = (
                f"tile r{row:03d}_c{column:03d} is {pixels.dtype} {pixels.shape}, "
                f"expected uint8 {(*self._tile_shape, 3)}"
            )
            raise ConfigError(msg)
        return sample_shifted(pixels, footprint.fraction_x, footprint.fraction_y)


def _first_whole(position_px: float) -> tuple[int, float]:
    """First whole mosaic pixel at or after a position, and how far after it lies."""
    nearest = round(position_px)
    if abs(position_px - nearest) < WHOLE_PX:
        return nearest, 0.0
    first = int(np.ceil(position_px))
    return first, first - position_px


def _cuts(start: int, end: int, borders: Sequence[int]) -> list[int]:
    """Sorted borders strictly inside start..end, with both ends."""
    return sorted({start, end, *(x for x in borders if start < x < end)})
