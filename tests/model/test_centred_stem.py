"""The stem for centred images against the plain one, and against its own promise."""

import pytest
import torch

from bifocus.model.centred_stem import CentredStem, centre_stem, uncentre_stem
from bifocus.model.hybrid import HybridNet
from bifocus.model.network_registry import build_network

NARROW = {"widths": (6, 8), "blocks": (1, 1)}
NAMES = ("fast", "base", "base-one-shot", "base-late", "base-no-physics")


def build(name: str) -> HybridNet:
    torch.manual_seed(3)
    network = build_network(name, **NARROW)
    assert isinstance(network, HybridNet)
    with torch.no_grad():
        network.decoder.head.weight.normal_(std=0.1)
    return network


def pictures(network: HybridNet) -> list[torch.Tensor]:
    return [torch.rand(2, 3, 48, 40) for _ in network.inputs]


@pytest.mark.parametrize("name", NAMES)
def test_centring_given_weights_changes_no_pixel(name: str) -> None:
    network = build(name)
    images = pictures(network)
    before = network(*images)
    centre_stem(network, is_fresh=False)
    assert isinstance(network.encoder.stem, CentredStem)
    torch.testing.assert_close(network(*images), before, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_the_plain_convolution_computes_the_same(name: str) -> None:
    network = build(name)
    keys = list(network.state_dict())
    images = pictures(network)
    centre_stem(network, is_fresh=True)
    trained = network(*images)
    uncentre_stem(network)
    assert list(network.state_dict()) == keys
    torch.testing.assert_close(network(*images), trained, atol=1e-5, rtol=0)


def test_equal_grey_pictures_do_not_reach_a_fresh_stem() -> None:
    network = build("base")
    centre_stem(network, is_fresh=True)
    grey = torch.full((1, 36, 9, 9), 0.7)
    inside = network.encoder.stem(grey)[..., 1:-1, 1:-1]
    torch.testing.assert_close(inside, torch.zeros_like(inside), atol=1e-5, rtol=0)


def test_networks_of_other_families_are_left_alone() -> None:
    network = build_network("tsva", base=2)
    keys = list(network.state_dict())
    centre_stem(network, is_fresh=True)
    uncentre_stem(network)
    assert list(network.state_dict()) == keys
