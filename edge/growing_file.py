"""A file that appears whole under its name and then only grows.

Creation is atomic: the first bytes are written and synced as `NAME.partial`, which is
then renamed; writing goes on through the same descriptor.
"""

import contextlib
import errno
import os
import shutil
from pathlib import Path
from typing import Protocol

from bifocus.errors import SlideFileError

# macOS has no fdatasync.
_sync_data = getattr(os, "fdatasync", os.fsync)


class GrowingFile(Protocol):
    """What a slide writer asks of its file; every method may raise SlideFileError."""

    def write_at(self, start: int, payload: bytes) -> None:
        """Write all of `payload` at byte `start`, growing the file if needed."""

    def sync(self) -> None:
        """Return once everything written so far would survive a power cut."""

    def truncate(self, n_bytes: int) -> None:
        """Cut the file to `n_bytes`."""

    def close(self) -> None:
        """Give the descriptor back; may be called twice."""


class DiskFile:
    """The real `GrowingFile`; not thread-safe."""

    def __init__(self, path: Path, descriptor: int) -> None:
        """Store an open descriptor; use `create`."""
        self._path = path
        self._descriptor: int | None = descriptor

    @classmethod
    def create(cls, path: Path, head: bytes, least_bytes: int) -> "DiskFile":
        """Make `path` appear with `head` in it and at least `least_bytes` long.

        A file that already has the name is replaced in one step. What lies between
        the head and `least_bytes` reads as zeros and takes no space on disk.

        Raises
        ------
        SlideFileError
            The folder is missing or cannot be written, or the disk is full; nothing
            is left behind and an older file of that name is untouched.
        """
        partial = path.with_name(path.name + ".partial")
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0)
        try:
            descriptor = os.open(partial, flags, 0o666)
        except OSError as error:
            raise _explain(path, error, len(head)) from error
        created = cls(path, descriptor)
        try:
            created.write_at(0, head)
            created.truncate(max(least_bytes, len(head)))
            os.fsync(descriptor)
            partial.replace(path)
            _sync_folder(path.parent)
        except BaseException as error:
            created.close()
            partial.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise _explain(path, error, len(head)) from error
            raise
        return created

    def write_at(self, start: int, payload: bytes) -> None:
        """Write all of `payload` at byte `start`; the error names the bytes lacking."""
        view = memoryview(payload)
        while view:
            try:
                n_written = os.pwrite(self._open_descriptor(), view, start)
            except OSError as error:
                raise _explain(self._path, error, len(view)) from error
            start += n_written
            view = view[n_written:]

    def sync(self) -> None:
        """Force written bytes and the file's length to the disk."""
        try:
            _sync_data(self._open_descriptor())
        except OSError as error:
            raise _explain(self._path, error, 0) from error

    def truncate(self, n_bytes: int) -> None:
        """Cut or extend (with zeros that take no space) to `n_bytes`."""
        try:
            os.ftruncate(self._open_descriptor(), n_bytes)
        except OSError as error:
            raise _explain(self._path, error, n_bytes) from error

    def close(self) -> None:
        """Close the descriptor; may be called twice."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)

    def _open_descriptor(self) -> int:
        if self._descriptor is None:
            msg = f"{self._path}: written after it was closed"
            raise SlideFileError(msg)
        return self._descriptor


def replace_file(path: Path, payload: bytes) -> None:
    """Make `path` hold exactly `payload`, in one step; raises SlideFileError."""
    DiskFile.create(path, payload, len(payload)).close()


def _sync_folder(folder: Path) -> None:
    """Make a rename durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems refuse to sync a folder; the rename still holds.
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explain(path: Path, error: OSError, n_bytes: int) -> SlideFileError:
    """Say what failed on `path`, how much was still to be written, and what to do."""
    text = f"{path}: cannot write: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        text += f"; {n_bytes} bytes more were needed"
        with contextlib.suppress(OSError):
            text += f", {shutil.disk_usage(path.parent).free} bytes are free"
        text += ". Free some space (or choose another folder), then resume"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        text += ". Choose a folder that you may write to, or change its permissions"
    elif error.errno in (errno.ENOENT, errno.ENOTDIR):
        text += f". Create the folder {path.parent} first"
    else:
        text += ". Check the disk and its cable, then resume"
    return SlideFileError(text)
