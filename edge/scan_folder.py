"""The scan folder: where each file of a scan lives, and how pictures get into it.

::

    SCAN/  scan.sqlite   journal of every tile
           raw/          both shots of each tile, lossless, as the camera gave them
           fused/        in-focus tiles as plain arrays (.npy) while the slide is made
           slide.ome.tiff  thumbnail.jpg  report.json  report.html
           instrument.yaml  profile.yaml   as used

An in-focus tile is written and read back once, within minutes: as PNG that would cost
more CPU time than stitching it (64 to 87 ms and 17 to 34 ms for 1224 x 1024 px, against
1.5 ms and 0.2 ms), for half the bytes, which are given back at the end.
"""

import io
import shutil
import zlib
from pathlib import Path

import cv2
import numpy as np

from bifocus.errors import SlideFileError
from bifocus.records import UInt8Image
from bifocus.whole_file import write_whole

# Of runs alone: a tenth smaller than zlib's level 1 for noisy shots, in two thirds of
# its time, since noise has no repetitions to be looked for.
_PNG_OPTIONS = [
    *(cv2.IMWRITE_PNG_COMPRESSION, 1),
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE),
]


class ScanFolder:
    """Paths and picture files of one scan."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.raw = root / "raw"
        self.fused = root / "fused"
        self.journal = root / "scan.sqlite"
        self.slide = root / "slide.ome.tiff"
        self.thumbnail = root / "thumbnail.jpg"
        self.report = root / "report.json"
        self.instrument = root / "instrument.yaml"
        self.profile = root / "profile.yaml"

    def create(self) -> None:
        """Make the folder; it must not hold another scan.

        Raises
        ------
        SlideFileError
            If it cannot be written, or holds a scan already.
        """
        if self.journal.exists():
            msg = f"{self.root}: holds a scan already; choose another folder"
            raise SlideFileError(msg)
        try:
            self.raw.mkdir(parents=True, exist_ok=True)
            self.fused.mkdir(exist_ok=True)
        except OSError as error:
            msg = f"{self.root}: cannot make the scan folder: {error.strerror}"
            raise SlideFileError(msg) from error

    def save_raw(self, name: str, pixels: UInt8Image) -> str:
        """Write a shot durably; return its path relative to the folder."""
        relative = raw_name(name)
        write_png(self.root / relative, pixels, durable=True)
        return relative

    def load_raw(self, relative: str) -> UInt8Image:
        """Read a shot written by `save_raw`."""
        return read_png(self.root / relative)

    def save_fused(self, row: int, column: int, pixels: UInt8Image) -> int:
        """Write an in-focus tile for the stitcher; return the CRC-32 of its pixels."""
        write_array(self._fused_path(row, column), pixels)
        return zlib.crc32(np.ascontiguousarray(pixels).data)

    def load_fused(self, row: int, column: int) -> UInt8Image:
        """Read an in-focus tile back."""
        return read_array(self._fused_path(row, column))

    def find_fused(self, row: int, column: int, crc: int) -> UInt8Image | None:
        """Return an in-focus tile that was kept, if it is there and undamaged."""
        try:
            pixels = self.load_fused(row, column)
        except SlideFileError:
            return None
        return pixels if zlib.crc32(np.ascontiguousarray(pixels).data) == crc else None

    def remove_fused(self) -> None:
        """Drop the in-focus tiles once the slide holds them."""
        shutil.rmtree(self.fused, ignore_errors=True)

    def _fused_path(self, row: int, column: int) -> Path:
        return self.fused / f"r{row:03d}_c{column:03d}.npy"


def raw_name(name: str) -> str:
    """Return where a shot of this name lies, relative to its scan's folder."""
    return f"raw/{name}.png"


def write_png(path: Path, pixels: UInt8Image, *, durable: bool = False) -> None:
    """Write RGB pixels losslessly, whole or not at all.

    Raises
    ------
    SlideFileError
        If the disk refuses, naming the path and the size.
    """
    write_whole(path, encode_png(pixels, str(path)), is_durable=durable)


def encode_png(pixels: UInt8Image, name: str) -> bytes:
    """Return RGB pixels as a PNG file.

    Raises
    ------
    SlideFileError
        If they cannot be encoded, naming the picture.
    """
    ordered = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)  # OpenCV wants blue first
    done, encoded = cv2.imencode(".png", ordered, _PNG_OPTIONS)
    if not done:
        msg = f"{name}: the picture {pixels.shape} cannot be encoded as PNG"
        raise SlideFileError(msg)
    return encoded.tobytes()


def read_png(path: Path) -> UInt8Image:
    """Read an RGB picture that `write_png` wrote.

    Raises
    ------
    SlideFileError
        If it is missing or damaged.
    """
    try:
        encoded = path.read_bytes()
    except OSError as error:
        msg = f"{path}: cannot read the tile: {error.strerror}"
        raise SlideFileError(msg) from error
    return decode_png(encoded, str(path))


def write_array(path: Path, pixels: UInt8Image) -> None:
    """Write RGB pixels as a NumPy file, whole or not at all; not synced.

    Raises
    ------
    SlideFileError
        If the disk refuses, naming the path and the size.
    """
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(pixels), allow_pickle=False)
    write_whole(path, stream.getvalue(), is_durable=False)


def read_array(path: Path) -> UInt8Image:
    """Read an RGB picture that `write_array` wrote.

    Raises
    ------
    SlideFileError
        If it is missing or damaged.
    """
    try:
        with path.open("rb") as stream:
            pixels = np.load(stream, allow_pickle=False)
    except OSError as error:
        msg = f"{path}: cannot read the tile: {error.strerror}"
        raise SlideFileError(msg) from error
    except (ValueError, EOFError) as error:
        msg = f"{path}: the tile is damaged: {error}"
        raise SlideFileError(msg) from error
    return np.asarray(pixels, dtype=np.uint8)


def decode_png(encoded: bytes, name: str) -> UInt8Image:
    """Return the RGB picture of a PNG file.

    Raises
    ------
    SlideFileError
        If it is damaged, naming the picture.
    """
    data = np.frombuffer(encoded, dtype=np.uint8)
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR) if encoded else None
    if decoded is None:
        msg = f"{name}: the tile is damaged ({len(encoded)} bytes)"
        raise SlideFileError(msg)
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), dtype=np.uint8)
