"""The joint colours of the graph, against linear algebra and the spectra of an FFT."""

import numpy as np
import numpy.typing as npt
import torch

from bifocus.block_fusion import MAX_GAIN
from bifocus.export.block_transform import BlockTransform
from bifocus.export.joint_graph import JointGraph
from bifocus.export.wiener_graph import Observed
from bifocus.joint_colours import COLOUR_PAIRS
from bifocus.pair_spectra import (
    SMALL_BLOCKS,
    compute_spectra,
    cross_power,
    filter_block,
)

Float64 = npt.NDArray[np.float64]

SHAPE = (80, 144)
N_RINGS = SMALL_BLOCKS.block_px // 2
BLOCKS = 3


def test_what_is_filtered_has_the_cross_powers_of_the_fft() -> None:
    """Gains leap from ring to ring, so that each coefficient's own ring counts."""
    rng = np.random.default_rng(0)
    light = rng.random((2, *SHAPE, 3), dtype=np.float32)
    gains = rng.uniform(0.5, 2, (2, 3, N_RINGS)).astype(np.float32)
    pair = compute_spectra(light[0], light[1])
    transform = BlockTransform(SHAPE, SMALL_BLOCKS)
    basis = transform.basis(torch.zeros(2, 2))
    combined = []
    for colour in range(3):
        planes = torch.from_numpy(np.ascontiguousarray(light[..., colour]))
        coefficients, _ = transform(planes, *basis)
        own = torch.from_numpy(gains[:, colour])[:, None]
        own = own.expand(2, coefficients.shape[1], N_RINGS)
        combined.append(transform.filtered(coefficients, own))
    got = transform.statistics(torch.stack(combined), COLOUR_PAIRS).numpy()
    down, across = pair.grid
    for block in range(down * across):
        spectra = [
            filter_block(pair.spectra[:, block, c], gains[:, c]) for c in range(3)
        ]
        expected = cross_power(spectra, SMALL_BLOCKS)
        place = block % across * down + block // across
        np.testing.assert_allclose(
            got[:, place, 2:], expected[:, 2:], atol=1e-5 * np.abs(expected).max()
        )


def covariances(rng: np.random.Generator) -> Float64:
    """Return power matrices (blocks, 3, 3) of correlations that are believed."""
    spread = rng.normal(size=(BLOCKS, 3, 5))
    return np.asarray(spread @ spread.swapaxes(1, 2) / 5 + 0.3 * np.eye(3))


def test_mixing_solves_the_equations_of_wiener() -> None:
    """Powers are those of 8-bit shots: far from 1, and far apart."""
    rng = np.random.default_rng(1)
    powers = 10.0 ** rng.uniform(-7, -3, (BLOCKS, 3))
    root = np.sqrt(powers)
    object_power = covariances(rng) * root[:, :, None] * root[:, None]
    precision = 10.0 ** rng.uniform(2, 6, (BLOCKS, 3))
    focus = rng.uniform(0.3, 1, 3)
    told = np.eye(3) + precision[:, :, None] * object_power
    expected = focus[:, None] * object_power @ np.linalg.inv(told)
    # Noise of colours does not correlate: <b b'> = d d' S between two of them.
    cross = [
        object_power[:, a, b] * precision[:, a] * precision[:, b]
        for a, b in COLOUR_PAIRS
    ]

    def rings(values: Float64) -> torch.Tensor:
        wide = np.repeat(values[..., None], 5, axis=-1).astype(np.float32)
        return torch.from_numpy(wide)

    signal = object_power.diagonal(axis1=1, axis2=2)
    got = (
        JointGraph()
        .mixing(
            rings(np.stack(cross)),
            rings(precision.T),
            rings(signal.T),
            rings(focus[:, None]),
        )
        .numpy()
    )
    expected = expected.transpose(1, 2, 0)[..., None]
    scale = np.abs(expected).max(axis=(0, 1))
    np.testing.assert_allclose(
        got / scale, np.broadcast_to(expected / scale, got.shape), atol=1e-3
    )


def test_gains_are_limited_and_mixed_with_the_sharper_shot() -> None:
    shape = (3, BLOCKS, 8)
    weight = torch.full((2, *shape), 1e5)
    pick = torch.tensor([[0.25] * BLOCKS, [0.75] * BLOCKS])
    seen = Observed(
        weight=weight,
        precision=torch.full(shape, 2e3),  # h = 0.01 in both: deep in the dark
        signal=torch.full(shape, 1.0),
        focus=torch.ones(3, 1, 8),
        pick=pick,
        share=torch.zeros(BLOCKS),
        quality=torch.ones(()),
    )
    cross = torch.zeros(shape)
    whole = JointGraph()(seen, cross, torch.ones(1))
    assert torch.isfinite(whole).all()
    strength = whole[..., 2:].square().sum(dim=(0, 2)).sqrt()
    np.testing.assert_allclose(strength, MAX_GAIN, rtol=1e-4)
    # Innermost rings pass: half of each shot, nothing of another colour.
    half = 0.5 * torch.eye(3)[:, :, None, None].expand(3, 3, BLOCKS, 2)
    np.testing.assert_array_equal(whole[0, ..., :2], half)
    # Where nothing is trusted, the sharper shot is left.
    bare = JointGraph()(seen, cross, torch.zeros(1))
    np.testing.assert_array_equal(bare[1, 2, 2], torch.full((BLOCKS, 8), 0.75))
    assert bare[:, 0, 1].abs().max() == 0
