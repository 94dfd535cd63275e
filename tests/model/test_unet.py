"""The single-shot baseline, as published and with the residual that makes it fair."""

import pytest
import torch
from torch import nn

from bifocus.errors import ConfigError
from bifocus.model.network_cost import compute_cost
from bifocus.model.network_registry import build_network
from bifocus.model.unet import UNet, UNetConfig


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.mark.parametrize("residual", [False, True])
def test_with_a_silent_head_only_the_fair_copy_returns_its_input(
    residual: bool,
) -> None:
    network = UNet(UNetConfig(base=2, residual=residual))
    nn.init.zeros_(network.head.weight)
    shot = torch.rand(1, 3, 45, 61)
    assert network.inputs == ("sharper",)
    expected = shot if residual else torch.zeros_like(shot)
    assert torch.equal(network(shot), expected)


def test_it_has_the_parameters_of_the_u_net() -> None:
    # Ronneberger et al. 2015, 64 to 1024 channels: weights and biases level by level.
    widths = [64, 128, 256, 512, 1024]
    down = sum(
        9 * w * (w + v) + 2 * w for v, w in zip([3, *widths], widths, strict=False)
    )
    up = sum(8 * w * w + 27 * w * w + 3 * w for w in widths[:-1])
    params = compute_cost(build_network("unet", batch_norm=False)).params
    assert params == down + up + 3 * 64 + 3


def test_the_two_copies_differ_in_the_residual_alone() -> None:
    plain, fair = (compute_cost(build_network(n)) for n in ("unet", "unet-residual"))
    assert plain == fair


def test_bad_width_is_refused() -> None:
    with pytest.raises(ConfigError, match="base is 0"):
        UNetConfig(base=0)
