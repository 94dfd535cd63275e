"""Parameters and multiply-adds against the table of reference/network.md, section 2."""

import pytest
import torch

from bifocus.model.network_cost import compute_cost
from bifocus.model.network_registry import build_network

# The table's hybrids have two inputs; a physics image adds its part of the stem only.
TWO_INPUTS = {"use_physics": False}


@pytest.mark.parametrize(
    ("name", "overrides", "params_m", "gmac", "kmac_per_px"),
    [
        (
            "fast",
            {**TWO_INPUTS, "widths": (48, 96), "blocks": (2, 3)},  # ps4-res48
            0.764,
            1.13,
            22.6,
        ),
        ("base", TWO_INPUTS, 0.868, 1.62, 32.3),
        ("base-late", TWO_INPUTS, 0.908, 2.67, 53.3),
        (
            "base",
            {**TWO_INPUTS, "widths": (48, 96, 192), "blocks": (2, 2, 4)},  # ps2-res48
            3.687,
            6.67,
            132.9,
        ),
        ("tsva", {"batch_norm": False}, 38.884, 60.40, 1203.8),
        ("tsva", {"batch_norm": False, "reading": "A"}, 39.397, 71.29, 1420.9),
        ("tsva16", {"batch_norm": False}, 2.432, 3.81, 75.9),
        ("tsva32", {"batch_norm": False}, 9.723, 15.15, 301.9),
    ],
)
def test_costs_are_those_of_the_reference(
    name: str,
    overrides: dict[str, object],
    params_m: float,
    gmac: float,
    kmac_per_px: float,
) -> None:
    cost = compute_cost(build_network(name, **overrides))
    # Half a unit of the table's last digit.
    assert cost.params / 1e6 == pytest.approx(params_m, abs=6e-4)
    assert cost.gmac == pytest.approx(gmac, abs=6e-3)
    assert cost.kmac_per_px == pytest.approx(kmac_per_px, abs=0.06)


@pytest.mark.parametrize(
    ("name", "shuffle", "width"), [("fast", 4, 32), ("base", 2, 32)]
)
def test_the_physics_image_costs_its_part_of_the_stem(
    name: str, shuffle: int, width: int
) -> None:
    with_physics = compute_cost(build_network(name))
    without = compute_cost(build_network(name, **TWO_INPUTS))
    weights = 3 * shuffle**2 * width * 9
    assert with_physics.params - without.params == weights
    assert with_physics.macs - without.macs == weights * (224 // shuffle) ** 2


def test_base_is_a_thirtieth_of_the_paper_network() -> None:
    ratio = compute_cost(build_network("tsva")).macs
    assert ratio / compute_cost(build_network("base")).macs > 30


def test_sizes_count_as_padded_and_shared_weights_each_time() -> None:
    network = build_network("tsva", base=4)
    padded = compute_cost(network, height_px=1024, width_px=1224)
    assert padded.macs == compute_cost(network, height_px=1024, width_px=1232).macs
    assert padded.conv_calls == 31
    assert compute_cost(build_network("tsva", base=4, reading="A")).conv_calls == 37


def test_counting_leaves_the_network_as_it_was() -> None:
    network = build_network("base")
    before = torch.clone(next(network.parameters()))
    compute_cost(network)
    assert network.training
    assert torch.equal(next(network.parameters()), before)
