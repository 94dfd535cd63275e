"""Look into the journal of a scan that another process makes, or that is finished.

Opened for reading only, also where the folder cannot be written; the scan is never
disturbed.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bifocus.edge.journal import TileEntry
from bifocus.errors import SlideFileError
from bifocus.records import FocalOffset


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalledTile:
    """One tile as the journal holds it now.

    `picked` is the shot on whose pixel grid the tile lies, `place_px` its corner in the
    mosaic; both are None until they are known.
    """

    entry: TileEntry
    quality: float | None
    fuse_s: float | None
    picked: int | None
    place_px: tuple[float, float] | None


def read_properties(path: Path) -> dict[str, str]:
    """Return what the journal says of the whole scan; raises SlideFileError."""
    with _opened(path) as database:
        return dict(database.execute("SELECT key, value FROM scan"))


def read_tiles(path: Path) -> list[JournalledTile]:
    """Return all tiles in the order of their visits; raises SlideFileError."""
    with _opened(path) as database:
        rows = database.execute("SELECT * FROM tile ORDER BY visit")
        return [_tile(row) for row in rows]


def read_tile(path: Path, row: int, column: int) -> JournalledTile | None:
    """Return one tile, or None if it is not captured; raises SlideFileError."""
    with _opened(path) as database:
        found = database.execute(
            "SELECT * FROM tile WHERE row=? AND column=?", (row, column)
        ).fetchone()
        return None if found is None else _tile(found)


def read_faults(path: Path) -> list[str]:
    """Return all that went wrong, the first one first; raises SlideFileError."""
    with _opened(path) as database:
        rows = database.execute("SELECT text FROM fault ORDER BY number")
        return [row["text"] for row in rows]


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    # A journal in WAL mode needs a file of shared memory beside it, even for reading;
    # where none can be made, nobody writes either.
    mode = "mode=ro" if os.access(path.parent, os.W_OK) else "mode=ro&immutable=1"
    try:
        uri = f"{path.absolute().as_uri()}?{mode}"
        with closing(sqlite3.connect(uri, uri=True)) as database:
            database.row_factory = sqlite3.Row
            yield database
    except sqlite3.Error as error:
        msg = f"{path}: cannot read the journal: {error}; is this a scan's folder?"
        raise SlideFileError(msg) from error


def _tile(row: sqlite3.Row) -> JournalledTile:
    # Any: SQLite gives what the column holds.
    values: dict[str, Any] = {name: row[name] for name in _PLAIN}
    offset = None
    if row["offset_um"] is not None:
        offset = FocalOffset(
            offset_um=row["offset_um"],
            sd_um=row["sd_um"],
            confidence=row["confidence"],
        )
    x_px, y_px = row["mosaic_x_px"], row["mosaic_y_px"]
    return JournalledTile(
        entry=TileEntry(offset=offset, **values),
        quality=row["quality"],
        fuse_s=row["fuse_s"],
        picked=row["picked"],
        place_px=None if x_px is None else (x_px, y_px),
    )


_PLAIN = tuple(name for name in TileEntry.__slots__ if name != "offset")
