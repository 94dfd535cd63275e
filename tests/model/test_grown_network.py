"""A grown network is the one that it grew from, until it is trained."""

from pathlib import Path

import pytest
import torch

from bifocus.errors import ConfigError
from bifocus.model.checkpoint import save_checkpoint
from bifocus.model.network_registry import build_network
from bifocus.model.starting_network import start_network
from bifocus.model.train_config import TrainConfig

torch.set_num_threads(1)


def save_trained(path: Path, name: str) -> torch.nn.Module:
    """Save a network whose every weight counts, as after training."""
    torch.manual_seed(3)
    network = build_network(name)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    save_checkpoint(path, network, name=name, config={}, training={})
    return network.eval()


def make_config(network: str, start: Path) -> TrainConfig:
    return TrainConfig(
        network=network,
        initial_weights=start,
        train_stores=(Path("none"),),
        validation_share=0.1,
        steps=1,
    )


def test_large_starts_as_base_and_can_learn(tmp_path: Path) -> None:
    base = save_trained(tmp_path / "base.safetensors", "base")
    large = start_network(make_config("large", tmp_path / "base.safetensors"))
    images = [torch.rand(1, 3, 40, 48) for _ in large.inputs]
    torch.testing.assert_close(large.eval()(*images), base(*images), atol=1e-5, rtol=0)
    large.train()(*images).square().mean().backward()
    silent = [
        name
        for name, parameter in large.named_parameters()
        if ".second.weight" in name
        and (parameter.grad is None or not parameter.grad.abs().sum() > 0)
    ]
    assert not silent


@pytest.mark.parametrize("other", ["fast", "base-late"])
def test_another_family_is_refused(tmp_path: Path, other: str) -> None:
    save_trained(tmp_path / "other.safetensors", other)
    with pytest.raises(ConfigError, match="nor one with fewer blocks"):
        start_network(make_config("base", tmp_path / "other.safetensors"))


def test_a_network_does_not_shrink(tmp_path: Path) -> None:
    save_trained(tmp_path / "large.safetensors", "large")
    with pytest.raises(ConfigError, match="nor one with fewer blocks"):
        start_network(make_config("base", tmp_path / "large.safetensors"))
