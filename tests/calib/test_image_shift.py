"""Shifts between cuts of one picture, false pairs, and a target that repeats itself."""

import numpy as np
import pytest

from bifocus.calib.image_shift import (
    FieldShift,
    check_shift,
    estimate_noise_px,
    measure_shift,
    prepare_picture,
)
from bifocus.errors import BlankSlideError
from bifocus.hal.graticule_target import make_graticule
from bifocus.records import FloatImage
from tests.tissue import procedural_tissue

TISSUE = (220 * procedural_tissue(400, 3)[..., 1]).astype(np.float64)


def field(
    x: int,
    y: int,
    rng: np.random.Generator,
    picture: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = TISSUE,
) -> FloatImage:
    """A camera of 128 px with its corner at (x, y), and noise of 2 levels."""
    cut = picture[y : y + 128, x : x + 128]
    noisy = cut + rng.normal(0, 2, cut.shape)
    return prepare_picture(np.clip(np.round(noisy), 0, 255).astype(np.uint8))


@pytest.mark.parametrize("shift", [(0, 0), (7, -3), (-31, 12), (40, 25)])
def test_a_moved_field_is_found(shift: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    first = field(130, 130, rng)
    second = field(130 + shift[0], 130 + shift[1], rng)
    found = measure_shift(first, second, search_px=60)
    assert found.is_trusted
    # 0.012 px is what 128 px of tissue are good to.
    assert found.vector_px == pytest.approx(shift, abs=0.06)
    check_shift(found, "here")


def test_fields_that_share_nothing_are_not_trusted() -> None:
    rng = np.random.default_rng(1)
    found = measure_shift(field(0, 0, rng), field(260, 260, rng), search_px=60)
    assert not found.is_trusted
    with pytest.raises(BlankSlideError, match=r"x 3 um: .*correlation is 0\.\d\d"):
        check_shift(found, "x 3 um")


def test_glass_is_not_trusted() -> None:
    rng = np.random.default_rng(2)
    glass = np.full((400, 400), 220.0)
    fields = [field(0, 0, rng, glass) for _ in range(2)]
    assert not measure_shift(*fields, search_px=40).is_trusted


def test_a_target_that_repeats_is_followed_by_what_is_expected() -> None:
    """Lines every 32 px: 40 px on looks like 8 px on; a search under 16 px decides."""
    light = make_graticule((400, 400), pitch_um=8.0, pixel_um=0.25)[..., 1]
    lines = 220 * np.asarray(light, np.float64)
    rng = np.random.default_rng(3)
    first, second = field(100, 100, rng, lines), field(140, 100, rng, lines)
    far = measure_shift(first, second, expected_px=(38.0, 0.0), search_px=14)
    near = measure_shift(first, second, expected_px=(6.0, 0.0), search_px=14)
    assert far.vector_px == pytest.approx((40.0, 0.0), abs=0.06)
    assert near.vector_px == pytest.approx((8.0, 0.0), abs=0.06)


def test_noise_is_that_of_pictures_of_one_place() -> None:
    rng = np.random.default_rng(4)
    noise_px = estimate_noise_px([field(100, 100, rng) for _ in range(6)])
    assert 1.5 / 128 <= noise_px < 0.03


def test_nothing_found_is_no_shift() -> None:
    flat = np.zeros((16, 16), np.float32)
    found = measure_shift(flat, flat, expected_px=(3.2, -1.0), search_px=5)
    assert found == FieldShift(dx_px=3, dy_px=-1, score=0.0)
