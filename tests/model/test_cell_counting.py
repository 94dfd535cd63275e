"""Cell counting against scikit-image, and on discs that can be counted by eye."""

from typing import Any

import numpy as np
import pytest
from skimage import filters, measure

from bifocus.errors import ConfigError
from bifocus.model.cell_counting import (
    ParticleLimits,
    count_cells,
    count_errors,
    default_threshold,
    find_dark,
    isodata_threshold,
    particle_areas_px,
    stretch_contrast,
    to_grey,
)
from tests.imaging import UInt8
from tests.tissue import procedural_tissue

FILTERS: Any = filters  # untyped
MEASURE: Any = measure


def discs(radii_px: list[float], side: int = 128) -> UInt8:
    picture = np.full((side, side, 3), 230.0)
    rows, columns = np.indices((side, side))
    for number, radius_px in enumerate(radii_px):
        row, column = 20 + 40 * (number // 3), 20 + 40 * (number % 3)
        inside = (rows - row) ** 2 + (columns - column) ** 2 <= radius_px**2
        picture[inside] = (90, 60, 130)
    noise = np.random.default_rng(0).normal(0, 4, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def test_discs_within_the_limits_are_counted() -> None:
    # 0.25 um pixels: diameters of 2, 5, 5, 8 and then 28 um; presets take 3 to 15.
    assert count_cells(discs([4, 10, 10, 16]), 0.25) == 3
    assert count_cells(discs([56]), 0.25) == 0


def test_particles_are_those_of_scikit_image() -> None:
    picture = np.rint(255 * procedural_tissue(160, 2)).astype(np.uint8)
    mask = find_dark(picture)
    assert mask.any()
    regions = MEASURE.regionprops(MEASURE.label(mask, connectivity=2))
    expected = sorted(int(region.area) for region in regions)
    assert sorted(particle_areas_px(mask).tolist()) == expected


def test_pixels_that_touch_by_a_corner_are_one_particle() -> None:
    assert particle_areas_px(np.eye(4, dtype=bool)).tolist() == [4]


def test_isodata_is_that_of_scikit_image() -> None:
    grey = to_grey(discs([4, 10, 10, 16]))
    # scikit-image returns every level that is its own class mean; ours is the first.
    counted = grey[(grey > 0) & (grey < 255)]
    levels = FILTERS.threshold_isodata(counted, nbins=256, return_all=True)
    ours = isodata_threshold(np.bincount(grey.ravel(), minlength=256).astype(float))
    assert np.abs(np.asarray(levels) - ours).min() <= 2


def test_a_cut_peak_does_not_lose_the_objects() -> None:
    grey = stretch_contrast(to_grey(discs([6])))
    threshold = default_threshold(grey)
    assert 40 < threshold < 220


def test_a_plain_picture_has_no_cell() -> None:
    plain = np.full((64, 64, 3), 200, dtype=np.uint8)
    assert count_cells(plain, 0.25) == 0


def test_errors_are_signed_and_absolute() -> None:
    (row,) = count_errors([10, 10], {"m": [9, 12]})
    assert row["mean_abs_error"] == 1.5
    assert row["bias"] == 0.5


def test_limits_must_be_ordered() -> None:
    with pytest.raises(ConfigError, match="least_um2 < most_um2"):
        ParticleLimits(least_um2=5, most_um2=5)
