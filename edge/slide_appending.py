"""Append tiles to a slide's file, and show them to readers once the disk has them.

In this order: bytes, byte counts, sync, offsets. `slide_file` tells why no cut at any
point leaves a broken tile behind.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from bifocus.edge.growing_file import GrowingFile
from bifocus.edge.pyramid import Cell
from bifocus.edge.slide_layout import TileTable, pack_slot
from bifocus.errors import SlideFileError

OnPublish = Callable[[int, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _AppendedTile:
    """A tile whose bytes are in the file but whose slot still shows the grey tile."""

    table: TileTable
    level: int
    cell: Cell
    start: int
    n_bytes: int


class TileAppender:
    """The end of a growing slide, and the tiles there that no reader sees yet.

    Any method may raise SlideFileError; the file is valid then, but must not be written
    any more.
    """

    def __init__(
        self, file: GrowingFile, end: int, on_publish: OnPublish | None
    ) -> None:
        """Store the file, where its head ends, and who is told of published tiles."""
        self._file = file
        self._end = end
        self._on_publish = on_publish
        self._appended: list[_AppendedTile] = []

    @property
    def n_appended(self) -> int:
        """Tiles that no reader sees yet."""
        return len(self._appended)

    def append(self, table: TileTable, level: int, cell: Cell, payload: bytes) -> None:
        """Add a tile's bytes; a level below 0 is that of a picture beside the slide."""
        try:
            self._file.write_at(self._end, payload)
        except SlideFileError:
            # A full disk has no room for this tile, but the slots of the tiles
            # before it exist already.
            with contextlib.suppress(SlideFileError):
                self.publish()
            raise
        self._appended.append(
            _AppendedTile(
                table=table,
                level=level,
                cell=cell,
                start=self._end,
                n_bytes=len(payload),
            )
        )
        self._end += len(payload)

    def publish(self) -> None:
        """Bytes are in the file: counts, sync, offsets. The order is the feature."""
        if not self._appended:
            return
        for tile in self._appended:
            for slot in tile.table.count_slots(tile.cell):
                self._file.write_at(slot, pack_slot(tile.n_bytes))
        self._file.sync()
        for tile in self._appended:
            for slot in tile.table.offset_slots(tile.cell):
                self._file.write_at(slot, pack_slot(tile.start))
        published, self._appended = self._appended, []
        if self._on_publish is not None:
            for tile in published:
                if tile.level >= 0:
                    self._on_publish(tile.level, *tile.cell)

    def replace_text(self, text: str, count_at: int) -> None:
        """Append a text anew; then one write within a sector shows it.

        `count_at` is where its length stands, directly before its place.
        """
        payload = text.encode() + b"\0"
        start = -(-self._end // 2) * 2  # TIFF wants values at even positions.
        self._file.write_at(start, payload)
        self._end = start + len(payload)
        self._file.sync()
        self._file.write_at(count_at, pack_slot(len(payload)) + pack_slot(start))

    def finish(self) -> None:
        """Give back the spare length; the offsets must be on the disk before."""
        self._file.sync()
        self._file.truncate(self._end)
        self._file.sync()

    def close(self) -> None:
        """Give the file back; may be called twice."""
        self._file.close()
