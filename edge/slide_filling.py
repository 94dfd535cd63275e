"""Fill a slide: render and write each of its tiles once nothing in it can change.

In memory are a bounded cache of decoded source tiles, and reduced tiles that wait for
their children; of each source tile that still shows in something to come, its place.
"""

import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from bifocus.edge.fixed_lag import LAG_ROWS
from bifocus.edge.mosaic import FEATHER_PX, MosaicRenderer, TileLoader
from bifocus.edge.ready_tiles import Box, ReadyTiles, box_of
from bifocus.edge.slide_fields import SlideLayout
from bifocus.edge.slide_file import (
    BACKGROUND_GREY,
    ChromaSubsampling,
    OnPublish,
    SlideDescription,
    SlideWriter,
)
from bifocus.edge.tile_codec import SlideCodec
from bifocus.records import PlacedTile, UInt8Image

LOOK_AHEAD = 6  # Slide tiles for which source tiles are loaded ahead, at the end.
LEAST_CACHE_TILES = 8  # What meets in a column of slide tiles, and its neighbour.

OnTile = Callable[[int, int, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class StitchOptions:
    """How the slide is stitched and written.

    Attributes
    ----------
    lag_rows
        Rows that stay open behind the one last completed.
    feather_px
        See `MosaicRenderer`.
    cache_mb
        Decoded source tiles kept, at most, in 10^6 bytes (eight tiles at least).
    tile_px, layout, codec, jpeg_quality, chroma_subsampling, sync_every, label
        See `SlideWriter`.
    """

    lag_rows: int = LAG_ROWS
    feather_px: int = FEATHER_PX
    cache_mb: float = 100.0
    tile_px: int = 512
    layout: SlideLayout = "hybrid"
    codec: SlideCodec = "jpeg"
    jpeg_quality: int = 90
    chroma_subsampling: ChromaSubsampling = "444"
    sync_every: int = 16
    label: UInt8Image | None = None

    def cache_tiles(self, field_px: tuple[int, int]) -> int:
        """Return how many source tiles of (width, height) the cache holds."""
        tile_bytes = 3 * field_px[0] * field_px[1]
        return max(LEAST_CACHE_TILES, int(self.cache_mb * 1e6 / tile_bytes))


class SlideFilling:
    """The slide file of one scan, and what is still to be rendered into it.

    Not thread-safe. Close it with `finish`, or with `abandon` when the scan has failed.
    """

    def __init__(
        self,
        path: Path,
        description: SlideDescription,
        field_px: tuple[int, int],
        load_tile: TileLoader,
        options: StitchOptions,
        on_tile: OnTile | None = None,
    ) -> None:
        """Create the slide, valid and grey.

        Parameters
        ----------
        path, description, load_tile, options, on_tile
            See `LiveStitcher`.
        field_px
            Width and height of a source tile.

        Raises
        ------
        SlideFileError
            The file cannot be created.
        """
        self._field_px = field_px
        self._size_px = (description.width_px, description.height_px)
        band_rows = max(1, field_px[1] // options.tile_px)
        self._ready = ReadyTiles(self._size_px, options.tile_px, band_rows)
        self._queue: deque[tuple[int, int]] = deque()
        self._in_use: dict[tuple[int, int], Box] = {}
        self.n_outside = 0
        self._renderer = MosaicRenderer(
            [],
            (field_px[1], field_px[0]),
            load_tile,
            feather_px=options.feather_px,
            background=(BACKGROUND_GREY, BACKGROUND_GREY, BACKGROUND_GREY),
            cache_tiles=options.cache_tiles(field_px),
        )
        self._writer = SlideWriter(
            path,
            description,
            tile_px=options.tile_px,
            layout=options.layout,
            codec=options.codec,
            jpeg_quality=options.jpeg_quality,
            chroma_subsampling=options.chroma_subsampling,
            sync_every=options.sync_every,
            label=options.label,
            on_publish=None if on_tile is None else _first_version(on_tile),
        )

    @property
    def path(self) -> Path:
        """The slide's file."""
        return self._writer.path

    @property
    def n_waiting(self) -> int:
        """Slide tiles that can be rendered now."""
        return len(self._queue)

    def accept(self, tiles: Sequence[PlacedTile], still_open: Sequence[Box]) -> None:
        """Take final source tiles, and queue what has become ready.

        Parameters
        ----------
        tiles
            With their places, for good.
        still_open
            Where source tiles that are not final may come to lie.
        """
        self._renderer.add(tiles)
        boxes = {
            (tile.row, tile.column): box_of((tile.x_px, tile.y_px), self._field_px)
            for tile in tiles
        }
        self._in_use.update(boxes)
        self.n_outside += sum(map(self._is_outside, boxes.values()))
        self._ready.reach(boxes.values())
        self._queue.extend(self._ready.take_ready(still_open))

    def fill(self, n_tiles: int, pool: Executor | None = None) -> None:
        """Render and write the next tiles; what then shows nowhere else is let go.

        With a pool, source tiles are loaded ahead by it.

        Raises
        ------
        SlideFileError
            The slide cannot be written; what was published stays.
        """
        if not self._queue:
            return
        size = self._writer.tile_px
        for _ in range(min(n_tiles, len(self._queue))):
            row, column = self._queue.popleft()
            if pool is not None:
                for below, across in islice(self._queue, LOOK_AHEAD):
                    self._renderer.prepare(across * size, below * size, size, pool)
            pixels = self._renderer.render(column * size, row * size, size, size)
            self._writer.write_tile(row, column, pixels)
        if not self._queue:
            self._writer.flush()
            self._let_go()

    def finish(self, notes: Mapping[str, str]) -> None:
        """Write all that waits, then the metadata of each source tile; close.

        Raises
        ------
        SlideFileError
            The slide cannot be written; what was published stays.
        """
        with ThreadPoolExecutor(_count_cores(), thread_name_prefix="load") as pool:
            self.fill(len(self._queue), pool)
        self._writer.close(notes)

    def abandon(self) -> None:
        """Close the slide as it is; may follow anything."""
        self._writer.close()

    def _let_go(self) -> None:
        done = [c for c, box in self._in_use.items() if not self._ready.is_needed(box)]
        self._renderer.forget(done)
        for cell in done:
            del self._in_use[cell]

    def _is_outside(self, box: Box) -> bool:
        left, top, right, bottom = box
        width_px, height_px = self._size_px
        return left < 0 or top < 0 or right > width_px or bottom > height_px


def _first_version(on_tile: OnTile) -> OnPublish:
    """Every tile of the slide is written once."""

    def on_publish(level: int, row: int, column: int) -> None:
        on_tile(level, row, column, 1)

    return on_publish


def _count_cores() -> int:
    """Return how many cores this process may use, four at most."""
    return min(4, len(os.sched_getaffinity(0)))
