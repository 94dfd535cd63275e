"""Graph deblurring: its Laplacian against the definition, the whole on a known blur."""

import numpy as np
import pytest

from bifocus.model.blind_kernel import BlindSettings, estimate_kernel_by_scales
from bifocus.model.graph_deblur import (
    EDGE_SIGMA,
    deblur_graph,
    edge_weights,
    laplacian,
    sharpen_skeleton,
)
from bifocus.model.metrics import psnr_db
from tests.model.blurred_boxes import blurred_boxes, disc_kernel, overlap

RNG = np.random.default_rng(2)


def test_laplacian_form_is_the_reweighted_variation() -> None:
    # x' L x = sum w |x_i - x_j|, the identity that the method rests on.
    picture = RNG.random((10, 12))
    weights = edge_weights(picture)
    form = float((picture * laplacian(picture, weights)).sum())
    variation = 0.0
    for axis in range(2):
        step = np.abs(np.roll(picture, -1, axis) - picture)
        variation += float((np.exp(-((step / EDGE_SIGMA) ** 2)) * step).sum())
    assert form == pytest.approx(variation, rel=0.02)  # small steps are floored


def test_laplacian_of_a_plain_picture_is_nought() -> None:
    plain = np.full((6, 8), 0.4)
    np.testing.assert_array_equal(laplacian(plain, edge_weights(plain)), 0)


def test_strong_edges_are_let_go() -> None:
    picture = np.zeros((4, 8))
    picture[:, 4:] = 1.0
    across = edge_weights(picture)[1]
    assert across[0, 3] < 1e-6 * across[0, 1]


def test_skeleton_is_steeper_than_the_blurred_edge() -> None:
    kernel = disc_kernel(3.0)
    blurred, _ = blurred_boxes(kernel)
    grey = blurred[..., 1] / 255.0
    skeleton = sharpen_skeleton(grey, kernel)
    steepest = [np.percentile(np.abs(np.diff(p)), 99.5) for p in (grey, skeleton)]
    assert steepest[1] > 1.5 * steepest[0]


@pytest.mark.slow
def test_a_known_blur_is_undone_blindly() -> None:
    kernel = disc_kernel(3.0)
    blurred, sharp = blurred_boxes(kernel)
    found = estimate_kernel_by_scales(
        blurred[..., 1] / 255.0, sharpen_skeleton, BlindSettings(kernel_weight=0.05)
    )
    assert overlap(found, kernel) > 0.85
    assert psnr_db(deblur_graph(blurred), sharp) > psnr_db(blurred, sharp) + 2
