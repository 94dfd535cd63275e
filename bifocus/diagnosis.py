"""What `bifocus doctor` says of one thing: its state, what was found, what to do.

Checks are functions of facts. A machine's facts come from files below a root folder, so
that every known trouble can be tested from a folder of recorded files.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

State = Literal["ok", "info", "warn", "fail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """One row of the doctor's table.

    `fail` keeps this instrument from working, `warn` costs time or quality, `info` is
    worth knowing. Everything but `ok` and `info` comes with advice.
    """

    topic: str
    name: str
    state: State
    found: str
    advice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The files of a machine, below `root` (`/`, or a recorded copy)."""

    root: Path = Path("/")

    def path(self, absolute: str) -> Path:
        """Return where the file lies whose path on that machine is `absolute`."""
        return self.root / absolute.lstrip("/")

    def text(self, absolute: str) -> str | None:
        """Return a file's text without trailing blanks and zeros, None if unreadable.

        Examples
        --------
        >>> Machine().text("/no/such/file") is None
        True
        """
        try:
            content = self.path(absolute).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        return content.rstrip("\0 \n")

    def exists(self, absolute: str) -> bool:
        """Whether there is such a file or folder."""
        return self.path(absolute).exists()

    def glob(self, folder: str, pattern: str) -> Iterator[str]:
        """Yield the paths, on that machine, of what matches in a folder, in order."""
        base = self.path(folder)
        if base.is_dir():
            for path in sorted(base.glob(pattern)):
                yield "/" + str(path.relative_to(self.root)).lstrip("/")
