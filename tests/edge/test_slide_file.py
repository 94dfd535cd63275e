"""Slides against real readers: OpenSlide, tifffile, libvips, and the OME schema.

The other layouts and codecs, and readers that are programs of their own, are in
`test_slide_readers.py`.
"""

import errno
import os
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt
import ome_types
import openslide
import pytest
import pyvips
import simplejpeg
import tifffile

from bifocus.edge.slide_file import (
    BACKGROUND_GREY,
    ChromaSubsampling,
    SlideDescription,
    SlideReader,
    SlideWriter,
    write_thumbnail,
)
from bifocus.errors import SlideFileError
from bifocus.records import UInt8Image

WIDTH_PX, HEIGHT_PX, PIXEL_UM = 1601, 1100, 0.2325
SIZES = ((1601, 1100), (801, 550), (401, 275))


def describe(width_px: int, height_px: int) -> SlideDescription:
    return SlideDescription(
        width_px=width_px,
        height_px=height_px,
        pixel_um=PIXEL_UM,
        objective="Plan Achromat 20x",
        magnification=20,
        na=0.4,
        instrument="test bench",
        software="bifocus test",
        acquired_utc="2026-03-01T12:00:00Z",
        simulated=True,
        wavelengths_um=(0.62, 0.53, 0.46),
    )


