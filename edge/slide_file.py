"""Write a pyramidal OME-BigTIFF that is a valid slide at every instant it grows.

All directories are written first, with every tile slot at one shared grey tile. Then,
for each batch of tiles: append the JPEG bytes, write the byte counts, sync, and only
then write the offsets. A reader, a killed program or a power cut at any point meets a
file in which each tile is either whole or grey. Three facts carry that:

* an offset reaches the disk only after its tile and its count did (the sync);
* a count never shrinks (short tiles are padded to the length of the grey one), and a
  grey JPEG read with a longer count still ends at its own end marker;
* the file is from the start long enough for that longer read.

What no writer can prevent: a reader that copies a count and then, after a sync of ours,
the offset of the same slot, sees one tile cut short until it opens the file again.

Readers: OpenSlide sees the levels in the main chain, Bio-Formats and tifffile the same
levels as SubIFDs; see `slide_layout`.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np
import simplejpeg

from bifocus.edge.growing_file import DiskFile, GrowingFile
from bifocus.edge.ome_xml import SlideDescription
from bifocus.edge.pyramid import (
    Cell,
    ReducedTiles,
    compute_grid,
    compute_level_sizes,
    compute_valid_size,
    pad_by_replication,
)
from bifocus.edge.slide_layout import compose_head, pack_slot
from bifocus.edge.slide_reader import SlideReader, write_thumbnail
from bifocus.errors import SlideFileError
from bifocus.records import UInt8Image

__all__ = ["SlideDescription", "SlideReader", "SlideWriter", "write_thumbnail"]

ChromaSubsampling = Literal["420", "444"]
OpenFile = Callable[[Path, bytes, int], GrowingFile]
OnPublish = Callable[[int, int, int], None]

BACKGROUND_GREY = 236  # light, as glass is, yet not the pure white of an overexposure


@dataclass(frozen=True, slots=True, kw_only=True)
class _AppendedTile:
    """A tile whose bytes are in the file but whose slot still shows the grey tile."""

    level: int
    cell: Cell
    start: int
    n_bytes: int


class SlideWriter:
    """Writes one slide, tile by tile, in any order; a context manager.

    Not thread-safe: call it from one thread. Other processes may read the file at any
    time. After a failed write the file is left valid and the writer is closed.
    """

    def __init__(
        self,
        path: Path,
        description: SlideDescription,
        *,
        tile_px: int = 512,
        jpeg_quality: int = 90,
        chroma_subsampling: ChromaSubsampling = "420",
        sync_every: int = 16,
        open_file: OpenFile = DiskFile.create,
        on_publish: OnPublish | None = None,
    ) -> None:
        """Create the file, valid and all grey; a file of that name is replaced.

        Parameters
        ----------
        path
            Final name, by custom `*.ome.tiff`.
        description
            Size, scale and origin of the slide.
        tile_px
            Side of a tile; a multiple of 16.
        jpeg_quality
            1 to 100.
        chroma_subsampling
            "420" halves colour resolution; "444" keeps it, for about 30 % more bytes.
        sync_every
            Tiles (of all levels) between syncs; a power cut turns at most so many of
            the last tiles grey.
        open_file
            Makes the file from its path, first bytes and least length.
        on_publish
            Called with (level, row, column) of each tile once readers can see it.

        Raises
        ------
        SlideFileError
            A parameter is out of range, or the file cannot be created.
        """
        _check_parameters(tile_px, jpeg_quality, chroma_subsampling, sync_every)
        self.path = Path(path)
        self.tile_px = tile_px
        self.levels = compute_level_sizes(
            description.width_px, description.height_px, tile_px
        )
        self._quality = jpeg_quality
        self._subsampling = chroma_subsampling
        self._on_publish = on_publish
        self._sync_every = sync_every
        background = np.full(3, BACKGROUND_GREY, dtype=np.uint8)
        self._reduced = ReducedTiles(self.levels, tile_px, background)
        self._is_written = np.zeros(compute_grid(self.levels[0], tile_px), dtype=bool)
        empty_tile = self._encode(np.tile(background, (tile_px, tile_px, 1)))
        head = compose_head(
            description,
            self.levels,
            tile_px=tile_px,
            chroma_step=2 if chroma_subsampling == "420" else 1,
            empty_tile=empty_tile,
        )
        self._tables = head.tables
        self._least_tile_bytes = len(empty_tile)
        self._end = len(head.image)
        self._appended: list[_AppendedTile] = []
        least_bytes = head.empty_tile_at + _compute_jpeg_bound(tile_px)
        self._file = open_file(self.path, head.image, least_bytes)
        self._is_open = True

    @property
    def n_pending_tiles(self) -> int:
        """Number of reduced tiles in memory that wait for a child."""
        return self._reduced.n_pending

    def write_tile(self, row: int, column: int, pixels: UInt8Image) -> None:
        """Add one full-resolution tile, and the reduced tiles that it completes.

        Readers see it after the next `flush`, which happens every `sync_every` tiles.

        Parameters
        ----------
        row, column
            Cell in the tile grid; each cell is written once.
        pixels
            HxWx3 uint8 RGB: tile_px on both sides, or at the right and bottom edges
            only the part inside the image. What lies beyond the image is not used; it
            is filled by repeating the last row and column.

        Raises
        ------
        SlideFileError
            The cell or the shape is wrong (nothing is written, the writer goes on), or
            the disk failed (the file is valid, the writer is closed).
        """
        cell = row, column
        self._check_open()
        self._check_cell(cell)
        tile = self._crop_and_pad(cell, pixels)
        with self._closing_on_failure():
            self._append(0, cell, tile)
            self._is_written[cell] = True
            for reduced in self._reduced.add(cell, tile):
                parent = reduced.row, reduced.column
                self._append(reduced.level, parent, reduced.pixels)
            if len(self._appended) >= self._sync_every:
                self._publish()

    def flush(self) -> None:
        """Make every tile written so far visible to readers; raises SlideFileError."""
        with self._closing_on_failure():
            self._publish()

    def close(self) -> None:
        """Complete the reduced levels with background, sync and close; may be repeated.

        Raises
        ------
        SlideFileError
            The disk failed; the file is valid, with what was published before.
        """
        if not self._is_open:
            return
        with self._closing_on_failure():
            for reduced in self._reduced.finish():
                parent = reduced.row, reduced.column
                self._append(reduced.level, parent, reduced.pixels)
            self._publish()
            # The offsets must be on disk before the spare length goes.
            self._file.sync()
            self._file.truncate(self._end)
            self._file.sync()
        self._abandon()

    def __enter__(self) -> "SlideWriter":
        """Return the writer, which is already open."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close, also after an error: what was scanned until then is a whole slide."""
        self.close()

    def _append(self, level: int, cell: Cell, tile: UInt8Image) -> None:
        payload = self._encode(tile).ljust(self._least_tile_bytes, b"\0")
        try:
            self._file.write_at(self._end, payload)
        except SlideFileError:
            # A full disk has no room for this tile, but the slots of the tiles
            # before it exist already.
            with contextlib.suppress(SlideFileError):
                self._publish()
            raise
        self._appended.append(
            _AppendedTile(level=level, cell=cell, start=self._end, n_bytes=len(payload))
        )
        self._end += len(payload)

    def _publish(self) -> None:
        """Bytes are in the file: counts, sync, offsets. The order is the feature."""
        if not self._appended:
            return
        for tile in self._appended:
            for slot in self._tables[tile.level].count_slots(tile.cell):
                self._file.write_at(slot, pack_slot(tile.n_bytes))
        self._file.sync()
        for tile in self._appended:
            for slot in self._tables[tile.level].offset_slots(tile.cell):
                self._file.write_at(slot, pack_slot(tile.start))
        published, self._appended = self._appended, []
        if self._on_publish is not None:
            for tile in published:
                self._on_publish(tile.level, *tile.cell)

    @contextlib.contextmanager
    def _closing_on_failure(self) -> Iterator[None]:
        """Close the writer when the disk fails: it must not be trusted again."""
        self._check_open()
        try:
            yield
        except SlideFileError:
            self._abandon()
            raise

    def _abandon(self) -> None:
        self._is_open = False
        self._file.close()

    def _encode(self, tile: UInt8Image) -> bytes:
        encoded: bytes = simplejpeg.encode_jpeg(
            np.ascontiguousarray(tile),
            quality=self._quality,
            colorspace="RGB",
            colorsubsampling=self._subsampling,
        )
        return encoded

    def _crop_and_pad(self, cell: Cell, pixels: UInt8Image) -> UInt8Image:
        """Return a full tile whose part beyond the image repeats its edge."""
        height_px, width_px = compute_valid_size(self.levels[0], cell, self.tile_px)
        allowed = {(height_px, width_px, 3), (self.tile_px, self.tile_px, 3)}
        if pixels.shape not in allowed or pixels.dtype != np.uint8:
            shapes = " or ".join(str(shape) for shape in sorted(allowed))
            msg = (
                f"{self.path}: tile {cell} is {pixels.dtype} {pixels.shape}, "
                f"expected uint8 {shapes}; crop it to the slide"
            )
            raise SlideFileError(msg)
        return pad_by_replication(pixels[:height_px, :width_px], self.tile_px)

    def _check_cell(self, cell: Cell) -> None:
        n_rows, n_columns = self._is_written.shape
        if not (0 <= cell[0] < n_rows and 0 <= cell[1] < n_columns):
            msg = (
                f"{self.path}: there is no tile {cell}; "
                f"the slide has {n_rows} rows and {n_columns} columns of tiles"
            )
            raise SlideFileError(msg)
        if self._is_written[cell]:
            msg = f"{self.path}: tile {cell} was written before; write each tile once"
            raise SlideFileError(msg)

    def _check_open(self) -> None:
        if not self._is_open:
            msg = f"{self.path}: the slide is closed; make a new one to write again"
            raise SlideFileError(msg)


def _check_parameters(
    tile_px: int, jpeg_quality: int, chroma_subsampling: str, sync_every: int
) -> None:
    """Raise SlideFileError for a parameter out of range."""
    complaint = ""
    if tile_px < 16 or tile_px % 16:
        complaint = f"tile_px must be a positive multiple of 16, got {tile_px}"
    elif not 1 <= jpeg_quality <= 100:
        complaint = f"jpeg_quality must be 1 to 100, got {jpeg_quality}"
    elif chroma_subsampling not in ("420", "444"):
        complaint = f"chroma_subsampling is 420 or 444, got {chroma_subsampling}"
    elif sync_every < 1:
        complaint = f"sync_every must be at least 1, got {sync_every}"
    if complaint:
        msg = f"slide writer: {complaint}"
        raise SlideFileError(msg)


def _compute_jpeg_bound(tile_px: int) -> int:
    """Return the most bytes a JPEG tile can have: libjpeg-turbo's bound for 4:4:4."""
    return 6 * tile_px * tile_px + 2048
