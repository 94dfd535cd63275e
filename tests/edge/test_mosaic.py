"""The mosaic gives back what was cut up, in any window, from a bounded cache."""

from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bifocus.edge.mosaic import MosaicRenderer
from bifocus.edge.placement import solve_placement
from bifocus.edge.registration import EdgeStrips, extract_strips, register_strips
from bifocus.errors import ConfigError
from bifocus.records import PlacedTile, UInt8Image
from bifocus.subpixel import sample_shifted, shift_kernel

Float64 = npt.NDArray[np.float64]
Cell = tuple[int, int]


class Scene:
    """A periodic colour image, exact at any sub-pixel position by Fourier synthesis."""

    def __init__(self, height: int, width: int, rng: np.random.Generator) -> None:
        self.shape = (height, width)
        self.fy = np.fft.fftfreq(height)[:, None]
        self.fx = np.fft.rfftfreq(width)[None, :]
        f = np.hypot(self.fx, self.fy)
        # 1/f up to 0.3 cycles per pixel, as of a well-sampled microscope image.
        shape = np.where((f > 0) & (f < 0.3), 1 / np.maximum(f, 1 / 64), 0)
        self.spectra = []
        for _ in range(2):
            spectrum = np.fft.rfft2(rng.standard_normal(self.shape)) * shape
            self.spectra.append(spectrum / np.fft.irfft2(spectrum, self.shape).std())

    def view(self, x_px: float, y_px: float, height: int, width: int) -> UInt8Image:
        ramp = np.exp(2j * np.pi * (self.fx * x_px + self.fy * y_px))
        stain, counterstain = (
            np.fft.irfft2(spectrum * ramp, self.shape)[:height, :width]
            for spectrum in self.spectra
        )
        red = 150 + 20 * stain + 10 * counterstain
        green = 130 + 30 * stain
        blue = 160 + 10 * stain + 20 * counterstain
        rgb = np.stack([red, green, blue], axis=-1)
        return np.asarray(np.clip(np.rint(rgb), 0, 255), np.uint8)


