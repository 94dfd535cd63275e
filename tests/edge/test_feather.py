"""Mixing of tiles that meet: against the plain formula in double precision."""

import numpy as np
import pytest

from bifocus.edge.feather import mix, weigh


def test_weights_are_distances_to_the_nearest_border() -> None:
    weight = weigh((9, 20), slice(0, 9), slice(0, 20), 4)
    for y in range(9):
        for x in range(20):
            nearest = 1 + min(y, 8 - y, x, 19 - x)
            assert weight[y, x] == min(4, nearest)
    part = weigh((9, 20), slice(2, 5), slice(15, 20), 4)
    assert np.array_equal(part, weight[2:5, 15:20])


@pytest.mark.parametrize("n_parts", [2, 3, 4])
def test_the_mean_is_weighted_and_rounded(n_parts: int) -> None:
    rng = np.random.default_rng(n_parts)
    whole = rng.integers(0, 256, (n_parts, 40, 60, 3), dtype=np.uint8)
    parts = [picture[3:33, 5:55] for picture in whole]  # views, as tiles are
    weights = [rng.uniform(1, 32, (30, 50)).astype(np.float32) for _ in parts]
    expected = np.average(
        np.array(parts, np.float64),
        axis=0,
        weights=np.repeat(np.array(weights, np.float64)[..., None], 3, axis=-1),
    )
    # Half a grey level of rounding, and what single precision adds to it.
    assert np.abs(mix(parts, weights) - expected).max() < 0.51


def test_equal_pictures_stay_as_they_are() -> None:
    flat = np.full((20, 30, 3), 251, np.uint8)
    weights = [np.full((20, 30), 1, np.float32), np.full((20, 30), 32, np.float32)]
    assert np.array_equal(mix([flat, flat], weights), flat)
    assert np.array_equal(mix([flat] * 4, weights * 2), flat)
