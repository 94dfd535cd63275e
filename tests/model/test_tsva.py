"""The paper's network: 27 layers in both readings, shared paths, batch norm folded."""

from typing import Literal

import pytest
import torch
from torch import nn

from bifocus.errors import ConfigError
from bifocus.model.fusion_network import FusionNetwork
from bifocus.model.network_registry import build_network
from bifocus.model.paper_blocks import fold_batch_norm
from bifocus.model.tsva import Tsva, TsvaConfig

READINGS: tuple[Literal["A", "B"], ...] = ("A", "B")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("batch_norm", [True, False])
def test_there_are_27_convolutional_layers(
    reading: Literal["A", "B"], batch_norm: bool
) -> None:
    config = TsvaConfig(base=2, reading=reading, batch_norm=batch_norm)
    assert Tsva(config).count_paper_layers() == 27


@pytest.mark.parametrize(("reading", "n_weights"), [("B", 23), ("A", 27)])
def test_weight_tensors(reading: Literal["A", "B"], n_weights: int) -> None:
    # Reading B counts 8 shared layers twice and leaves 4 up-convolutions out.
    network = Tsva(TsvaConfig(base=2, reading=reading))
    convs = [part for part in network.modules() if isinstance(part, nn.Conv2d)]
    assert len(convs) == n_weights


def test_both_shots_go_through_the_same_weights() -> None:
    network = Tsva(TsvaConfig(base=2)).eval()
    seen: list[torch.Tensor] = []
    network.contracting.register_forward_hook(
        lambda _module, _inputs, maps: seen.append(maps[-1])
    )
    shot = torch.rand(1, 3, 48, 48)
    network(shot, shot)
    assert len(seen) == 2
    assert torch.equal(*seen)


@pytest.mark.parametrize("reading", READINGS)
def test_output_is_the_sharper_shot_and_a_residual(
    reading: Literal["A", "B"],
) -> None:
    network = Tsva(TsvaConfig(base=2, reading=reading))
    nn.init.zeros_(network.head.weight)
    sharper, other = torch.rand(2, 1, 3, 45, 61)
    assert network.inputs == ("sharper", "other")
    assert torch.equal(network(sharper, other), sharper)


def test_the_default_is_the_paper() -> None:
    assert TsvaConfig() == TsvaConfig(base=64, reading="B", batch_norm=True)
    with pytest.raises(ConfigError, match="reading is 'C'"):
        build_network("tsva", reading="C")


@pytest.mark.parametrize("name", ["tsva", "unet", "unet-residual", "burst-unet"])
def test_folding_batch_norm_changes_nothing(name: str) -> None:
    network = build_network(name, base=4)
    _train_statistics(network)
    folded = fold_batch_norm(network)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.modules())
    assert folded.config.batch_norm is False
    images = [torch.rand(2, 3, 45, 61) for _ in network.inputs]
    with torch.no_grad():
        difference = (network.eval()(*images) - folded(*images)).abs().max()
        # The burst network adds the rounding of its 64 convolutions.
        assert float(difference) < (1e-4 if name == "burst-unet" else 1e-5)
        exact = fold_batch_norm(network.double())
        images = [image.double() for image in images]
        difference = (network(*images) - exact(*images)).abs().max()
        assert float(difference) < 1e-12  # so that the rest is rounding


def _train_statistics(network: FusionNetwork) -> None:
    """Fill running means and variances, and scales and shifts, as training would."""
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.2)
    spread = torch.ones(())
    with torch.no_grad():
        for _ in range(30):
            images = [torch.rand(2, 3, 64, 64) for _ in network.inputs]
            spread = network.compute(images).abs().max()
    head = network.get_submodule("head")
    assert isinstance(head, nn.Conv2d)
    head.weight.data *= 0.5 / spread  # an output of the size of a trained one's
