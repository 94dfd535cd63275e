"""The burst U-Net: the order of the shots does not matter, their number neither."""

import itertools

import pytest
import torch

from bifocus.model.burst_unet import BurstUNet, BurstUNetConfig, max_over_shots


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.mark.parametrize("residual", [False, True])
def test_swapped_shots_give_the_same_image(residual: bool) -> None:
    network = BurstUNet(BurstUNetConfig(base=4, residual=residual)).eval()
    minus, plus = torch.rand(2, 2, 3, 45, 61)
    with torch.no_grad():
        torch.testing.assert_close(
            network(minus, plus), network(plus, minus), rtol=0, atol=1e-6
        )


def test_three_shots_in_any_order_give_the_same_image() -> None:
    network = BurstUNet(BurstUNetConfig(base=2)).eval()
    shots = list(torch.rand(3, 1, 3, 32, 48))
    with torch.no_grad():
        first, *others = (
            network.compute(list(order)) for order in itertools.permutations(shots)
        )
    assert len(others) == 5
    for other in others:
        torch.testing.assert_close(other, first, rtol=0, atol=1e-6)


def test_a_second_shot_is_heard() -> None:
    network = BurstUNet(BurstUNetConfig(base=4)).eval()
    minus, plus = torch.rand(2, 1, 3, 48, 48)
    with torch.no_grad():
        change = (network(minus, plus) - network(minus, minus)).abs().max()
    assert float(change) > 1e-3


def test_the_maximum_is_taken_pixel_by_pixel() -> None:
    shots = list(torch.rand(4, 2, 3, 5, 5))
    assert torch.equal(max_over_shots(shots), torch.stack(shots).amax(0))
