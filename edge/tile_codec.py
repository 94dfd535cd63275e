"""How the tiles of a slide are encoded: JPEG, or without any loss.

Only these two are read by every reader: JPEG, and Deflate with horizontal differences.
LZW is as widely read but larger and slower; JPEG XL and Zstandard open neither in
OpenSlide nor in Bio-Formats. Both codecs ignore bytes after the end of a stream, on
which the order of a growing file rests (`slide_file`).
"""

import zlib
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, Protocol

import numpy as np
import simplejpeg

from bifocus.edge import bigtiff
from bifocus.edge.bigtiff import TiffField
from bifocus.errors import SlideFileError
from bifocus.records import UInt8Image

ChromaSubsampling = Literal["420", "444"]
SlideCodec = Literal["jpeg", "lossless"]

JPEG_COMPRESSION = 7
DEFLATE_COMPRESSION = 8
RGB = 2
YCBCR = 6
HORIZONTAL_DIFFERENCES = 2
# Differences of noisy pixels repeat only in runs: to look for other repetitions, as
# zlib does by itself, takes up to twice as long, for a file as large or larger.
DEFLATE_LEVEL, DEFLATE_STRATEGY = 1, zlib.Z_RLE
# Full-range YCbCr as JPEG has it: black 0, white 255, neutral chroma 128.
REFERENCE_BLACK_WHITE = (0, 255, 128, 255, 128, 255)


class TileCodec(Protocol):
    """Turns a tile, HxWx3 uint8 RGB, into bytes that TIFF readers know, and back."""

    def encode(self, tile: UInt8Image) -> bytes:
        """Return the tile's bytes."""

    def decode(self, payload: bytes, tile_px: int) -> UInt8Image:
        """Return the tile; bytes after its end are ignored. Raises SlideFileError."""

    def fields(self) -> list[TiffField]:
        """Return the directory fields that name this encoding."""

    def most_bytes(self, tile_px: int) -> int:
        """Return the most bytes that a tile can have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JpegCodec:
    """Baseline JPEG: `quality` 1 to 100, colour in full ("444") or half resolution."""

    quality: int = 90
    chroma_subsampling: ChromaSubsampling = "420"

    def __post_init__(self) -> None:
        """Refuse what the encoder does not know."""
        if not 1 <= self.quality <= 100:
            msg = f"slide writer: jpeg_quality must be 1 to 100, got {self.quality}"
            raise SlideFileError(msg)
        if self.chroma_subsampling not in ("420", "444"):
            msg = (
                "slide writer: chroma_subsampling is 420 or 444, "
                f"got {self.chroma_subsampling}"
            )
            raise SlideFileError(msg)

    def encode(self, tile: UInt8Image) -> bytes:
        """Return a JPEG stream with its own tables."""
        encoded: bytes = simplejpeg.encode_jpeg(
            np.ascontiguousarray(tile),
            quality=self.quality,
            colorspace="RGB",
            colorsubsampling=self.chroma_subsampling,
        )
        return encoded

    def decode(self, payload: bytes, tile_px: int) -> UInt8Image:
        """Return the tile; raises SlideFileError."""
        return decode_jpeg(payload)

    def fields(self) -> list[TiffField]:
        """Return the fields of a JPEG directory.

        YCbCrSubSampling of (1, 1) makes Bio-Formats (8.5.0) convert the colours twice:
        without it every reader looks into the JPEG, and libtiff says so in a warning.
        """
        fields = [
            bigtiff.shorts(259, JPEG_COMPRESSION),
            bigtiff.shorts(262, YCBCR),
            bigtiff.rationals(532, *map(Fraction, REFERENCE_BLACK_WHITE)),
        ]
        if self.chroma_subsampling == "420":
            fields.append(bigtiff.shorts(530, 2, 2))
        return fields

    def most_bytes(self, tile_px: int) -> int:
        """Return libjpeg-turbo's bound for 4:4:4."""
        return 6 * tile_px * tile_px + 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class LosslessCodec:
    """Deflate over the differences of neighbouring pixels: every bit comes back."""

    def encode(self, tile: UInt8Image) -> bytes:
        """Return a zlib stream."""
        differences = tile.copy()
        differences[:, 1:] -= tile[:, :-1]  # modulo 256, as TIFF 6.0 section 14 has it
        deflate = zlib.compressobj(DEFLATE_LEVEL, strategy=DEFLATE_STRATEGY)
        return deflate.compress(differences.tobytes()) + deflate.flush()

    def decode(self, payload: bytes, tile_px: int) -> UInt8Image:
        """Return the tile; raises SlideFileError."""
        try:
            raw = zlib.decompressobj().decompress(payload)
            differences = np.frombuffer(raw, np.uint8).reshape(tile_px, tile_px, 3)
        except (zlib.error, ValueError) as error:
            msg = f"a tile is not a readable Deflate stream: {error}"
            raise SlideFileError(msg) from error
        return np.cumsum(differences, axis=1, dtype=np.uint8)

    def fields(self) -> list[TiffField]:
        """Return the fields of a Deflate directory."""
        return [
            bigtiff.shorts(259, DEFLATE_COMPRESSION),
            bigtiff.shorts(262, RGB),
            bigtiff.shorts(317, HORIZONTAL_DIFFERENCES),
        ]

    def most_bytes(self, tile_px: int) -> int:
        """Return zlib's bound, with room to spare."""
        return 3 * tile_px * tile_px * 17 // 16 + 2048


def make_codec(
    codec: SlideCodec, quality: int, chroma_subsampling: ChromaSubsampling
) -> TileCodec:
    """Return a codec by its name; raises SlideFileError for an option out of range."""
    jpeg = JpegCodec(quality=quality, chroma_subsampling=chroma_subsampling)
    if codec == "jpeg":
        return jpeg
    if codec == "lossless":
        return LosslessCodec()
    msg = f"slide writer: codec is jpeg or lossless, got {codec}"
    raise SlideFileError(msg)


def decode_jpeg(payload: bytes) -> UInt8Image:
    """Return the picture of a JPEG stream; raises SlideFileError."""
    try:
        pixels: UInt8Image = simplejpeg.decode_jpeg(payload, "RGB")
    except ValueError as error:
        msg = f"a tile is not a readable JPEG: {error}"
        raise SlideFileError(msg) from error
    return pixels
