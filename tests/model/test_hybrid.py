"""The bifocus family: costs of the reference, the first step, ablations, sizes."""

import pytest
import torch

from bifocus.errors import ConfigError
from bifocus.model.fusion_network import FusionNetwork
from bifocus.model.hybrid import HybridConfig, HybridNet
from bifocus.model.network_registry import NETWORKS, build_network, network_config

TIERS = ("fast", "base", "large")
HYBRIDS = (*TIERS, "base-one-shot", "base-late", "base-no-physics")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def _images(network: FusionNetwork, height: int, width: int) -> list[torch.Tensor]:
    return [torch.rand(2, 3, height, width) for _ in network.inputs]


@pytest.mark.parametrize("name", HYBRIDS)
def test_step_zero_is_the_base_image_exactly(name: str) -> None:
    network = build_network(name)
    images = _images(network, 45, 61)
    assert network.residual_to is not None
    base = images[network.inputs.index(network.residual_to)]
    assert torch.equal(network(*images), base)


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("base", ("minus", "plus", "physics")),
        ("base-late", ("minus", "plus", "physics")),
        ("base-no-physics", ("sharper", "other")),
        ("base-one-shot", ("sharper",)),
    ],
)
def test_the_inputs_tell_what_an_ablation_may_see(
    name: str, inputs: tuple[str, ...]
) -> None:
    assert build_network(name).inputs == inputs


def test_one_step_of_training_reaches_every_weight_after_the_head() -> None:
    network = build_network("base-late", widths=(8, 16), blocks=(1, 1))
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    images = _images(network, 32, 32)
    for _ in range(2):  # the first step wakes the head, the second what is before it
        optimiser.zero_grad()
        (network(*images) - 0.5).square().mean().backward()
        optimiser.step()
    silent = [
        name
        for name, weight in network.named_parameters()
        if weight.grad is None or not weight.grad.abs().sum() > 0
    ]
    assert silent == []


@pytest.mark.parametrize("name", HYBRIDS)
def test_variance_stays_of_order_one_at_the_start(name: str) -> None:
    network = build_network(name)
    assert isinstance(network, HybridNet)
    features: list[torch.Tensor] = []
    network.decoder.head.register_forward_pre_hook(
        lambda _module, inputs: features.append(inputs[0])
    )
    network(*_images(network, 64, 64))
    assert 0.2 < features[0].detach().std().item() < 5


def test_each_image_of_a_batch_is_computed_for_itself() -> None:
    network = _awake("base").eval()
    images = _images(network, 64, 48)
    with torch.no_grad():
        together = network(*images)
        alone = network(*(image[1:] for image in images))
    torch.testing.assert_close(together[1:], alone, rtol=0, atol=1e-6)


def test_padding_inside_equals_a_padded_larger_image() -> None:
    # Away from the border: the radius of one coarse level is below 24 px (probed).
    network = _awake("base", widths=(8, 8), blocks=(1, 1)).eval()
    images = _images(network, 160, 163)
    with torch.no_grad():
        small = network(*(image[..., :101, :99] for image in images))
        large = network(*images)[..., :101, :99]
    inside = (..., slice(0, 101 - 32), slice(0, 99 - 32))
    torch.testing.assert_close(small[inside], large[inside], rtol=0, atol=1e-6)


def test_bad_shapes_are_refused_in_words() -> None:
    network = build_network("base")
    image = torch.rand(1, 3, 64, 64)
    with pytest.raises(ConfigError, match=r"3 images \(minus, plus, physics\), not 2"):
        network(image, image)
    with pytest.raises(ConfigError, match="48x31 px is too small"):
        network(*[image[..., :31, :48]] * 3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shuffle": 3}, "shuffle is 3"),
        ({"blocks": (1, 1)}, "equally long"),
        ({"use_second_shot": False, "is_late_fusion": True}, "second shot"),
        ({"depth": 4}, "has no depth"),
    ],
)
def test_bad_configurations_are_refused_in_words(
    changes: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        network_config("base", **changes)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError) as caught:
        build_network("bse")
    assert all(name in str(caught.value) for name in NETWORKS)


def test_lists_of_a_config_file_count_as_tuples() -> None:
    config = network_config("base", widths=[8, 16], blocks=[1, 2])
    assert config == HybridConfig(widths=(8, 16), blocks=(1, 2))


def _awake(name: str, **overrides: object) -> FusionNetwork:
    network = build_network(name, **overrides)
    assert isinstance(network, HybridNet)
    torch.nn.init.normal_(network.decoder.head.weight, std=0.002)
    return network
