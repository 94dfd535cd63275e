"""Write a pyramidal OME-BigTIFF that is a valid slide at every instant it grows.

All directories are written first, with every tile slot at one shared grey tile. Then,
for each batch of tiles: append their bytes, write the byte counts, sync, and only then
write the offsets. A reader, a killed program or a power cut at any point meets a
file in which each tile is either whole or grey. Three facts carry that:

* an offset reaches the disk only after its tile and its count did (the sync);
* a count never shrinks (short tiles are padded to the length of the grey one), and a
  grey tile read with a longer count still ends at its own end;
* the file is from the start long enough for that longer read.

What no writer can prevent: a reader that copies a count and then, after a sync of ours,
the offset of the same slot, sees one tile cut short until it opens the file again.

The images beside the slide follow the same order. The metadata, which at the end tell
where each source tile was put, are appended anew and published by one write within one
sector.

Readers: OpenSlide sees the levels in the main chain, Bio-Formats and tifffile the same
levels as SubIFDs; see `slide_layout`.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType

import numpy as np

from bifocus.edge.growing_file import DiskFile, GrowingFile
from bifocus.edge.ome_xml import SlideDescription, compose_ome_xml
from bifocus.edge.pyramid import (
    Cell,
    ReducedTiles,
    compute_grid,
    compute_level_sizes,
    compute_valid_size,
    pad_by_replication,
)
from bifocus.edge.slide_appending import OnPublish, TileAppender
from bifocus.edge.slide_fields import HeadPlan, SlideLayout
from bifocus.edge.slide_layout import compose_head
from bifocus.edge.slide_pictures import BACKGROUND_GREY, MACRO, start_pictures
from bifocus.edge.slide_reader import SlideReader, write_thumbnail
from bifocus.edge.tile_codec import ChromaSubsampling, SlideCodec, make_codec
from bifocus.errors import SlideFileError
from bifocus.records import UInt8Image

__all__ = [
    "BACKGROUND_GREY",
    "ChromaSubsampling",
    "OnPublish",
    "SlideDescription",
    "SlideReader",
    "SlideWriter",
    "write_thumbnail",
]

OpenFile = Callable[[Path, bytes, int], GrowingFile]


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
        layout: SlideLayout = "hybrid",
        codec: SlideCodec = "jpeg",
        jpeg_quality: int = 90,
        chroma_subsampling: ChromaSubsampling = "420",
        sync_every: int = 16,
        label: UInt8Image | None = None,
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
        layout
            "hybrid" has a pyramid in every reader; "subifd" is what OME-TIFF asks for
            and has none in OpenSlide; "chain" has none in Bio-Formats, and holds
            neither label nor macro.
        codec
            "jpeg", or "lossless" for ten times the size.
        jpeg_quality
            1 to 100.
        chroma_subsampling
            "420" halves colour resolution; "444" keeps it, for about 30 % more bytes.
        sync_every
            Tiles (of all levels) between syncs; a power cut turns at most so many of
            the last tiles grey.
        label
            Picture of the slide's label, HxWx3.
        open_file
            Makes the file from its path, first bytes and least length.
        on_publish
            Called with (level, row, column) of each tile once readers can see it.

        Raises
        ------
        SlideFileError
            A parameter is out of range, or the file cannot be created.
        """
        _check_parameters(tile_px, sync_every, layout)
        self._codec = make_codec(codec, jpeg_quality, chroma_subsampling)
        self.path = Path(path)
        self.tile_px = tile_px
        self.levels = compute_level_sizes(
            description.width_px, description.height_px, tile_px
        )
        self._sync_every = sync_every
        background = np.full(3, BACKGROUND_GREY, dtype=np.uint8)
        self._reduced = ReducedTiles(self.levels, tile_px, background)
        self._is_written = np.zeros(compute_grid(self.levels[0], tile_px), dtype=bool)
        empty_tile = self._codec.encode(np.tile(background, (tile_px, tile_px, 1)))
        # libvips takes a chain for a pyramid only if nothing else is in it.
        has_beside = layout != "chain"
        self._plan = HeadPlan(
            description=description,
            sizes=self.levels,
            tile_px=tile_px,
            codec=self._codec,
            layout=layout,
            empty_tile=empty_tile,
            pictures=start_pictures(self.levels[-1], label) if has_beside else (),
        )
        self._head = compose_head(
            self._plan, compose_ome_xml(description, self._plan.beside())
        )
        self._smallest: UInt8Image | None = None
        least_bytes = self._head.empty_tile_at + self._codec.most_bytes(tile_px)
        file = open_file(self.path, self._head.image, least_bytes)
        self._tiles = TileAppender(file, len(self._head.image), on_publish)
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
            if self._tiles.n_appended >= self._sync_every:
                self._tiles.publish()

    def flush(self) -> None:
        """Make every tile written so far visible to readers; raises SlideFileError."""
        with self._closing_on_failure():
            self._tiles.publish()

    def close(self, tile_notes: Mapping[str, str] | None = None) -> None:
        """Complete the reduced levels with background, sync and close; may be repeated.

        Parameters
        ----------
        tile_notes
            Name of a source tile -> what the metadata shall tell of it.

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
            self._append_macro()
            self._tiles.publish()
            if tile_notes:
                self._replace_xml(tile_notes)
            self._tiles.finish()
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
        if level == len(self.levels) - 1:
            self._smallest = tile
        payload = self._codec.encode(tile).ljust(len(self._plan.empty_tile), b"\0")
        self._tiles.append(self._head.tables[level], level, cell, payload)

    def _append_macro(self) -> None:
        """Show the last level, which is one tile, as the macro."""
        macros = [p for p in self._plan.pictures if p.name == MACRO]
        if self._smallest is None or not macros:
            return
        (macro,) = macros
        shown = self._smallest[: macro.height_px, : macro.width_px]
        payload = macro.codec.encode(shown).ljust(len(macro.jpeg), b"\0")
        self._tiles.append(self._head.picture_tables[MACRO], -1, (0, 0), payload)

    def _replace_xml(self, tile_notes: Mapping[str, str]) -> None:
        """Bring the metadata up to date."""
        xml = compose_ome_xml(self._plan.description, self._plan.beside(), tile_notes)
        self._tiles.replace_text(xml, self._head.xml_count_at)

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
        self._tiles.close()

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


def _check_parameters(tile_px: int, sync_every: int, layout: str) -> None:
    """Raise SlideFileError for a parameter out of range."""
    complaint = ""
    if tile_px < 16 or tile_px % 16:
        complaint = f"tile_px must be a positive multiple of 16, got {tile_px}"
    elif sync_every < 1:
        complaint = f"sync_every must be at least 1, got {sync_every}"
    elif layout not in ("hybrid", "subifd", "chain"):
        complaint = f"layout is hybrid, subifd or chain, got {layout}"
    if complaint:
        msg = f"slide writer: {complaint}"
        raise SlideFileError(msg)
