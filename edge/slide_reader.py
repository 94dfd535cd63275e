"""Read the slides that `slide_file` writes, also while they grow.

Only as much of TIFF as those slides use: little-endian BigTIFF, tiles of the two codecs
of `tile_codec`, levels in the main chain or in SubIFDs. For the live page and for
thumbnails; other slides are read with OpenSlide.
"""

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from bifocus.edge import bigtiff
from bifocus.edge.growing_file import replace_file
from bifocus.edge.ome_xml import SlideDescription, parse_ome_xml
from bifocus.edge.pyramid import LevelSize, compute_grid, compute_valid_size
from bifocus.edge.slide_fields import (
    ICC_PROFILE,
    IMAGE_DESCRIPTION,
    SUBIFDS,
    TILE_BYTE_COUNTS,
    TILE_OFFSETS,
)
from bifocus.edge.tile_codec import (
    DEFLATE_COMPRESSION,
    HORIZONTAL_DIFFERENCES,
    JPEG_COMPRESSION,
    JpegCodec,
    LosslessCodec,
    TileCodec,
)
from bifocus.errors import SlideFileError
from bifocus.records import UInt8Image

THUMBNAIL_JPEG_QUALITY = 90
_MAX_LEVELS = 64  # a chain longer than this is a loop: 2**64 px have 64 halvings
_PAGE_CODEC = JpegCodec(quality=92, chroma_subsampling="444")
_REDUCED_IMAGE = 1
_VALUE_FORMATS = {
    bigtiff.TYPE_SHORT: "<H",
    bigtiff.TYPE_LONG: "<I",
    bigtiff.TYPE_LONG8: "<Q",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Level:
    """One directory of the chain: its size and where its tables start."""

    size: LevelSize
    tile_px: int
    offsets_at: int
    counts_at: int
    codec: TileCodec


@dataclass(frozen=True, slots=True, kw_only=True)
class _Directory:
    """What a directory says: numbers, or where the values of a field start."""

    first: dict[int, int]
    counts: dict[int, int]
    next_at: int

    @property
    def is_reduced(self) -> bool:
        return bool(self.first.get(254, 0) & _REDUCED_IMAGE)


class SlideReader:
    """Tiles of a slide as they are now; a context manager.

    Thread-safe: every call reads the file afresh at a position of its own, so that a
    tile written since the last call is seen.
    """

    def __init__(self, path: Path) -> None:
        """Open the slide and read its directories.

        Raises
        ------
        SlideFileError
            There is no such file, or it is not a slide of this kind.
        """
        self.path = Path(path)
        try:
            self._descriptor = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            msg = f"{self.path}: cannot open the slide: {error.strerror}"
            raise SlideFileError(msg) from error
        try:
            self._levels = self._read_levels()
        except BaseException:
            os.close(self._descriptor)
            raise
        self._is_open = True
        self.levels = tuple(level.size for level in self._levels)
        self.tile_px = self._levels[0].tile_px

    def read_description(self) -> SlideDescription:
        """Return what the slide says of itself now; raises SlideFileError."""
        text = self._read_values(IMAGE_DESCRIPTION).rstrip(b"\0").decode()
        return parse_ome_xml(text)

    def read_icc_profile(self) -> bytes:
        """Return the colour profile."""
        return self._read_values(ICC_PROFILE)

    @property
    def has_subifds(self) -> bool:
        """Whether OME-TIFF readers see a pyramid."""
        return self._has_subifds

    @property
    def is_lossless(self) -> bool:
        """Whether the pixels are those that were written, bit by bit."""
        return isinstance(self._levels[0].codec, LosslessCodec)

    def read_tile_jpeg(self, level: int, row: int, column: int) -> bytes:
        """Return the JPEG stream of a tile, grey where nothing is written yet.

        Of a lossless slide, the tile is encoded anew.
        """
        payload = self._read_payload(level, row, column)
        codec = self._levels[level].codec
        if isinstance(codec, JpegCodec):
            return payload
        return _PAGE_CODEC.encode(self._decode(level, payload))

    def read_tile(self, level: int, row: int, column: int) -> UInt8Image:
        """Return the pixels of a whole tile, tile_px x tile_px x 3 uint8 RGB."""
        return self._decode(level, self._read_payload(level, row, column))

    def _decode(self, level: int, payload: bytes) -> UInt8Image:
        try:
            return self._levels[level].codec.decode(payload, self.tile_px)
        except SlideFileError as error:
            msg = f"{self.path}: {error}"
            raise SlideFileError(msg) from error

    def _read_payload(self, level: int, row: int, column: int) -> bytes:
        table = self._levels[level]
        n_rows, n_columns = compute_grid(table.size, table.tile_px)
        if not (0 <= row < n_rows and 0 <= column < n_columns):
            msg = (
                f"{self.path}: level {level} has no tile ({row}, {column}); "
                f"it has {n_rows} rows and {n_columns} columns"
            )
            raise SlideFileError(msg)
        skip = 8 * (row * n_columns + column)
        # The offset first: if the writer publishes in between, the count is the
        # longer one, which fits both the old tile and the new.
        (start,) = self._unpack("<Q", table.offsets_at + skip)
        (n_bytes,) = self._unpack("<Q", table.counts_at + skip)
        return self._read(start, n_bytes)

    def read_offsets(self, level: int) -> npt.NDArray[np.uint64]:
        """Return where each tile of a level lies in the file: rows x columns, bytes.

        Tiles not yet written all share the place of one grey tile, before every
        other; a place once given to a tile keeps its bytes.
        """
        table = self._levels[level]
        n_rows, n_columns = compute_grid(table.size, table.tile_px)
        payload = self._read(table.offsets_at, 8 * n_rows * n_columns)
        return np.frombuffer(payload, dtype="<u8").reshape(n_rows, n_columns)

    def read_level(self, level: int) -> UInt8Image:
        """Return a whole level, HxWx3 uint8 RGB; choose one that fits in memory."""
        table = self._levels[level]
        width_px, height_px = table.size
        image = np.empty((height_px, width_px, 3), dtype=np.uint8)
        n_rows, n_columns = compute_grid(table.size, table.tile_px)
        for row, column in np.ndindex(n_rows, n_columns):
            tile = self.read_tile(level, row, column)
            rows, columns = compute_valid_size(table.size, (row, column), table.tile_px)
            top, left = row * table.tile_px, column * table.tile_px
            image[top : top + rows, left : left + columns] = tile[:rows, :columns]
        return image

    def close(self) -> None:
        """Close the file; may be called twice."""
        if self._is_open:
            self._is_open = False
            os.close(self._descriptor)

    def __enter__(self) -> "SlideReader":
        """Return the reader, which is already open."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()

    def _read_values(self, number: int) -> bytes:
        """Return the bytes of a field of the first directory, read afresh."""
        (at,) = self._unpack("<Q", 8)
        (n_fields,) = self._unpack("<Q", at)
        for i_field in range(min(n_fields, 1000)):
            field_at = at + 8 + bigtiff.FIELD_BYTES * i_field
            found, _, count, start = self._unpack("<HHQQ", field_at)
            if found == number:
                return self._read(start, count)
        raise self._refuse(f"it has no TIFF field {number}")

    def _read_levels(self) -> list[_Level]:
        magic, version, offset_bytes, _, at = self._unpack("<2sHHHQ", 0)
        if (magic, version, offset_bytes) != (b"II", 43, 8):
            raise self._refuse("it does not start as a little-endian BigTIFF")
        directories: list[_Directory] = []
        while at and len(directories) < _MAX_LEVELS:
            directories.append(self._read_directory(at))
            at = directories[-1].next_at
        if not directories:
            raise self._refuse("it holds no image")
        top, *others = directories
        self._has_subifds = SUBIFDS in top.first
        reduced = [other for other in others if other.is_reduced]
        if not reduced and SUBIFDS in top.first:
            start, count = top.first[SUBIFDS], top.counts[SUBIFDS]
            places = self._unpack(f"<{min(count, _MAX_LEVELS)}Q", start)
            reduced = [self._read_directory(place) for place in places]
        return [self._to_level(directory) for directory in (top, *reduced)]

    def _read_directory(self, at: int) -> _Directory:
        (n_fields,) = self._unpack("<Q", at)
        first: dict[int, int] = {}
        counts: dict[int, int] = {}
        for i_field in range(min(n_fields, 1000)):
            field_at = at + 8 + bigtiff.FIELD_BYTES * i_field
            number, type_code, count = self._unpack("<HHQ", field_at)
            counts[number] = count
            if number in (TILE_OFFSETS, TILE_BYTE_COUNTS, SUBIFDS):
                first[number] = field_at + 12
                if count > 1:
                    (first[number],) = self._unpack("<Q", field_at + 12)
            elif type_code in _VALUE_FORMATS and count == 1:
                (first[number],) = self._unpack(
                    _VALUE_FORMATS[type_code], field_at + 12
                )
        (next_at,) = self._unpack("<Q", at + bigtiff.directory_bytes(n_fields) - 8)
        return _Directory(first=first, counts=counts, next_at=next_at)

    def _to_level(self, directory: _Directory) -> _Level:
        first = directory.first
        try:
            level = _Level(
                size=(first[256], first[257]),
                tile_px=first[322],
                offsets_at=first[TILE_OFFSETS],
                counts_at=first[TILE_BYTE_COUNTS],
                codec=self._find_codec(first),
            )
        except KeyError as error:
            raise self._refuse(f"an image has no TIFF field {error}") from error
        if min(*level.size, level.tile_px) < 1:
            raise self._refuse("an image or a tile has no pixels")
        if first.get(323) != level.tile_px:
            raise self._refuse("its tiles are not square")
        return level

    def _find_codec(self, first: dict[int, int]) -> TileCodec:
        if first.get(259) == JPEG_COMPRESSION:
            return JpegCodec()
        is_differences = first.get(317) == HORIZONTAL_DIFFERENCES
        if first.get(259) == DEFLATE_COMPRESSION and is_differences:
            return LosslessCodec()
        raise self._refuse("its tiles are neither JPEG nor Deflate of differences")

    def _unpack(self, layout: str, start: int) -> tuple[Any, ...]:
        # Any: struct gives what the layout says, which types cannot follow.
        payload = self._read(start, struct.calcsize(layout))
        return struct.unpack(layout, payload)

    def _read(self, start: int, n_bytes: int) -> bytes:
        if start + n_bytes > os.fstat(self._descriptor).st_size:
            raise self._refuse(f"it ends within the {n_bytes} bytes at {start}")
        try:
            return os.pread(self._descriptor, n_bytes, start)
        except OSError as error:
            msg = f"{self.path}: cannot read {n_bytes} bytes at {start}: {error}"
            raise SlideFileError(msg) from error

    def _refuse(self, reason: str) -> SlideFileError:
        return SlideFileError(f"{self.path}: not a slide of ours: {reason}")


def write_thumbnail(slide_path: Path, out_path: Path, max_px: int = 1024) -> None:
    """Write a small JPEG of a slide, whole or not at all.

    Parameters
    ----------
    slide_path
        A slide by `SlideWriter`, finished or growing; what is not written is grey.
    out_path
        The JPEG; a file of that name is replaced in one step.
    max_px
        Longest side; a smaller slide keeps its size.

    Raises
    ------
    SlideFileError
        The slide cannot be read, or the thumbnail cannot be written.
    """
    with SlideReader(slide_path) as reader:
        enough = [i for i, size in enumerate(reader.levels) if max(size) >= max_px]
        image = reader.read_level(enough[-1] if enough else 0)
    longest_px = max(image.shape)
    if longest_px > max_px:
        height_px, width_px = (
            max(1, round(side * max_px / longest_px)) for side in image.shape[:2]
        )
        shrunk = cv2.resize(image, (width_px, height_px), interpolation=cv2.INTER_AREA)
        image = np.asarray(shrunk, dtype=np.uint8)
    replace_file(
        out_path,
        simplejpeg.encode_jpeg(image, THUMBNAIL_JPEG_QUALITY, "RGB", "444"),
    )
