"""A folder whose disk turns read-only in the middle of a run, at a chosen write.

Root may write wherever a mount allows it, so that permissions prove nothing. Python
itself announces each file opened, folder made, name changed or removed (PEP 578), and
whoever listens may refuse.
"""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_NAMES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass
class Disk:
    """Counts the writes below a folder, and refuses those from number `from_write` on.

    Refused are changes of what is there; looking stays allowed.
    """

    folder: Path
    from_write: int | None
    writes: int = 0

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._is_write(event, arguments):
            return
        number, self.writes = self.writes, self.writes + 1
        if self.from_write is not None and number >= self.from_write:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(arguments[0]))

    def _is_write(self, event: str, arguments: tuple[Any, ...]) -> bool:
        if event == "open":
            path, _, flags = arguments
            is_change = isinstance(flags, int) and bool(flags & _WRITES)
        else:
            path, is_change = arguments[0], event in _NAMES
        if not is_change or not isinstance(path, str | os.PathLike):
            return False
        return Path(path).is_relative_to(self.folder)


class _Listener:
    """The one hook of this process: an audit hook cannot be taken away again."""

    def __init__(self) -> None:
        self.disk: Disk | None = None
        self._is_added = False

    def listen(self) -> None:
        if not self._is_added:
            sys.addaudithook(self._hear)
            self._is_added = True

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.disk is not None and (event == "open" or event in _NAMES):
            self.disk.hear(event, arguments)


_LISTENER = _Listener()


@contextmanager
def read_only(folder: Path, *, from_write: int | None = None) -> Iterator[Disk]:
    """Refuse writes below a folder, all from one number on; None only counts them."""
    _LISTENER.listen()
    disk = Disk(folder=folder, from_write=from_write)
    _LISTENER.disk = disk
    try:
        yield disk
    finally:
        _LISTENER.disk = None
