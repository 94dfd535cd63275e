"""A shot moved by parts of a pixel: against shifted indices, OpenCV and weights."""

import cv2
import numpy as np
import pytest

from bifocus.edge.shifted_shot import shift_shot
from bifocus.records import UInt8Image


@pytest.fixture
def picture() -> UInt8Image:
    rng = np.random.default_rng(5)
    noise = rng.integers(0, 256, (60, 81, 3)).astype(np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 1.0), dtype=np.uint8)


@pytest.mark.parametrize(("down", "right"), [(3, 0), (0, -1), (-2, 11), (12, 12)])
def test_whole_pixels_are_those_of_the_shot_with_its_border_repeated(
    picture: UInt8Image, down: int, right: int
) -> None:
    rows = np.clip(np.arange(60) - down, 0, 59)
    columns = np.clip(np.arange(81) - right, 0, 80)
    expected = picture[rows][:, columns]
    np.testing.assert_array_equal(shift_shot(picture, down, right), expected)


@pytest.mark.parametrize(("down", "right"), [(0.25, -0.75), (-5.5, 3.03125), (1.5, 0)])
def test_parts_that_opencv_can_tell_are_moved_as_opencv_does(
    picture: UInt8Image, down: float, right: float
) -> None:
    """`warpAffine` knows thirty-seconds of a pixel, and rounds its weights."""
    matrix = np.array([[1, 0, right], [0, 1, down]], dtype=np.float64)
    expected = cv2.warpAffine(
        picture,
        matrix,
        (81, 60),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    moved = shift_shot(picture, down, right).astype(int)
    assert np.abs(moved - expected).max() <= 1


def test_half_a_pixel_weighs_four_pixels_as_keys_has_it() -> None:
    """a = -0.75 gives (-3, 19, 19, -3) / 32 halfway between two pixels."""
    picture = np.full((32, 32, 3), 96, dtype=np.uint8)
    picture[:, 16] = 96 + 64
    row = shift_shot(picture, 0, 0.5)[16, :, 0].astype(int)
    np.testing.assert_array_equal(row[14:20], [96, 90, 134, 134, 90, 96])


def test_no_shift_leaves_the_shot_itself(picture: UInt8Image) -> None:
    assert shift_shot(picture, 0.0, 0.0) is picture
