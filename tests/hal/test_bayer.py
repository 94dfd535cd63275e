"""Raw pixels to RGB, against mosaics made by the naming convention's own words."""

import numpy as np
import pytest

from bifocus.hal.bayer import bytes_per_pixel, to_rgb

COLOUR = (200, 100, 50)  # red, green, blue


@pytest.mark.parametrize(
    ("pixel_format", "first_rows"),
    [
        ("BayerRG8", "RGGB"),
        ("BayerGR8", "GRBG"),
        ("BayerGB8", "GBRG"),
        ("BayerBG8", "BGGR"),
    ],
)
def test_an_even_colour_stays_itself(pixel_format: str, first_rows: str) -> None:
    """The name tells the first row's first two filters; the next row has the others."""
    levels = dict(zip("RGB", COLOUR, strict=True))
    cell = np.array([levels[letter] for letter in first_rows], np.uint8).reshape(2, 2)
    mosaic = np.tile(cell, (8, 10))
    rgb = to_rgb(mosaic.tobytes(), pixel_format=pixel_format, shape=(16, 20))
    assert rgb.shape == (16, 20, 3)
    assert (rgb == COLOUR).all()
    assert bytes_per_pixel(pixel_format) == 1


def test_rgb_and_grey_pass_unchanged_and_are_our_own() -> None:
    data = bytes(range(60))
    rgb = to_rgb(data, pixel_format="RGB8", shape=(4, 5))
    assert rgb.tobytes() == data
    assert rgb[0, 1].tolist() == [3, 4, 5]
    assert rgb.flags.writeable
    grey = to_rgb(data, pixel_format="Mono8", shape=(6, 10))
    assert grey.shape == (6, 10)
    assert grey.flags.writeable
    assert bytes_per_pixel("RGB8") == 3