def paint(width_px: int, height_px: int) -> UInt8Image:
    """Smooth colour blobs: a swapped channel or a shift of a tile shows."""
    rng = np.random.default_rng(0)
    coarse_size = (height_px // 128 + 2, width_px // 128 + 2, 3)
    coarse = rng.integers(0, 255, coarse_size, dtype=np.uint8)
    picture = cv2.resize(coarse, (width_px, height_px), interpolation=cv2.INTER_LINEAR)
    return np.asarray(picture, dtype=np.uint8)


def write_picture(
    writer: SlideWriter, picture: UInt8Image, n_tiles: int | None = None
) -> None:
    """Write the first `n_tiles` tiles row by row, cropped at the edges."""
    tile_px = writer.tile_px
    n_rows, n_columns = (-(-side // tile_px) for side in picture.shape[:2])
    for row, column in list(np.ndindex(n_rows, n_columns))[:n_tiles]:
        top, left = row * tile_px, column * tile_px
        part = picture[top : top + tile_px, left : left + tile_px]
        writer.write_tile(row, column, part)


def read_with_openslide(path: Path, level: int = 0) -> UInt8Image:
    with openslide.OpenSlide(path) as slide:
        size = slide.level_dimensions[level]
        return np.array(slide.read_region((0, 0), level, size).convert("RGB"))


def mean_difference(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    difference = np.asarray(a, dtype=np.int16) - np.asarray(b, dtype=np.int16)
    return float(np.abs(difference).mean())


def get_pages(tiff: tifffile.TiffFile) -> Any:
    """Return the pages; Any, because tifffile's types change with its version."""
    return tiff.pages


@pytest.fixture(scope="module")
def picture() -> UInt8Image:
    return paint(WIDTH_PX, HEIGHT_PX)


@pytest.fixture(scope="module")
def slide_path(picture: UInt8Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slide") / "slide.ome.tiff"
    with SlideWriter(path, describe(WIDTH_PX, HEIGHT_PX)) as writer:
        assert writer.levels == SIZES
        write_picture(writer, picture)
    return path


def test_openslide_sees_levels_scale_and_colours(
    slide_path: Path, picture: UInt8Image
) -> None:
    with openslide.OpenSlide(slide_path) as slide:
        assert slide.level_dimensions == SIZES
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(PIXEL_UM)
        assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(PIXEL_UM)
        assert slide.color_profile is not None
    assert mean_difference(read_with_openslide(slide_path), picture) < 1.5
    half = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    read = read_with_openslide(slide_path, 1)[: half.shape[0], : half.shape[1]]
    assert mean_difference(read[:-1, :-1], half[:-1, :-1]) < 2.5


def test_tifffile_sees_one_ome_pyramid_both_ways(slide_path: Path) -> None:
    with tifffile.TiffFile(slide_path) as tiff:
        assert tiff.is_bigtiff
        assert tiff.is_ome
        series, macro = tiff.series
        assert (series.name, macro.name) == ("slide", "macro")
        shapes = [level.shape for level in series.levels]
        assert shapes == [(height, width, 3) for width, height in SIZES]
        # The macro stands between: Bio-Formats does not count reduced levels.
        assert len(get_pages(tiff)) == len(SIZES) + 1
        subifds = get_pages(tiff)[0].pages
        for level in range(1, len(SIZES)):
            chain, sub = get_pages(tiff)[level + 1], subifds[level - 1]
            assert chain.dataoffsets == sub.dataoffsets
            assert chain.databytecounts == sub.databytecounts
        for level in range(len(SIZES)):
            read = series.levels[level].asarray()
            np.testing.assert_array_equal(read, read_with_openslide(slide_path, level))


def test_tags_of_colour_and_scale(slide_path: Path) -> None:
    with tifffile.TiffFile(slide_path) as tiff:
        tags = get_pages(tiff)[0].tags
        numerator, denominator = tags["XResolution"].value
        assert numerator / denominator * PIXEL_UM == pytest.approx(10_000)
        assert tags["ResolutionUnit"].value == 3
        assert tags["PhotometricInterpretation"].value == 6
        assert tags["YCbCrSubSampling"].value == (2, 2)
        assert tags["ReferenceBlackWhite"].value == (
            0,
            1,
            255,
            1,
            *(128, 1, 255, 1) * 2,
        )
        assert tags["DateTime"].value == "2026:03:01 12:00:00"
        assert "JPEGTables" not in tags
        ome_types.validate_xml(str(tiff.ome_metadata))


def test_libvips_sees_pages_and_subifds(slide_path: Path, picture: UInt8Image) -> None:
    image = pyvips.Image.new_from_file(str(slide_path))
    assert image.get("n-pages") == len(SIZES) + 1  # and the macro
    assert image.get("n-subifds") == len(SIZES) - 1
    assert mean_difference(image.numpy(), picture) < 1.5
    for i_subifd, size in enumerate(SIZES[1:]):
        level = pyvips.Image.new_from_file(str(slide_path), subifd=i_subifd)
        assert (level.width, level.height) == size


@pytest.mark.parametrize(("colour", "worst"), [("444", 1.0), ("420", 6.0)])
def test_strong_colours_survive(
    tmp_path: Path, colour: ChromaSubsampling, worst: float
) -> None:
    bars = np.zeros((96, 96, 3), dtype=np.uint8)
    for i_bar, rgb in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255)]):
        bars[:, 32 * i_bar : 32 * i_bar + 32] = rgb
    path = tmp_path / "bars.ome.tiff"
    with SlideWriter(
        path, describe(96, 96), tile_px=96, chroma_subsampling=colour, jpeg_quality=98
    ) as writer:
        writer.write_tile(0, 0, bars)
    for read in (read_with_openslide(path), tifffile.imread(path)):
        assert mean_difference(read, bars) < worst


def test_edges_are_padded_by_replication(tmp_path: Path) -> None:
    path = tmp_path / "edge.ome.tiff"
    white = np.full((64, 64, 3), 255, dtype=np.uint8)
    padded_in_black = white.copy()
    padded_in_black[:, 36:] = 0
    with SlideWriter(path, describe(100, 64), tile_px=64) as writer:
        writer.write_tile(0, 0, white)
        writer.write_tile(0, 1, padded_in_black)
    with SlideReader(path) as reader:
        tile = simplejpeg.decode_jpeg(reader.read_tile_jpeg(0, 0, 1), "RGB")
        top = simplejpeg.decode_jpeg(reader.read_tile_jpeg(1, 0, 0), "RGB")
    assert tile.min() >= 254
    assert top.min() >= 254


def test_a_growing_slide_opens_and_unwritten_is_grey(
    tmp_path: Path, picture: UInt8Image
) -> None:
    path = tmp_path / "growing.ome.tiff"
    with SlideWriter(path, describe(WIDTH_PX, HEIGHT_PX), sync_every=4) as writer:
        assert list(tmp_path.iterdir()) == [path]
        for read in (read_with_openslide(path), tifffile.imread(path)):
            assert np.abs(read.astype(int) - BACKGROUND_GREY).max() <= 1
        write_picture(writer, picture, n_tiles=5)  # the fourth of a row, then one more
        for read in (read_with_openslide(path), tifffile.imread(path)):
            assert mean_difference(read[:512], picture[:512]) < 1.5
            assert np.abs(read[512:].astype(int) - BACKGROUND_GREY).max() <= 1
        writer.flush()
        read = read_with_openslide(path)
        assert mean_difference(read[512:1024, :512], picture[512:1024, :512]) < 1.5
    with tifffile.TiffFile(path) as tiff:
        smallest = tiff.series[0].levels[-1].asarray()
    shrunk = cv2.resize(picture, (401, 275), interpolation=cv2.INTER_AREA)
    assert mean_difference(smallest[:120], shrunk[:120]) < 2
    assert np.abs(smallest[260:, 200:].astype(int) - BACKGROUND_GREY).max() <= 2


def test_memory_of_a_wide_slide_is_bounded(tmp_path: Path) -> None:
    # The tile grid of 60,000 x 20,000 px in 512-px tiles, shrunk to 16-px tiles.
    n_rows, n_columns, tile_px = 40, 118, 16
    description = describe(n_columns * tile_px, n_rows * tile_px)
    tile = np.full((tile_px, tile_px, 3), 99, dtype=np.uint8)
    path = tmp_path / "wide.ome.tiff"
    most = 0
    with SlideWriter(path, description, tile_px=tile_px, sync_every=1000) as writer:
        for row, column in np.ndindex(n_rows, n_columns):
            writer.write_tile(row, column, tile)
            most = max(most, writer.n_pending_tiles)
        assert writer.n_pending_tiles == 0
    assert most <= 2 * n_columns
    with SlideReader(path) as reader:
        top = reader.read_level(len(reader.levels) - 1)
    assert np.abs(top.astype(int) - 99).max() <= 2


@pytest.mark.parametrize("tile_px", [32, 512])
def test_thumbnail(tmp_path: Path, picture: UInt8Image, tile_px: int) -> None:
    path, out_path = tmp_path / "slide.ome.tiff", tmp_path / "thumbnail.jpg"
    with SlideWriter(path, describe(WIDTH_PX, HEIGHT_PX), tile_px=tile_px) as writer:
        write_picture(writer, picture)
    write_thumbnail(path, out_path, max_px=300)
    thumbnail = simplejpeg.decode_jpeg(out_path.read_bytes(), "RGB")
    assert thumbnail.shape == (206, 300, 3)
    shrunk = cv2.resize(picture, (300, 206), interpolation=cv2.INTER_AREA)
    assert mean_difference(thumbnail, shrunk) < 2
    write_thumbnail(path, out_path, max_px=9999)
    thumbnail = simplejpeg.decode_jpeg(out_path.read_bytes(), "RGB")
    assert thumbnail.shape == picture.shape
    assert sorted(tmp_path.iterdir()) == [path, out_path]


@pytest.mark.parametrize(
    "content", [b"", b"II*\0 not a BigTIFF", b"II\x2b\0\x08\0\0\0" + b"\xff" * 99]
)
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.tiff"
    path.write_bytes(content)
    with pytest.raises(SlideFileError, match=r"other\.tiff"):
        SlideReader(path)
    with pytest.raises(SlideFileError, match="nowhere"):
        SlideReader(tmp_path / "nowhere")


def test_wrong_tiles_are_refused_and_the_writer_goes_on(tmp_path: Path) -> None:
    tile = np.zeros((32, 32, 3), dtype=np.uint8)
    with SlideWriter(tmp_path / "s.ome.tiff", describe(40, 40), tile_px=32) as writer:
        with pytest.raises(SlideFileError, match="no tile"):
            writer.write_tile(2, 0, tile)
        with pytest.raises(SlideFileError, match=r"expected uint8 .*\(8, 8, 3\)"):
            writer.write_tile(1, 1, tile[:9, :9])
        writer.write_tile(1, 1, tile[:8, :8])
        with pytest.raises(SlideFileError, match="written before"):
            writer.write_tile(1, 1, tile)
    writer.close()
    with pytest.raises(SlideFileError, match="closed"):
        writer.write_tile(0, 0, tile)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tile_px", 100),
        ("jpeg_quality", 0),
        ("sync_every", 0),
        ("chroma_subsampling", "422"),
        ("layout", "both"),
        ("codec", "png"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, name: str, value: object) -> None:
    options = cast("Any", {name: value})
    with pytest.raises(SlideFileError, match=name):
        SlideWriter(tmp_path / "s.ome.tiff", describe(40, 40), **options)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SlideFileError, match=r"Create the folder .*missing"):
        SlideWriter(tmp_path / "missing" / "s.ome.tiff", describe(40, 40))


def test_an_unwritable_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Faked: a test run by root may write anywhere.
    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(SlideFileError, match=r"Permission denied.*may write to"):
        SlideWriter(tmp_path / "s.ome.tiff", describe(40, 40))


def fill_disk_after(n_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk take `n_bytes` more of new tiles, the last write in part."""
    write, left = os.pwrite, n_bytes

    def write_some(descriptor: int, payload: memoryview, start: int) -> int:
        nonlocal left
        if len(payload) == 8:  # a slot: its block exists already
            return write(descriptor, payload, start)
        if left == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        part = payload[:left]
        left -= len(part)
        return write(descriptor, part, start)

    monkeypatch.setattr(os, "pwrite", write_some)


def test_a_full_disk_leaves_a_valid_slide(
    tmp_path: Path, picture: UInt8Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "full.ome.tiff"
    writer = SlideWriter(path, describe(WIDTH_PX, HEIGHT_PX))
    write_picture(writer, picture, n_tiles=2)
    fill_disk_after(5000, monkeypatch)
    third = picture[:512, 1024:1536]
    with pytest.raises(SlideFileError, match=r"full.ome.tiff.* \d+ bytes more were"):
        writer.write_tile(0, 2, third)
    with pytest.raises(SlideFileError, match="closed"):
        writer.write_tile(0, 3, third[:, :65])
    writer.close()
    read = read_with_openslide(path)
    assert mean_difference(read[:512, :1024], picture[:512, :1024]) < 1.5
    assert np.abs(read[:, 1024:].astype(int) - BACKGROUND_GREY).max() <= 1
    with tifffile.TiffFile(path) as tiff:
        assert len(tiff.series[0].levels) == len(SIZES)


def test_a_disk_full_at_creation_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = tmp_path / "s.ome.tiff"
    older.write_bytes(b"an older slide")
    fill_disk_after(100, monkeypatch)
    with pytest.raises(SlideFileError, match="No space left"):
        SlideWriter(older, describe(40, 40))
    assert list(tmp_path.iterdir()) == [older]
    assert older.read_bytes() == b"an older slide"
