"""Follow a growing slide file: which tiles appeared, and the bytes of each.

The file itself is the one truth: its tables tell what is published, so this works for
a scan in this process, in another one, and for a finished slide. A tile's version is
its place in the file, where its bytes never change.
"""

import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import simplejpeg

from bifocus.edge.live_overview import Overview
from bifocus.edge.live_state import LiveState, SlideShape, SlideTile
from bifocus.edge.slide_reader import SlideReader
from bifocus.errors import SlideFileError
from bifocus.records import UInt8Image

Offsets = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideTileBytes:
    """A tile for the browser. A `final` one never changes under its version."""

    jpeg: bytes
    version: str
    final: bool


@dataclass(slots=True)
class _OpenSlide:
    """A slide file that is open, what was published at the last look, its overview."""

    reader: SlideReader
    shape: SlideShape
    overview: Overview
    grey_at: int
    offsets: list[Offsets]
    painted: int = 0  # counts the changes of the overview


class LiveSlide:
    """A slide that may not exist yet, may grow, or may be replaced; thread-safe.

    `look` is called by one thread; tiles are read by any.
    """

    def __init__(self, path: Path, state: LiveState) -> None:
        self.path = path
        self._state = state
        self._lock = threading.Lock()
        self._open: _OpenSlide | None = None

    def look(self) -> int:
        """See what was published since the last look, and tell the state.

        Returns
        -------
        int
            How many tiles of the file are new.

        Raises
        ------
        SlideFileError
            If the file is no slide of ours.
        """
        slide = self._ensure_open()
        if slide is None:
            return 0
        fresh = self._find_fresh(slide)
        if fresh:
            versions = {key: _version(slide, key) for key in fresh}
            self._paint(slide, fresh, versions)
            self._state.tiles_changed(versions)
        return len(fresh)

    def read(self, level: int, row: int, column: int) -> SlideTileBytes | None:
        """Return a tile, from the overview where the file has none; None: no such."""
        slide = self._open
        if slide is None or not 0 <= level < len(slide.offsets):
            return None
        table = slide.offsets[level]
        if not (0 <= row < table.shape[0] and 0 <= column < table.shape[1]):
            return None
        version = _version(slide, (level, row, column))
        if int(table[row, column]) == slide.grey_at:
            piece = slide.overview.cut_tile(level, row, column)
            return SlideTileBytes(jpeg=piece, version=version, final=False)
        jpeg = slide.reader.read_tile_jpeg(level, row, column)
        return SlideTileBytes(jpeg=jpeg, version=version, final=True)

    def sketch(self, left_px: float, top_px: float, pixels: UInt8Image) -> None:
        """Show a picture about where it will lie, until its slide tiles are written.

        A tile is stitched for good only when the rows after it are scanned; nobody who
        looks on wants to wait for that. Called by the thread that looks.
        """
        slide = self._open
        if slide is None:
            return
        slide.overview.sketch(left_px, top_px, pixels)
        slide.painted += 1
        height_px, width_px = pixels.shape[:2]
        versions: dict[SlideTile, str] = {}
        for level, table in enumerate(slide.offsets):
            side = slide.shape.tile_px << level
            for row in range(
                int(top_px // side), int((top_px + height_px) // side) + 1
            ):
                for column in range(
                    int(left_px // side), int((left_px + width_px) // side) + 1
                ):
                    is_there = (
                        0 <= row < table.shape[0] and 0 <= column < table.shape[1]
                    )
                    if is_there and int(table[row, column]) == slide.grey_at:
                        key = level, row, column
                        versions[key] = _version(slide, key)
        self._state.tiles_changed(versions)

    def overview_jpeg(self) -> bytes | None:
        """Return the whole slide as one small JPEG; None before the file exists."""
        return self._open.overview.to_jpeg() if self._open else None

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._open is not None:
                self._open.reader.close()
                self._open = None

    def _ensure_open(self) -> _OpenSlide | None:
        try:
            status = self.path.stat()
        except OSError:
            return self._open  # gone, or not yet there
        generation = f"{status.st_ino:x}"
        if self._open is None or self._open.shape.generation != generation:
            if status.st_size == 0:
                return None
            self.close()
            self._open = _open_slide(self.path, generation)
            self._state.slide_opened(self._open.shape)
        return self._open

    def _find_fresh(self, slide: _OpenSlide) -> list[SlideTile]:
        fresh: list[SlideTile] = []
        for level, before in enumerate(slide.offsets):
            now = slide.reader.read_offsets(level)
            for row, column in zip(*np.nonzero(now != before), strict=True):
                fresh.append((level, int(row), int(column)))
            slide.offsets[level] = now
        return fresh

    def _paint(
        self,
        slide: _OpenSlide,
        fresh: list[SlideTile],
        versions: dict[SlideTile, str],
    ) -> None:
        """Bring the overview up to date, and name the reduced tiles that it changes."""
        top = slide.overview.level
        for level, row, column in fresh:
            if level > top or (level < top and _is_written(slide, level, row, column)):
                continue
            jpeg = slide.reader.read_tile_jpeg(level, row, column)
            # Decoding at a reduced size is cheaper, and never finer than needed.
            factor = min(8, 1 << (top - level))
            pixels = simplejpeg.decode_jpeg(jpeg, "RGB", min_factor=factor)
            slide.overview.paint(level, row, column, pixels)
        slide.painted += 1
        for level, row, column in fresh:
            for coarser in range(level + 1, len(slide.offsets)):
                steps = coarser - level
                key = (coarser, row >> steps, column >> steps)
                if key not in versions:
                    versions[key] = _version(slide, key)


def _is_written(slide: _OpenSlide, level: int, row: int, column: int) -> bool:
    """Tell whether the tile over this one is in the file, which says the same."""
    above = slide.offsets[level + 1]
    return int(above[row >> 1, column >> 1]) != slide.grey_at


def _version(slide: _OpenSlide, key: SlideTile) -> str:
    level, row, column = key
    at = int(slide.offsets[level][row, column])
    place = f"p{slide.painted:x}" if at == slide.grey_at else f"{at:x}"
    return f"{slide.shape.generation}-{place}"


def _open_slide(path: Path, generation: str) -> _OpenSlide:
    reader = SlideReader(path)
    try:
        offsets = [reader.read_offsets(level) for level in range(len(reader.levels))]
    except SlideFileError:
        reader.close()
        raise
    # Written tiles lie behind the grey one, which comes first in the file: a slide
    # without a grey slot is finished, and then nothing equals the mark below.
    empty_at = _find_grey(offsets)
    return _OpenSlide(
        reader=reader,
        shape=SlideShape(
            levels=reader.levels, tile_px=reader.tile_px, generation=generation
        ),
        overview=Overview(reader.levels, reader.tile_px),
        grey_at=empty_at,
        # As if all were grey, so that the first look finds what is written.
        offsets=[np.full_like(table, empty_at) for table in offsets],
    )


def _find_grey(offsets: list[Offsets]) -> int:
    lowest = min(int(table.min()) for table in offsets)
    count = sum(int((table == lowest).sum()) for table in offsets)
    return lowest if count > 1 else 0
