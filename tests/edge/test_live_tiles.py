"""Slide tiles for the page: the file's own bytes, or a piece of the overview."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from bench.growing_scan import describe, draw_tissue
from bifocus.edge.live_overview import MAX_PX, Overview
from bifocus.edge.live_state import LiveState
from bifocus.edge.live_tiles import LiveSlide
from bifocus.edge.pyramid import compute_level_sizes
from bifocus.edge.slide_file import BACKGROUND_GREY, SlideWriter
from bifocus.edge.slide_reader import SlideReader
from bifocus.edge.tile_codec import SlideCodec
from bifocus.errors import SlideFileError
from bifocus.records import UInt8Image
from tests.edge.test_live_state import HEADER

TILE_PX = 64


def pixels_of(jpeg: bytes) -> UInt8Image:
    with Image.open(io.BytesIO(jpeg)) as image:
        return np.asarray(image.convert("RGB"))


def crop(picture: UInt8Image, row: int, column: int) -> UInt8Image:
    rows = slice(row * TILE_PX, (row + 1) * TILE_PX)
    return picture[rows, column * TILE_PX : (column + 1) * TILE_PX]


@pytest.fixture
def picture() -> UInt8Image:
    return np.asarray(cv2.GaussianBlur(draw_tissue(400, 300), (0, 0), 2), np.uint8)


@pytest.mark.parametrize("codec", ["jpeg", "lossless"])
def test_tiles_appear_with_the_file_and_keep_their_version(
    tmp_path: Path, picture: UInt8Image, codec: SlideCodec
) -> None:
    state = LiveState(HEADER)
    slide = LiveSlide(tmp_path / "slide.ome.tiff", state)
    assert slide.look() == 0
    assert slide.read(0, 0, 0) is None
    with SlideWriter(
        slide.path, describe(400, 300), tile_px=TILE_PX, codec=codec
    ) as writer:
        slide.look()
        unwritten = slide.read(0, 0, 0)
        assert unwritten is not None
        assert not unwritten.final
        assert np.ptp(pixels_of(unwritten.jpeg)) <= 2, "glass"
        writer.write_tile(0, 0, crop(picture, 0, 0))
        assert slide.look() == 0, "what is not published is not shown"
        writer.flush()
        assert slide.look() == 1
        told = {tuple(tile[:3]): tile[3] for tile in state.changes(0).tiles}
        tile = slide.read(0, 0, 0)
        assert tile is not None
        assert tile.final
        assert tile.version == told[0, 0, 0]
        # The coarser tiles over it show something new as well.
        assert set(told) == {(level, 0, 0) for level in range(len(writer.levels))}
        writer.write_tile(0, 1, crop(picture, 0, 1))
        writer.flush()
        slide.look()
        assert slide.read(0, 0, 0) == tile
    with SlideReader(slide.path) as reader:
        assert tile.jpeg == reader.read_tile_jpeg(0, 0, 0)
    shown = pixels_of(tile.jpeg).astype(int)
    assert np.abs(shown - crop(picture, 0, 0)).mean() < 3
    slide.close()


def test_reduced_tiles_come_from_the_overview_until_the_file_has_them(
    tmp_path: Path, picture: UInt8Image
) -> None:
    state = LiveState(HEADER)
    slide = LiveSlide(tmp_path / "slide.ome.tiff", state)
    with SlideWriter(
        slide.path, describe(400, 300), tile_px=TILE_PX, sync_every=1
    ) as writer:
        for row, column in ((0, 0), (0, 1), (1, 0)):
            writer.write_tile(row, column, crop(picture, row, column))
        slide.look()
        before = slide.read(1, 0, 0)
        assert before is not None
        assert not before.final
        half = cv2.resize(picture[:128, :128], (64, 64), interpolation=cv2.INTER_AREA)
        shown = pixels_of(before.jpeg).astype(int)
        assert np.abs(shown[:32, :] - half[:32, :]).mean() < 4
        assert np.abs(shown[34:, 34:] - BACKGROUND_GREY).max() < 12
        writer.write_tile(1, 1, crop(picture, 1, 1))
        slide.look()
        after = slide.read(1, 0, 0)
        assert after is not None
        assert after.final
        assert after.version != before.version
        assert np.abs(pixels_of(after.jpeg).astype(int) - half).mean() < 4
    slide.close()


def test_a_page_that_comes_late_has_the_whole_overview(
    tmp_path: Path, picture: UInt8Image
) -> None:
    path = tmp_path / "slide.ome.tiff"
    with SlideWriter(path, describe(400, 300), tile_px=TILE_PX) as writer:
        for row, column in np.ndindex(5, 7):
            writer.write_tile(row, column, crop(picture, row, column))
    slide = LiveSlide(path, LiveState(HEADER))
    assert slide.overview_jpeg() is None
    slide.look()
    overview = slide.overview_jpeg()
    assert overview is not None
    shown = pixels_of(overview)
    assert shown.shape == (300, 400, 3), "a small slide is its own overview"
    assert np.abs(shown.astype(int) - picture).mean() < 4
    slide.close()


@pytest.mark.parametrize("cell", [(9, 0, 0), (0, 99, 0), (0, 0, 7), (-1, 0, 0)])
def test_there_is_no_such_tile(tmp_path: Path, cell: tuple[int, int, int]) -> None:
    path = tmp_path / "slide.ome.tiff"
    SlideWriter(path, describe(400, 300), tile_px=TILE_PX).close()
    slide = LiveSlide(path, LiveState(HEADER))
    slide.look()
    assert slide.read(*cell) is None
    slide.close()


def test_a_replaced_file_is_another_generation(tmp_path: Path) -> None:
    state = LiveState(HEADER)
    path = tmp_path / "slide.ome.tiff"
    generations = []
    slide = LiveSlide(path, state)
    for size_px in (400, 200):
        fresh = tmp_path / f"new{size_px}"
        SlideWriter(fresh, describe(size_px, 300), tile_px=TILE_PX).close()
        fresh.replace(path)
        slide.look()
        shape = state.changes(0).progress["slide"]
        generations.append(shape["generation"])
        assert shape["levels"][0] == (size_px, 300)
    assert generations[0] != generations[1]
    slide.close()


def test_a_file_that_is_no_slide_is_named(tmp_path: Path) -> None:
    path = tmp_path / "slide.ome.tiff"
    path.write_bytes(b"II*\0 not a slide of ours, and long enough for a header")
    slide = LiveSlide(path, LiveState(HEADER))
    with pytest.raises(SlideFileError, match=r"slide\.ome\.tiff"):
        slide.look()


@pytest.mark.parametrize("level", range(6))
def test_every_level_of_the_overview_shows_the_same_picture(level: int) -> None:
    """A ramp over a slide 8x wider than the overview: each level samples the ramp."""
    levels = compute_level_sizes(8 * MAX_PX, 512, 512)
    overview = Overview(levels, 512)
    assert max(levels[overview.level]) <= MAX_PX
    for column in range(32):
        at = np.arange(column * 512, (column + 1) * 512)
        ramp = np.repeat((at / 64)[None, :, None], 512, axis=0).repeat(3, axis=2)
        overview.paint(0, 0, column, ramp.astype(np.uint8))
    tile = pixels_of(overview.cut_tile(level, 0, 0))[100 >> level if level else 100]
    at = (np.arange(512) + 0.5) * 2**level
    inside = at < 8 * MAX_PX - 64
    difference = tile[inside, 1] - np.minimum(at / 64, 255)[inside]
    assert np.abs(difference).mean() < 2.0


def test_a_sketch_is_shown_until_the_tile_is_written_and_never_over_it(
    tmp_path: Path, picture: UInt8Image
) -> None:
    state = LiveState(HEADER)
    slide = LiveSlide(tmp_path / "slide.ome.tiff", state)
    slide.sketch(0.0, 0.0, picture)  # no slide yet: nothing to draw on
    with SlideWriter(
        slide.path, describe(400, 300), tile_px=TILE_PX, sync_every=1
    ) as writer:
        writer.write_tile(0, 0, crop(picture, 0, 0))
        slide.look()
        seen = state.number
        black = np.zeros((100, 100, 3), dtype=np.uint8)
        slide.sketch(10.0, 20.0, black)
        changed = {tuple(tile[:3]) for tile in state.changes(seen).tiles}
        # Columns 0..1 and rows 0..1 of the grid, but for the written one.
        finest = {cell for cell in changed if cell[0] == 0}
        assert finest == {(0, 0, 1), (0, 1, 0), (0, 1, 1)}
        beside = slide.read(0, 0, 1)
        assert beside is not None
        assert not beside.final
        assert pixels_of(beside.jpeg)[30:, :40].max() < 60
        written = slide.read(0, 0, 0)
        assert written is not None
        assert (
            np.abs(pixels_of(written.jpeg).astype(int) - picture[:64, :64]).mean() < 4
        )
        half = slide.read(1, 0, 0)
        assert half is not None
        drawn = pixels_of(half.jpeg)
        assert np.abs(drawn[:31, :31].astype(int) - 150).max() < 106, "kept"
        assert drawn[34:55, 8:50].max() < 60, "sketched"
        writer.write_tile(0, 1, crop(picture, 0, 1))
        slide.look()
        now = slide.read(0, 0, 1)
        assert now is not None
        assert now.final
    slide.close()


def test_a_sketch_may_reach_over_the_edge(tmp_path: Path) -> None:
    slide = LiveSlide(tmp_path / "slide.ome.tiff", LiveState(HEADER))
    with SlideWriter(slide.path, describe(400, 300), tile_px=TILE_PX):
        slide.look()
        for corner_px in ((-30.0, -20.0), (350.0, 250.0)):
            slide.sketch(*corner_px, np.zeros((128, 128, 3), dtype=np.uint8))
        assert slide.overview_jpeg() is not None
    slide.close()
