"""The close-up of a tile shows what fusion changed, and nothing that placing did."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import fourier_shift, gaussian_filter

from bench.growing_scan import describe
from bifocus.edge.journal import Journal, TileEntry
from bifocus.edge.live_pictures import TilePictures
from bifocus.edge.scan_folder import ScanFolder
from bifocus.edge.slide_file import SlideWriter
from bifocus.errors import SlideFileError
from bifocus.records import PlacedTile, UInt8Image

SIDE_PX = 128
PLACE_PX = (41.3, 17.8)


def decode(picture: tuple[bytes, str] | None) -> UInt8Image:
    assert picture is not None
    with Image.open(io.BytesIO(picture[0])) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture
def folder(tmp_path: Path) -> ScanFolder:
    """One tile whose plus shot is the slide there, moved between pixels exactly."""
    rng = np.random.default_rng(3)
    field = gaussian_filter(rng.normal(size=(256, 256)), 3, mode="wrap")
    grey = 128 + 90 * field / np.abs(field).max()
    moved = np.fft.ifft2(
        fourier_shift(np.fft.fft2(grey), (-PLACE_PX[1], -PLACE_PX[0]))
    ).real
    slide = np.repeat(grey[..., None], 3, axis=2).round().astype(np.uint8)
    shot = np.repeat(moved[:SIDE_PX, :SIDE_PX, None], 3, axis=2)
    folder = ScanFolder(tmp_path / "scan")
    folder.create()
    with SlideWriter(
        folder.slide, describe(256, 256), tile_px=256, jpeg_quality=100
    ) as writer:
        writer.write_tile(0, 0, slide)
    other = rng.integers(0, 255, (SIDE_PX, SIDE_PX, 3)).astype(np.uint8)
    entry = TileEntry(
        row=0,
        column=0,
        visit=0,
        x_um=0.0,
        y_um=0.0,
        focus_um=0.0,
        status="captured",
        shots=2,
        capture_s=1.0,
        offset=None,
        raw_a=folder.save_raw("minus", other),
        raw_b=folder.save_raw("plus", shot.round().astype(np.uint8)),
    )
    with Journal(folder.journal) as journal:
        journal.add_tile(entry)
        journal.set_fused(0, 0, quality=0.9, fuse_s=0.1, sharpness=(1.0, 1.0), picked=1)
        journal.set_placed(
            (PlacedTile(row=0, column=0, x_px=PLACE_PX[0], y_px=PLACE_PX[1]),)
        )
    return folder


def test_the_difference_to_an_equal_shot_is_grey(folder: ScanFolder) -> None:
    pictures = TilePictures(folder, {}, lambda shot: shot)
    inner = decode(pictures.read(0, 0, "difference"))[8:-8, 8:-8].astype(int)
    assert np.abs(inner - 128).max() <= 12  # two JPEGs and rounding, doubled


def test_the_shot_is_corrected_before_it_is_compared(folder: ScanFolder) -> None:
    def darker(shot: UInt8Image) -> UInt8Image:
        return np.asarray(shot - np.minimum(shot, 20), dtype=np.uint8)

    pictures = TilePictures(folder, {}, darker)
    inner = decode(pictures.read(0, 0, "difference"))[8:-8, 8:-8]
    assert float(inner.mean()) == pytest.approx(128 + 2 * 20, abs=3)


def test_shots_are_sent_as_they_lie_on_the_disk(folder: ScanFolder) -> None:
    pictures = TilePictures(folder, {}, lambda shot: shot)
    found = pictures.read(0, 0, "plus")
    assert found == ((folder.raw / "plus.png").read_bytes(), "image/png")
    assert pictures.read(5, 5, "plus") is None


def test_a_missing_shot_is_named(folder: ScanFolder) -> None:
    (folder.raw / "plus.png").unlink()
    pictures = TilePictures(folder, {}, lambda shot: shot)
    with pytest.raises(SlideFileError, match=r"plus\.png"):
        pictures.read(0, 0, "plus")
