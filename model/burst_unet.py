"""Burst U-Net: any order of shots gives the same image, by pooling across the shots.

Source: M. Aittala and F. Durand, "Burst image deblurring using permutation invariant
convolutional neural networks", ECCV 2018: every shot runs through one U-Net with shared
weights; after each level the maximum over the shots is handed back to each of them; at
the end the shots are merged by their maximum. The paper of TSVA compares with it.
Widths and poolings are TSVA's, so that the two differ in how shots meet.
"""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from bifocus.errors import ConfigError
from bifocus.model.fusion_network import FusionNetwork, init_convolutions
from bifocus.model.paper_blocks import N_POOLINGS, ExpansiveStep, conv_units


@dataclass(frozen=True, slots=True, kw_only=True)
class BurstUNetConfig:
    """The shape: channels of the first level, batch norm, residual to the mean shot.

    The mean is the one base image that keeps the order of the shots out; Aittala and
    Durand have no residual (the default).
    """

    base: int = 64
    batch_norm: bool = True
    residual: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        if self.base < 1:
            raise ConfigError(f"base is {self.base}; it must be at least 1")


class Exchange(nn.Module):
    """Each shot learns the maximum over the shots: [own, maximum], 1x1, ReLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * width, width, 1)

    def forward(self, shots: list[Tensor]) -> list[Tensor]:
        """Return as many maps (B, C, H, W) as came in."""
        largest = max_over_shots(shots)
        return [
            torch.relu(self.conv(torch.cat([own, largest], dim=1))) for own in shots
        ]


class BurstUNet(FusionNetwork):
    """Two shots in any order to one image; `compute` takes more.

    Parameters
    ----------
    config
        The shape; the defaults have TSVA's widths.
    """

    def __init__(self, config: BurstUNetConfig | None = None) -> None:
        super().__init__()
        config = config or BurstUNetConfig()
        self.config: BurstUNetConfig = config
        self.inputs = ("minus", "plus")
        self.residual_to = None  # see base_image
        self.stride = 2**N_POOLINGS
        base, batch_norm = config.base, config.batch_norm
        widths = [base * 2**i for i in range(N_POOLINGS + 1)]
        self.contracting = nn.ModuleList(
            conv_units(before, after, 2, batch_norm=batch_norm)
            for before, after in zip([3, *widths], widths, strict=False)
        )
        self.down_exchanges = nn.ModuleList(Exchange(width) for width in widths)
        self.expansive = nn.ModuleList(
            ExpansiveStep(coarse, fine, n_skips=1, n_units=2, batch_norm=batch_norm)
            for fine, coarse in reversed(list(itertools.pairwise(widths)))
        )
        self.up_exchanges = nn.ModuleList(Exchange(width) for width in widths[-2::-1])
        self.merged = conv_units(base, base, 1, batch_norm=batch_norm)
        self.head = nn.Conv2d(base, 3, 1)
        init_convolutions(self)

    def compute(self, images: list[Tensor]) -> Tensor:
        """Return the image (B, 3, H, W) of any number of shots (B, 3, H, W)."""
        levels = self._contract(images)
        shots = levels[-1]
        steps = zip(self.expansive, self.up_exchanges, levels[-2::-1], strict=True)
        for step, exchange, skips in steps:
            pairs = zip(shots, skips, strict=True)
            shots = exchange([step(coarse, skip) for coarse, skip in pairs])
        fused: Tensor = self.head(self.merged(max_over_shots(shots)))
        return fused

    def base_image(self, images: tuple[Tensor, ...]) -> Tensor | None:
        """Return the mean of the shots (B, 3, H, W) if the network is residual."""
        return torch.stack(images).mean(0) if self.config.residual else None

    def _contract(self, images: list[Tensor]) -> list[list[Tensor]]:
        """Return per level, finest first, the map of each shot."""
        levels: list[list[Tensor]] = []
        shots = images
        for units, exchange in zip(self.contracting, self.down_exchanges, strict=True):
            if levels:
                shots = [functional.max_pool2d(shot, 2) for shot in shots]
            shots = exchange([units(shot) for shot in shots])
            levels.append(shots)
        return levels


def max_over_shots(shots: list[Tensor]) -> Tensor:
    """Return the pixelwise maximum (B, C, H, W) of maps of that shape."""
    largest = shots[0]
    for shot in shots[1:]:
        largest = torch.maximum(largest, shot)
    return largest
