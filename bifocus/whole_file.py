"""Write a file whole or not at all: content first, then the name, then the folder.

Whoever looks sees the older file or the new one, never half of either, also after a
power cut. One process writes a given file at a time.
"""

import contextlib
import os
from pathlib import Path

from bifocus.errors import SlideFileError


def write_whole(path: Path, content: bytes | str, *, is_durable: bool = True) -> None:
    """Make `path` hold exactly `content`, in one step.

    Parameters
    ----------
    path
        The file; its folder must exist.
    content
        Bytes, or text that is written as UTF-8.
    is_durable
        Wait until the disk has it. False for files that can be made again.

    Raises
    ------
    SlideFileError
        If the disk refuses; an older file is left as it was, and nothing beside it.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as stream:
            stream.write(data)
            if is_durable:
                stream.flush()
                os.fsync(stream.fileno())
        partial.replace(path)
        if is_durable:
            sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        msg = (
            f"{path}: cannot write {len(data)} bytes: {error.strerror or error}; "
            "an older file, if any, is kept"
        )
        raise SlideFileError(msg) from error


def sync_folder(folder: Path) -> None:
    """Bring the folder's list of names to the disk: a renamed file is one of them."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
