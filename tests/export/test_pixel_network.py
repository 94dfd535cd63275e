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
    picture_inputs,
    repeat_last_picture,
)
from bifocus.export.runtimes import torch_engine
from bifocus.model.fusion_network import FusionNetwork
from bifocus.model.hybrid import HybridNet
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
        for key in picture_inputs(network)
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


def random_pictures(network: FusionNetwork) -> list[torch.Tensor]:
    torch.manual_seed(3)
    size = (1, 48, 64, 3)
    return [
        torch.randint(0, 256, size, dtype=torch.uint8) for _ in picture_inputs(network)
    ]


@pytest.mark.parametrize("is_half", [False, True])
def test_the_residual_is_added_to_the_fraction_as_well(is_half: bool) -> None:
    network = awake_network("base")
    assert isinstance(network, HybridNet)
    pictures = random_pictures(network)
    exact = pictures[2].double() + (pictures[3].double() - 128) / 256
    for levels in (0.0, 0.4):
        with torch.no_grad():
            network.decoder.head.weight.zero_()
            assert network.decoder.head.bias is not None
            network.decoder.head.bias.fill_(levels / 255)
            fused = PixelNetwork(network, is_half=is_half)(*pictures).double()
        wanted = (exact + levels).clamp(0, 255)
        # 0.4 in half precision is 0.4 to 1/4000 of it.
        assert float((fused - wanted).abs().max()) <= 0.5 + 1e-3
        raised = (fused > pictures[2]).double().mean()
        assert float(raised) == pytest.approx(levels, abs=0.03)


def test_a_half_core_is_given_the_fraction_unrounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = PixelNetwork(awake_network("base"), is_half=True)
    pictures = random_pictures(awake_network("base"))
    seen: list[torch.Tensor] = []

    def compute(images: list[torch.Tensor]) -> torch.Tensor:
        seen.extend(images)
        return torch.zeros_like(images[0])

    monkeypatch.setattr(module.network, "compute", compute)
    module(*pictures)
    assert {image.dtype for image in seen} == {torch.float16}
    levels = [image.double().permute(0, 2, 3, 1) * 256 for image in seen]
    exact = pictures[2].double() + (pictures[3].double() - 128) / 256
    assert torch.equal(levels[2] + levels[3], exact)
    # In one picture, half precision holds a bright level to 1/8 only.
    assert not torch.equal((exact / 256).half().double() * 256, exact)


def test_a_picture_in_two_is_their_sum_to_the_convolution() -> None:
    torch.manual_seed(4)
    conv = nn.Conv2d(9, 5, 4, stride=2, padding=1)
    image, part = torch.rand(1, 9, 16, 24), torch.rand(1, 3, 16, 24)
    joined = torch.cat([image[:, :6], image[:, 6:] + part], dim=1)
    with torch.no_grad():
        expected = conv(joined)
        repeat_last_picture(conv)
        found = conv(torch.cat([image, part], dim=1))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_only_networks_on_physics_take_a_remainder() -> None:
    shots = ("minus", "plus")
    assert picture_inputs(awake_network("base")) == (*shots, "physics", "remainder")
    assert picture_inputs(awake_network("tsva")) == ("sharper", "other")
    network = awake_network("base")
    network.inputs = ("physics", *shots)
    with pytest.raises(ConfigError, match="physics must be the last input"):
        picture_inputs(network)


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
    with pytest.raises(ConfigError, match="takes 4 pictures"):
        module(picture, picture)
    small = picture[:, :16]
    with pytest.raises(ConfigError, match="64x16 px is too small"):
        module(small, small, small, small)
