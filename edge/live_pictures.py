"""The pictures of one tile for a close look: both shots, the fused tile, what differs.

Read from the scan folder at the moment they are asked for, never kept.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from bifocus.edge.live_journal import JournalledTile, read_tile
from bifocus.edge.scan_folder import ScanFolder, read_png
from bifocus.edge.slide_reader import SlideReader
from bifocus.edge.truth import read_window
from bifocus.errors import SlideFileError
from bifocus.records import UInt8Image

PictureKind = Literal["minus", "plus", "fused", "difference"]
PICTURE_KINDS: tuple[str, ...] = get_args(PictureKind)

Int16Image = npt.NDArray[np.int16]

# Differences of a few levels are what fusion makes; grey 128 means equal.
DIFFERENCE_GAIN = 2
_JPEG_QUALITY = 92


class TilePictures:
    """Pictures of the tiles of one scan.

    Parameters
    ----------
    folder
        The scan.
    nominal_px
        (row, column) -> corner in the slide, to find a tile that is not placed yet.
    correct
        Takes the lamp's falloff out of a shot, as the scan does before fusion.
    """

    def __init__(
        self,
        folder: ScanFolder,
        nominal_px: Mapping[tuple[int, int], tuple[float, float]],
        correct: Callable[[UInt8Image], UInt8Image],
    ) -> None:
        self._folder = folder
        self._nominal_px = nominal_px
        self._correct = correct

    def read(self, row: int, column: int, kind: str) -> tuple[bytes, str] | None:
        """Return a picture and its media type, or None where there is none.

        Raises
        ------
        SlideFileError
            If a file of the scan is missing, damaged, or outside its folder.
        """
        tile = read_tile(self._folder.journal, row, column)
        if tile is None:
            return None
        if kind in ("minus", "plus"):
            path = self._shot_path(tile, kind)
            return None if path is None else (_read_bytes(path), "image/png")
        fused = self._fused(tile)
        if kind == "fused":
            return _encode(fused), "image/jpeg"
        return _encode(self._difference(tile, fused)), "image/jpeg"

    def _difference(self, tile: JournalledTile, fused: UInt8Image) -> UInt8Image:
        """Return what fusion changed in the shot on whose pixel grid the tile lies."""
        path = self._shot_path(tile, "plus" if tile.picked else "minus")
        shot = read_png(path or self._inside(tile.entry.raw_a))
        change = _subtract(fused, self._correct(shot))
        grey = np.clip(128 + DIFFERENCE_GAIN * change, 0, 255)
        return grey.astype(np.uint8)

    def _fused(self, tile: JournalledTile) -> UInt8Image:
        """Return the tile before stitching while it exists; later, the slide there."""
        row, column = tile.entry.row, tile.entry.column
        try:
            return self._folder.load_fused(row, column)
        except SlideFileError:
            height_px, width_px = read_png(self._inside(tile.entry.raw_a)).shape[:2]
        left_px, top_px = tile.place_px or self._nominal_px[row, column]
        with SlideReader(self._folder.slide) as slide:
            # A place that is only planned may reach over the edge.
            left = max(0, min(math.floor(left_px), slide.levels[0][0] - width_px))
            top = max(0, min(math.floor(top_px), slide.levels[0][1] - height_px))
            width_px = min(width_px, slide.levels[0][0])
            height_px = min(height_px, slide.levels[0][1])
            window = read_window(slide, left, top, (height_px, width_px))
        # Back from the slide's pixels to the tile's own: tiles lie between pixels.
        shift = np.array([[1, 0, left_px - left], [0, 1, top_px - top]])
        moved = cv2.warpAffine(
            window,
            shift,
            (width_px, height_px),
            flags=cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return np.asarray(moved, dtype=np.uint8)

    def _shot_path(self, tile: JournalledTile, kind: str) -> Path | None:
        relative = tile.entry.raw_a if kind == "minus" else tile.entry.raw_b
        return None if relative is None else self._inside(relative)

    def _inside(self, relative: str) -> Path:
        """Refuse to leave the folder: a journal may come from anybody."""
        root = self._folder.root.resolve()
        path = (root / relative).resolve()
        if not path.is_relative_to(root):
            msg = f"{self._folder.journal}: a shot lies outside the scan: {relative}"
            raise SlideFileError(msg)
        return path


def _subtract(fused: UInt8Image, shot: UInt8Image) -> Int16Image:
    rows = min(fused.shape[0], shot.shape[0])
    columns = min(fused.shape[1], shot.shape[1])
    return fused[:rows, :columns].astype(np.int16) - shot[:rows, :columns]


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        msg = f"{path}: cannot read the shot: {error.strerror}"
        raise SlideFileError(msg) from error


def _encode(pixels: UInt8Image) -> bytes:
    encoded: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels), _JPEG_QUALITY, "RGB", "444"
    )
    return encoded