def psnr_db(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


def integer_mosaic(
    cache_tiles: int = 48,
) -> tuple[UInt8Image, MosaicRenderer, Counter[Cell]]:
    """An image, the mosaic of its 4 x 5 overlapping tiles, and a count of loads."""
    rng = np.random.default_rng(0)
    height, width = 60, 72
    tiles, corners = [], {}
    for row in range(4):
        for column in range(5):
            x = 0 if column == 0 else column * 54 + int(rng.integers(-6, 7))
            y = 0 if row == 0 else row * 44 + int(rng.integers(-6, 7))
            corners[row, column] = (x, y)
            tiles.append(PlacedTile(row=row, column=column, x_px=x, y_px=y))
    right = max(x for x, _ in corners.values()) + width
    bottom = max(y for _, y in corners.values()) + height
    image = rng.integers(0, 256, (bottom, right, 3), np.uint8)
    loads: Counter[Cell] = Counter()

    def load(row: int, column: int) -> UInt8Image:
        loads[row, column] += 1
        x, y = corners[row, column]
        return image[y : y + height, x : x + width]

    mosaic = MosaicRenderer(
        tiles, (height, width), load, feather_px=12, cache_tiles=cache_tiles
    )
    return image, mosaic, loads


def test_whole_pixel_tiles_give_the_image_back() -> None:
    image, mosaic, _ = integer_mosaic()
    height, width = image.shape[:2]
    assert mosaic.size_px == (width, height)
    whole = mosaic.render(0, 0, width, height)
    # Tiles do not all reach the ragged right and lower border.
    covered = np.zeros((height, width), bool)
    for footprint in mosaic._footprints.values():
        covered[footprint.top : footprint.bottom, footprint.left : footprint.right] = (
            True
        )
    np.testing.assert_array_equal(whole[covered], image[covered])
    assert (whole[~covered] == 240).all()


@given(
    x0=st.integers(-40, 320),
    y0=st.integers(-40, 240),
    width=st.integers(1, 130),
    height=st.integers(1, 130),
)
@settings(max_examples=40, deadline=None)
def test_any_window_is_the_crop_of_the_whole(
    x0: int, y0: int, width: int, height: int
) -> None:
    rng = np.random.default_rng(1)
    tiles = [
        PlacedTile(
            row=r,
            column=c,
            x_px=c * 54 + rng.uniform(-6, 6),
            y_px=r * 44 + rng.uniform(-6, 6),
        )
        for r, c in np.ndindex(4, 5)
        if (r, c) != (1, 2)  # a hole
    ]
    source = rng.integers(0, 256, (4, 5, 60, 72, 3), np.uint8)
    mosaic = MosaicRenderer(
        tiles, (60, 72), lambda row, column: source[row, column], feather_px=10
    )
    whole = mosaic.render(-40, -40, 500, 420)
    window = mosaic.render(x0, y0, width, height)
    np.testing.assert_array_equal(
        window, whole[y0 + 40 : y0 + 40 + height, x0 + 40 : x0 + 40 + width]
    )


def test_a_seam_is_a_linear_ramp_between_its_tiles() -> None:
    # Closed form: two flat tiles, overlap 20 px, feather 20 px: weights k and 21 - k.
    tiles = [
        PlacedTile(row=0, column=0, x_px=0, y_px=0),
        PlacedTile(row=0, column=1, x_px=80, y_px=0),
    ]

    def load(row: int, column: int) -> UInt8Image:
        return np.full((50, 100, 3), (100, 142)[column], np.uint8)

    mosaic = MosaicRenderer(tiles, (50, 100), load, feather_px=20)
    line = mosaic.render(0, 25, 180, 1)[0, :, 0].astype(int)
    assert (line[:80] == 100).all()
    assert (line[100:] == 142).all()
    np.testing.assert_array_equal(line[80:100], 100 + 2 * np.arange(1, 21))


def test_a_small_tile_position_costs_little_sharpness() -> None:
    # The worst fraction, half a pixel on both axes, against exact synthesis. Linear
    # interpolation reaches 34 dB here, cubic 47; rounding to 8 bits alone allows 56.
    scene = Scene(256, 256, np.random.default_rng(2))
    for fraction in (0.1, 0.25, 0.5, 0.75):
        moved = sample_shifted(scene.view(0, 0, 256, 256), fraction, fraction)
        truth = scene.view(fraction, fraction, 256, 256)
        inner = (slice(4, -4), slice(4, -4))
        assert psnr_db(moved[inner], truth[inner]) > 53


@given(fraction=st.floats(0, 1, exclude_max=True))
def test_the_kernel_keeps_level_and_place(fraction: float) -> None:
    taps = shift_kernel(fraction)
    assert taps.sum() == pytest.approx(1, abs=1e-6)
    # The place of an edge is the first moment of the taps.
    assert np.dot(taps, np.arange(-3, 5)) == pytest.approx(fraction, abs=0.004)


def test_holes_and_outside_are_background() -> None:
    mosaic = MosaicRenderer(
        [PlacedTile(row=0, column=0, x_px=10, y_px=20)],
        (30, 40),
        lambda row, column: np.zeros((30, 40, 3), np.uint8),
        background=(1, 2, 3),
    )
    window = mosaic.render(-5, -5, 100, 100)
    assert (window[25:55, 15:55] == 0).all()
    window[25:55, 15:55] = (1, 2, 3)
    assert (window == (1, 2, 3)).all()
    empty = MosaicRenderer([], (30, 40), lambda r, c: np.zeros((30, 40, 3), np.uint8))
    assert empty.size_px == (0, 0)
    assert (empty.render(0, 0, 3, 2) == 240).all()
    assert list(empty.output_tiles(64)) == []


def test_output_tiles_come_in_order_and_fill_the_grid() -> None:
    image, mosaic, _ = integer_mosaic()
    height, width = image.shape[:2]
    whole = mosaic.render(0, 0, 384, 256)
    seen = []
    for row, column, pixels in mosaic.output_tiles(64):
        seen.append((row, column))
        assert pixels.shape == (64, 64, 3)
        place = np.s_[row * 64 : row * 64 + 64, column * 64 : column * 64 + 64]
        np.testing.assert_array_equal(pixels, whole[place])
    assert seen == list(np.ndindex(-(-height // 64), -(-width // 64)))
    banded = [(row, column) for row, column, _ in mosaic.output_tiles(64, 2)]
    assert sorted(banded) == seen
    assert banded[:4] == [(0, 0), (1, 0), (0, 1), (1, 1)]


def test_the_cache_is_bounded_and_enough() -> None:
    # Two scan rows of 5 tiles fit: each tile is loaded once in row-major order.
    _, mosaic, loads = integer_mosaic(cache_tiles=11)
    for _ in mosaic.output_tiles(32):
        assert len(mosaic._cache) <= 11
    assert set(loads.values()) == {1}
    assert len(loads) == 20
    # With one place, results stay the same and the work grows.
    _, mosaic, loads = integer_mosaic(cache_tiles=1)
    tight = mosaic.render(0, 0, *mosaic.size_px)
    assert len(mosaic._cache) == 1
    _, roomy, _ = integer_mosaic()
    np.testing.assert_array_equal(tight, roomy.render(0, 0, *roomy.size_px))
    assert sum(loads.values()) > 20


def test_bands_load_less_when_the_cache_is_short() -> None:
    totals = []
    for rows_per_band in (1, 2):
        _, mosaic, loads = integer_mosaic(cache_tiles=5)
        for _ in mosaic.output_tiles(32, rows_per_band):
            pass
        totals.append(sum(loads.values()))
    assert totals[1] < totals[0]


def test_tiles_may_arrive_during_the_scan() -> None:
    rng = np.random.default_rng(3)
    source: UInt8Image = rng.integers(0, 256, (3, 60, 72, 3), np.uint8)
    tiles = [PlacedTile(row=0, column=c, x_px=c * 54.3, y_px=c * 1.7) for c in range(3)]

    def load(row: int, column: int) -> UInt8Image:
        return np.asarray(source[column], np.uint8)

    at_once = MosaicRenderer(tiles, (60, 72), load)
    growing = MosaicRenderer(tiles[2:], (60, 72), load)
    growing.render(0, 0, 200, 64)
    growing.add(tiles[:2])
    assert growing.size_px == at_once.size_px
    np.testing.assert_array_equal(
        growing.render(0, 0, 200, 64), at_once.render(0, 0, 200, 64)
    )
    moved = PlacedTile(row=0, column=0, x_px=500, y_px=0)
    growing.add([moved])
    assert (growing.render(500, 0, 72, 60) == source[0]).all()


def test_bad_sizes_are_refused() -> None:
    def load(row: int, column: int) -> UInt8Image:
        return np.zeros((30, 41, 3), np.uint8)

    tile = PlacedTile(row=1, column=2, x_px=0, y_px=0)
    with pytest.raises(ConfigError, match="r001_c002 is uint8"):
        MosaicRenderer([tile], (30, 40), load).render(0, 0, 8, 8)
    with pytest.raises(ConfigError, match="cache 0"):
        MosaicRenderer([tile], (30, 40), load, cache_tiles=0)
    with pytest.raises(ConfigError, match="feather 0"):
        MosaicRenderer([tile], (30, 40), load, feather_px=0)


def test_a_scan_is_put_together_again() -> None:
    """Registration, placement and rendering of 5 x 5 tiles against exact truth."""
    rng = np.random.default_rng(4)
    height, width, step_x, step_y = 240, 300, 225.4, 180.7
    scene = Scene(1080, 1280, rng)
    nominal = {(r, c): (40 + c * step_x, 40 + r * step_y) for r, c in np.ndindex(5, 5)}
    true = {cell: np.add(xy, rng.uniform(-12, 12, 2)) for cell, xy in nominal.items()}
    source = {
        cell: scene.view(float(x), float(y), height, width)
        for cell, (x, y) in true.items()
    }
    strips: dict[Cell, EdgeStrips] = {}
    pairs = []
    for (row, column), (x, y) in nominal.items():
        strips[row, column] = extract_strips(
            source[row, column],
            row=row,
            column=column,
            overlap_x_px=width - step_x,
            overlap_y_px=height - step_y,
        )
        here = strips[row, column]
        for before, first, second in (
            ((row, column - 1), "right", here.left),
            ((row - 1, column), "bottom", here.top),
        ):
            if before in strips:
                shift = np.subtract((x, y), nominal[before])
                pair = register_strips(
                    getattr(strips[before], first),
                    second,
                    nominal_dx_px=float(shift[0]),
                    nominal_dy_px=float(shift[1]),
                )
                assert pair.is_trusted
                pairs.append(pair)
    assert len(pairs) == 40
    placement = solve_placement(nominal, pairs)
    assert placement.n_rejected == 0
    assert max(placement.residual_px.values()) < 0.05

    placed = {(t.row, t.column): np.array([t.x_px, t.y_px]) for t in placement.tiles}
    error = np.array([placed[cell] - true[cell] for cell in true])
    offset = error.mean(axis=0)
    assert np.hypot(*(error - offset).T).max() < 0.1  # the goal is 0.2 px

    mosaic = MosaicRenderer(
        placement.tiles, (height, width), lambda row, column: source[row, column]
    )
    window = mosaic.render(20, 20, 1120, 900)
    x0, y0 = np.array([20.0, 20.0]) - offset
    truth = scene.view(float(x0), float(y0), 900, 1120)
    assert psnr_db(window, truth) > 45
