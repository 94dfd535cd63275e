"""A small picture of the whole slide in memory, for what the file cannot show yet.

A reduced tile of the file is complete only when all the tiles under it are; until then
the page is given a piece of this overview. It is one of the slide's own levels, so a
tile of any finer level lands on whole pixels of it.
"""

import threading

import cv2
import numpy as np
import simplejpeg

from bifocus.edge.pyramid import LevelSize
from bifocus.edge.slide_file import BACKGROUND_GREY
from bifocus.records import UInt8Image

MAX_PX = 2048
_JPEG_QUALITY = 85


class Overview:
    """The level of a slide that fits `MAX_PX`, painted as tiles appear; thread-safe.

    At most 16 MB, however large the slide is.
    """

    def __init__(self, levels: tuple[LevelSize, ...], tile_px: int) -> None:
        fitting = [i for i, size in enumerate(levels) if max(size) <= MAX_PX]
        self.level = fitting[0] if fitting else len(levels) - 1
        self._levels = levels
        self._tile_px = tile_px
        width_px, height_px = levels[self.level]
        self._picture: UInt8Image = np.full(
            (height_px, width_px, 3), BACKGROUND_GREY, dtype=np.uint8
        )
        self._is_final = np.zeros((height_px, width_px), dtype=bool)
        self._lock = threading.Lock()

    def paint(self, level: int, row: int, column: int, pixels: UInt8Image) -> None:
        """Put in a tile of this level or a finer one, tile_px x tile_px x 3."""
        side_px = max(1, self._tile_px >> (self.level - level))
        small = cv2.resize(pixels, (side_px, side_px), interpolation=cv2.INTER_AREA)
        top, left = row * side_px, column * side_px
        with self._lock:
            place = self._picture[top : top + side_px, left : left + side_px]
            place[:] = small[: place.shape[0], : place.shape[1]]
            self._is_final[top : top + side_px, left : left + side_px] = True

    def sketch(self, left_px: float, top_px: float, pixels: UInt8Image) -> None:
        """Put in a picture about where it will lie, until the slide's tiles come.

        Parameters
        ----------
        left_px, top_px
            Corner in full-resolution pixels; what lies beyond the slide is cut off.
        pixels
            HxWx3 uint8 at full resolution.
        """
        step = 1 << self.level
        height_px, width_px = (max(1, side // step) for side in pixels.shape[:2])
        small = cv2.resize(
            pixels, (width_px, height_px), interpolation=cv2.INTER_AREA
        ).astype(np.uint8)
        left, top = max(0, round(left_px / step)), max(0, round(top_px / step))
        with self._lock:
            rows, columns = slice(top, top + height_px), slice(left, left + width_px)
            place, is_final = (
                self._picture[rows, columns],
                self._is_final[rows, columns],
            )
            small = small[: place.shape[0], : place.shape[1]]
            place[~is_final] = small[~is_final]

    def cut_tile(self, level: int, row: int, column: int) -> bytes:
        """Return a tile of any level as the overview knows it: a JPEG."""
        tile_px = self._tile_px
        scale = 2.0 ** (level - self.level)  # overview pixels per pixel of the level
        left, top = column * tile_px * scale, row * tile_px * scale
        # Centres of pixels meet centres: +0.5 on both sides.
        shift = 0.5 * scale - 0.5
        matrix = np.array([[scale, 0, left + shift], [0, scale, top + shift]])
        with self._lock:
            source = self._picture
            if scale > 1:  # a mean first, or thin lines would flicker
                step = round(scale)
                size = [max(1, -(-side // step)) for side in source.shape[1::-1]]
                source = np.asarray(
                    cv2.resize(source, size, interpolation=cv2.INTER_AREA),
                    dtype=np.uint8,
                )
                matrix = np.array([[1.0, 0, left / step], [0, 1.0, top / step]])
            tile = cv2.warpAffine(
                source,
                matrix,
                (tile_px, tile_px),
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_REPLICATE,
            )
        return _encode(np.asarray(tile, dtype=np.uint8))

    def to_jpeg(self) -> bytes:
        """Return the whole overview."""
        with self._lock:
            picture = self._picture.copy()
        return _encode(picture)


def _encode(pixels: UInt8Image) -> bytes:
    encoded: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels), _JPEG_QUALITY, "RGB", "420"
    )
    return encoded
