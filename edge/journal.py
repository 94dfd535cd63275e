"""The scan's journal: an SQLite file (WAL) with one line for every tile.

A tile's line is written after its shots are on the disk, and completed when the tile is
fused and again when it is placed. Readers, such as the report, may look on meanwhile.
What the file holds is enough to finish a scan that broke off (`bifocus.edge.resume`).
"""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from bifocus.errors import SlideFileError
from bifocus.records import FocalOffset, PlacedTile
from bifocus.whole_file import sync_folder

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
    sequence INTEGER NOT NULL, at_s REAL NOT NULL,
    light TEXT, poses TEXT, trace TEXT NOT NULL,
    picked INTEGER, fused_crc INTEGER,
    PRIMARY KEY (row, column)
);
CREATE TABLE IF NOT EXISTS fault (number INTEGER PRIMARY KEY, text TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileEntry:
    """One tile as captured; every field is a column of the journal, or two.

    Attributes
    ----------
    visit
        Its place in the plan.
    raw_a, raw_b
        The shots, relative to the scan's folder; one where one was enough.
    sequence
        Its place in the order in which tiles were finished, which is the order of
        stitching; a tile that was shot again is finished later than its neighbours.
    at_s
        Seconds of the scan at which it was shot.
    light, poses, trace
        JSON: the light under which the pair was measured; on a virtual instrument,
        where the glass truly was; the decisions on the way to this shot.
    """

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
    sequence: int = 0
    at_s: float = 0.0
    light: str | None = None
    poses: str | None = None
    trace: str = "[]"


@dataclass(frozen=True, slots=True, kw_only=True)
class TileLine:
    """One tile as the journal holds it now; None until it is fused.

    `picked` is the shot on whose pixel grid the tile lies, `fused_crc` the CRC-32 of
    its pixels.
    """

    entry: TileEntry
    quality: float | None
    fuse_s: float | None
    sharpness_before: float | None
    sharpness_after: float | None
    picked: int | None = None
    fused_crc: int | None = None


class Journal:
    """Append to and read a scan's journal; safe from any thread."""

    def __init__(self, path: Path) -> None:
        try:
            self._database = sqlite3.connect(path, check_same_thread=False)
            self._database.row_factory = sqlite3.Row
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.executescript(_SCHEMA)
        except sqlite3.Error as error:
            msg = f"{path}: cannot open the journal: {error}"
            raise SlideFileError(msg) from error
        self._path = path
        self._lock = threading.Lock()

    @classmethod
    def create(cls, path: Path, properties: Mapping[str, str]) -> "Journal":
        """Make a journal that appears with all its properties, or not at all.

        Raises
        ------
        SlideFileError
            If it cannot be written.
        """
        partial = path.with_name(path.name + ".partial")
        try:
            partial.unlink(missing_ok=True)
            with cls(partial) as journal:
                for key, value in properties.items():
                    journal.set(key, value)
            partial.replace(path)
            sync_folder(path.parent)
        except OSError as error:
            msg = f"{path}: cannot make the journal: {error.strerror}"
            raise SlideFileError(msg) from error
        return cls(path)

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
        self._run("INSERT OR REPLACE INTO scan VALUES (?, ?)", [(key, value)])

    def properties(self) -> dict[str, str]:
        """Return the properties of the whole scan."""
        return {row["key"]: row["value"] for row in self._rows("SELECT * FROM scan")}

    def add_fault(self, text: str) -> None:
        """Record what went wrong; one sentence."""
        self._run("INSERT INTO fault (text) VALUES (?)", [(text,)])

    def faults(self) -> tuple[str, ...]:
        """Return all that went wrong, the first one first."""
        rows = self._rows("SELECT text FROM fault ORDER BY number")
        return tuple(row["text"] for row in rows)

    def add_tile(self, entry: TileEntry) -> None:
        """Record a tile whose shots are on the disk: from now on it is captured."""
        offset = entry.offset
        measured = (
            (offset.offset_um, offset.sd_um, offset.confidence)
            if offset is not None
            else (None, None, None)
        )
        values: dict[str, object] = {
            name: getattr(entry, name) for name in _PLAIN_FIELDS
        }
        values |= dict(zip(_OFFSET_COLUMNS, measured, strict=True))
        places = ", ".join("?" * len(values))
        self._run(
            f"INSERT OR REPLACE INTO tile ({', '.join(values)}) VALUES ({places})",
            [tuple(values.values())],
        )

    def set_fused(
        self,
        row: int,
        column: int,
        *,
        quality: float,
        fuse_s: float,
        sharpness: tuple[float, float],
        picked: int = 0,
        fused_crc: int | None = None,
    ) -> None:
        """Complete a tile with what its fusion gave."""
        self._run(
            "UPDATE tile SET quality=?, fuse_s=?, sharpness_before=?,"
            " sharpness_after=?, picked=?, fused_crc=? WHERE row=? AND column=?",
            [(quality, fuse_s, *sharpness, picked, fused_crc, row, column)],
        )

    def set_placed(self, tiles: Iterable[PlacedTile]) -> None:
        """Complete tiles with their places in the mosaic."""
        self._run(
            "UPDATE tile SET mosaic_x_px=?, mosaic_y_px=? WHERE row=? AND column=?",
            [(tile.x_px, tile.y_px, tile.row, tile.column) for tile in tiles],
        )

    def lines(self) -> Iterator[TileLine]:
        """Yield all tiles in the order of their visits."""
        return map(_line, self._rows("SELECT * FROM tile ORDER BY visit"))

    def lines_as_finished(self) -> Iterator[TileLine]:
        """Yield all tiles in the order in which they were finished."""
        return map(_line, self._rows("SELECT * FROM tile ORDER BY sequence, visit"))

    def _rows(self, query: str) -> list[sqlite3.Row]:
        try:
            with self._lock:
                return self._database.execute(query).fetchall()
        except sqlite3.Error as error:
            msg = f"{self._path}: cannot read the journal: {error}"
            raise SlideFileError(msg) from error

    def _run(self, statement: str, lines: list[tuple[object, ...]]) -> None:
        try:
            with self._lock, self._database:
                self._database.executemany(statement, lines)
        except sqlite3.Error as error:
            msg = f"{self._path}: cannot write the journal: {error}"
            raise SlideFileError(msg) from error


_OFFSET_COLUMNS = ("offset_um", "sd_um", "confidence")
_PLAIN_FIELDS = tuple(name for name in TileEntry.__slots__ if name != "offset")


def _line(row: sqlite3.Row) -> TileLine:
    offset = None
    if row["offset_um"] is not None:
        offset = FocalOffset(**{name: row[name] for name in _OFFSET_COLUMNS})
    return TileLine(
        entry=TileEntry(offset=offset, **{name: row[name] for name in _PLAIN_FIELDS}),
        quality=row["quality"],
        fuse_s=row["fuse_s"],
        sharpness_before=row["sharpness_before"],
        sharpness_after=row["sharpness_after"],
        picked=row["picked"],
        fused_crc=row["fused_crc"],
    )
