"""The journal of a recording: one JSON object a line, read back also when cut short.

::

    {"what": "start", "at_s": 81.2, "version": 1, "instrument": {...}, ...}
    {"what": "tx", "at_s": 81.3, "data": "?"}
    {"what": "rx", "at_s": 81.3, "data": "<Idle|MPos:0.000,0.000,0.000>"}
    {"what": "event", "at_s": 81.4, "data": "reset banner"}
    {"what": "camera", "at_s": 81.8, "kind": "basler", "identity": "acA1920", ...}
    {"what": "frame", "at_s": 82.0, "file": "frames/000000.png", "start_s": 81.9, ...}

Bytes are text in Latin-1, which has a character for each. Times are those of the
instrument's clock.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from bifocus.errors import ConfigError

What = Literal["start", "camera", "tx", "rx", "event", "frame"]
VERSION = 1
JOURNAL = "journal.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the journal, with its number, counted from 1."""

    line: int
    what: What
    at_s: float
    fields: dict[str, Any]

    @property
    def data(self) -> bytes:
        """The bytes of an exchange or event."""
        return str(self.fields["data"]).encode("latin-1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """A whole recording; `is_cut` where its last line was not finished."""

    folder: Path
    start: Entry
    entries: tuple[Entry, ...]
    is_cut: bool

    @property
    def end(self) -> str:
        """Where the recording ends, for messages."""
        last = self.entries[-1] if self.entries else self.start
        how = ", cut short there, as by a power cut" if self.is_cut else ""
        return f"line {last.line}, {last.at_s - self.start.at_s:.3f} s{how}"


def to_line(what: What, at_s: float, fields: dict[str, Any]) -> str:
    """Return one line of the journal, with its end."""
    return json.dumps({"what": what, "at_s": at_s, **fields}) + "\n"


def read_journal(folder: Path) -> Journal:
    """Read a recording.

    Raises
    ------
    ConfigError
        If there is none, it is of another version, or a line before the last is
        damaged.
    """
    path = folder / JOURNAL
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines(True)
    except OSError as error:
        msg = f"{path}: cannot read the recording: {error.strerror}"
        raise ConfigError(msg) from error
    is_cut = bool(lines) and not lines[-1].endswith("\n")
    whole = lines[:-1] if is_cut else lines
    entries = [_parse(path, number, line) for number, line in enumerate(whole, 1)]
    if not entries or entries[0].what != "start":
        msg = f"{path}: holds no start of a recording; it is empty, or not one"
        raise ConfigError(msg)
    version = entries[0].fields.get("version")
    if version != VERSION:
        msg = f"{path}: a recording of version {version}; this bifocus reads {VERSION}"
        raise ConfigError(msg)
    return Journal(
        folder=folder, start=entries[0], entries=tuple(entries[1:]), is_cut=is_cut
    )


def _parse(path: Path, number: int, line: str) -> Entry:
    try:
        fields = json.loads(line)
        what, at_s = fields.pop("what"), float(fields.pop("at_s"))
        if what not in get_args(What):
            raise ValueError(f"unknown kind '{what}'")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"{path}: line {number} is damaged ({error}); cut the file before it"
        raise ConfigError(msg) from error
    return Entry(line=number, what=what, at_s=at_s, fields=fields)
