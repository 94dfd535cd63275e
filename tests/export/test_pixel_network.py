"""Networks in bytes: equal to the network itself, whatever was merged or rescaled."""

import numpy as np
import pytest
import torch
from torch import nn

from bifocus.errors import ConfigError
from bifocus.export.pixel_network import (
    PixelNetwork,
    first_convolution,
    merge_unshuffle,
)
from bifocus.export.runtimes import torch_engine
from bifocus.model.fusion_network import FusionNetwork
from tests.export.small_networks import NARROW, awake_network


@pytest.mark.parametrize("name", NARROW)
@pytest.mark.parametrize("size_px", [(48, 64), (45, 77)])
def test_bytes_in_give_the_networks_own_bytes(
    name: str, size_px: tuple[int, int]
) -> None:
    network = awake_network(name)
    rng = np.random.default_rng(0)
    pictures = {
        key: rng.integers(0, 256, (2, *size_px, 3), dtype=np.uint8)
        for key in network.inputs
    }
    before = {key: value.clone() for key, value in network.state_dict().items()}
    module = PixelNetwork(network)
    with torch.no_grad():
        fused = module(*map(torch.from_numpy, pictures.values())).numpy()
    expected = torch_engine(network)(pictures)
    # Sums in another order: only a value on the edge of two levels may turn.
    error = np.abs(fused.astype(int) - expected)
    assert error.max() <= 1
    assert (error > 0).mean() < 1e-3
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])


@pytest.mark.parametrize("factor", [2, 4])
def test_a_merged_stem_is_the_shuffle_and_the_convolution(factor: int) -> None:
    torch.manual_seed(1)
    stem = nn.Conv2d(6 * factor**2, 5, 3, padding=1)
    image = torch.rand(1, 6, 8 * factor, 12 * factor)
    with torch.no_grad():
        expected = stem(nn.functional.pixel_unshuffle(image, factor))
        merged = merge_unshuffle(factor, stem)(image)
    torch.testing.assert_close(merged, expected, rtol=1e-5, atol=1e-5)


def test_the_half_core_gets_its_pictures_exactly() -> None:
    # 256 levels over 256 are exact in half precision; over 255 they are not.
    levels = torch.arange(256)
    assert torch.equal((levels / 256).half().float(), levels / 256)
    assert not torch.equal((levels / 255).half().float(), levels / 255)


def test_a_family_that_is_unknown_is_refused() -> None:
    class Other(FusionNetwork):
        inputs = ("sharper",)
        stride = 1
        residual_to = None
        config = None

        def compute(self, images: list[torch.Tensor]) -> torch.Tensor:
            return images[0]

    with pytest.raises(ConfigError, match="family Other cannot be exported"):
        first_convolution(Other())


def test_a_wrong_number_or_size_of_pictures_is_refused() -> None:
    module = PixelNetwork(awake_network("base"))
    picture = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    with pytest.raises(ConfigError, match="takes 3 pictures"):
        module(picture, picture)
    small = picture[:, :16]
    with pytest.raises(ConfigError, match="64x16 px is too small"):
        module(small, small, small)
