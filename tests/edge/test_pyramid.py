"""Reduced levels against a whole-image 2x2 mean, and a bound on what is kept."""

import numpy as np
import pytest

from bifocus.edge.pyramid import (
    ReducedTile,
    ReducedTiles,
    compute_grid,
    compute_level_sizes,
    compute_valid_size,
    halve,
    pad_by_replication,
)
from bifocus.records import UInt8Image

TILE_PX = 16
GREY = np.full(3, 200, dtype=np.uint8)


def reduce_whole(picture: UInt8Image) -> UInt8Image:
    """Halve a whole picture in integers: the second method."""
    odd = picture.shape[0] % 2, picture.shape[1] % 2, 0
    even = np.pad(picture, [(0, n) for n in odd], mode="edge").astype(np.uint16)
    total = even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]
    return ((total + 2) // 4).astype(np.uint8)


def full_tile(picture: UInt8Image, row: int, column: int) -> UInt8Image:
    top, left = row * TILE_PX, column * TILE_PX
    part = picture[top : top + TILE_PX, left : left + TILE_PX]
    return pad_by_replication(part, TILE_PX)


@pytest.mark.parametrize(
    ("size", "n_levels"),
    [((512, 512), 1), ((513, 2), 2), ((1501, 900), 3), ((160_000, 80_000), 10)],
)
def test_number_of_levels(size: tuple[int, int], n_levels: int) -> None:
    sizes = compute_level_sizes(*size, 512)
    assert len(sizes) == n_levels
    assert max(sizes[-1]) <= 512


def test_halve_rounds_half_up() -> None:
    pixels = np.zeros((2, 2, 3), dtype=np.uint8)
    pixels[0, 0] = (1, 2, 3)  # sums 1, 2, 3: means 0.25, 0.5, 0.75
    assert halve(pixels).tolist() == [[[0, 1, 1]]]


@pytest.mark.parametrize("size", [(64, 64), (67, 45), (33, 100), (129, 17)])
def test_every_reduced_tile_is_the_mean_of_the_whole(size: tuple[int, int]) -> None:
    width_px, height_px = size
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)
    sizes = compute_level_sizes(width_px, height_px, TILE_PX)
    reduced = ReducedTiles(sizes, TILE_PX, GREY)
    cells = list(np.ndindex(*compute_grid(sizes[0], TILE_PX)))
    rng.shuffle(cells)
    made: list[ReducedTile] = []
    for row, column in cells:
        made += reduced.add((row, column), full_tile(picture, row, column))
    assert reduced.n_pending == 0
    truth = [picture]
    for _ in sizes[1:]:
        truth.append(reduce_whole(truth[-1]))
    for tile in made:
        expected = full_tile(truth[tile.level], tile.row, tile.column)
        np.testing.assert_array_equal(tile.pixels, expected)
    n_expected = sum(int(np.prod(compute_grid(size, TILE_PX))) for size in sizes[1:])
    assert len({(t.level, t.row, t.column) for t in made}) == n_expected


def test_finish_fills_missing_children_with_background() -> None:
    sizes = compute_level_sizes(64, 64, TILE_PX)
    reduced = ReducedTiles(sizes, TILE_PX, GREY)
    black = np.zeros((TILE_PX, TILE_PX, 3), dtype=np.uint8)
    assert list(reduced.add((1, 0), black)) == []
    first, second = reduced.finish()
    assert (first.level, second.level) == (1, 2)
    assert (first.pixels[8:, :8] == 0).all()
    assert (first.pixels[:8] == GREY).all()
    assert (second.pixels[4:8, :4] == 0).all()
    assert (second.pixels[8:] == GREY).all()
    assert reduced.n_pending == 0


@pytest.mark.parametrize("is_serpentine", [False, True])
def test_what_is_kept_is_less_than_one_tile_per_column(is_serpentine: bool) -> None:
    # The grid of a 60,000 x 20,000 slide in 512-px tiles, with small tiles.
    sizes = compute_level_sizes(118 * TILE_PX, 40 * TILE_PX, TILE_PX)
    reduced = ReducedTiles(sizes, TILE_PX, GREY)
    tile = np.zeros((TILE_PX, TILE_PX, 3), dtype=np.uint8)
    most = 0
    for row in range(40):
        backwards = is_serpentine and row % 2 == 1
        for column in reversed(range(118)) if backwards else range(118):
            for made in reduced.add((row, column), tile):
                assert made.pixels.shape == tile.shape
            most = max(most, reduced.n_pending)
    assert most <= 118 + len(sizes)
    assert reduced.n_pending == 0


def test_wide_slides_keep_the_rest_compressed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same tiles come out, whatever is kept plain; nothing is left counted."""
    rng = np.random.default_rng(2)
    picture = rng.integers(0, 256, (64, 320, 3), dtype=np.uint8)
    sizes = compute_level_sizes(320, 64, TILE_PX)
    made: list[list[ReducedTile]] = []
    for plain_bytes in (10**9, 5 * 3 * (TILE_PX // 2) ** 2, 0):
        monkeypatch.setattr("bifocus.edge.pyramid.PLAIN_BYTES", plain_bytes)
        reduced = ReducedTiles(sizes, TILE_PX, GREY)
        made.append([])
        most = 0
        for row, column in np.ndindex(4, 20):
            made[-1] += reduced.add((row, column), full_tile(picture, row, column))
            most = max(most, reduced._plain_bytes)
        made[-1] += reduced.finish()
        assert most <= plain_bytes
        assert reduced._plain_bytes == 0
    for first, second, third in zip(*made, strict=True):
        np.testing.assert_array_equal(first.pixels, second.pixels)
        np.testing.assert_array_equal(first.pixels, third.pixels)


def test_valid_size_at_the_corner() -> None:
    assert compute_valid_size((100, 40), (2, 6), TILE_PX) == (8, 4)
    assert compute_valid_size((100, 40), (0, 0), TILE_PX) == (16, 16)
