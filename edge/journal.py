"""The scan's journal: an SQLite file (WAL) with one line for every tile.

A tile's line is written after its shots are on the disk, and completed when the tile is
fused and again when it is placed. Readers, such as the report, may look on meanwhile.
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from bifocus.errors import SlideFileError
from bifocus.records import FocalOffset, PlacedTile

_SCHEMA = """
CREATE TABLE IF NOT EXISTS scan (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS tile (
    row INTEGER NOT NULL, column INTEGER NOT NULL, visit INTEGER NOT NULL,
    x_um REAL NOT NULL, y_um REAL NOT NULL, focus_um REAL NOT NULL,
    status TEXT NOT NULL, shots INTEGER NOT NULL, capture_s REAL NOT NULL,
    offset_um REAL, sd_um REAL, confidence REAL,
    raw_a TEXT NOT NULL, raw_b TEXT,
    quality REAL, fuse_s REAL, sharpness_before REAL, sharpness_after REAL,
    mosaic_x_px REAL, mosaic_y_px REAL,
    PRIMARY KEY (row, column)
);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileEntry:
    """One tile as captured. `raw_b` is absent where one shot was enough."""

    row: int
    column: int
    visit: int
    x_um: float
    y_um: float
    focus_um: float
    status: str
    shots: int
    capture_s: float
    offset: FocalOffset | None
    raw_a: str
    raw_b: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TileLine:
    """One tile as the journal holds it now."""

    entry: TileEntry
    quality: float | None
    fuse_s: float | None
    sharpness_before: float | None
    sharpness_after: float | None


class Journal:
    """Append to and read a scan's journal; one thread writes."""

    def __init__(self, path: Path) -> None:
        try:
            self._database = sqlite3.connect(path)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.executescript(_SCHEMA)
        except sqlite3.Error as error:
            msg = f"{path}: cannot open the journal: {error}"
            raise SlideFileError(msg) from error
        self._path = path

    def __enter__(self) -> "Journal":
        """Return the journal itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._database.close()

    def set(self, key: str, value: str) -> None:
        """Store one property of the whole scan."""
        self._run("INSERT OR REPLACE INTO scan VALUES (?, ?)", (key, value))

    def add_tile(self, entry: TileEntry) -> None:
        """Record a tile whose shots are on the disk: from now on it is captured."""
        offset = entry.offset
        measured = (
            (offset.offset_um, offset.sd_um, offset.confidence)
            if offset is not None
            else (None, None, None)
        )
        self._run(
            "INSERT OR REPLACE INTO tile (row, column, visit, x_um, y_um, focus_um,"
            " status, shots, capture_s, offset_um, sd_um, confidence, raw_a, raw_b)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(entry.row, entry.column, entry.visit, entry.x_um, entry.y_um),
                *(entry.focus_um, entry.status, entry.shots, entry.capture_s),
                *measured,
                *(entry.raw_a, entry.raw_b),
            ),
        )

    def set_fused(
        self,
        row: int,
        column: int,
        *,
        quality: float,
        fuse_s: float,
        sharpness: tuple[float, float],
    ) -> None:
        """Complete a tile with what its fusion gave."""
        self._run(
            "UPDATE tile SET quality=?, fuse_s=?, sharpness_before=?,"
            " sharpness_after=? WHERE row=? AND column=?",
            (quality, fuse_s, *sharpness, row, column),
        )

    def set_placed(self, tiles: tuple[PlacedTile, ...]) -> None:
        """Complete tiles with their places in the mosaic."""
        for tile in tiles:
            self._run(
                "UPDATE tile SET mosaic_x_px=?, mosaic_y_px=? WHERE row=? AND column=?",
                (tile.x_px, tile.y_px, tile.row, tile.column),
            )

    def lines(self) -> Iterator[TileLine]:
        """Yield all tiles in the order of their visits."""
        rows = self._database.execute(
            "SELECT row, column, visit, x_um, y_um, focus_um, status, shots, capture_s,"
            " offset_um, sd_um, confidence, raw_a, raw_b, quality, fuse_s,"
            " sharpness_before, sharpness_after FROM tile ORDER BY visit"
        )
        names = TileEntry.__slots__
        for row in rows:
            offset = None
            if row[9] is not None:
                offset = FocalOffset(
                    offset_um=row[9], sd_um=row[10], confidence=row[11]
                )
            values = (*row[:9], offset, *row[12:14])
            yield TileLine(
                entry=TileEntry(**dict(zip(names, values, strict=True))),
                quality=row[14],
                fuse_s=row[15],
                sharpness_before=row[16],
                sharpness_after=row[17],
            )

    def _run(self, statement: str, values: tuple[object, ...]) -> None:
        try:
            with self._database:
                self._database.execute(statement, values)
        except sqlite3.Error as error:
            msg = f"{self._path}: cannot write the journal: {error}"
            raise SlideFileError(msg) from error
