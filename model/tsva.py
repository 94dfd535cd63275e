"""The paper's network, TSVA: two shared contracting paths, one expansive, a residual.

Source: arXiv 2003.06630, section II and Fig. 4; the layer list that adds up to its "27
convolutional layers" is in reference/network.md, section 1. Two readings do:

B (default)
    Both contracting paths are counted, as drawn (4 levels x 2 convolutions x 2 paths);
    the deepest maps are pooled, concatenated, and meet 2 convolutions; 4 expansive
    steps of 2; a last 1x1. The 2x2 convolution counts as part of the up-sampling.
A
    Weights are counted once: 5 shared levels x 2; 4 steps of an up-convolution and 3
    convolutions; a last 1x1. The paths meet below their fifth level.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from bifocus.errors import ConfigError
from bifocus.model.fusion_network import FusionNetwork, init_convolutions
from bifocus.model.paper_blocks import (
    N_POOLINGS,
    ContractingPath,
    ExpansiveStep,
    conv_units,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TsvaConfig:
    """The shape of TSVA: channels of the first level (the paper's: 64) and switches."""

    base: int = 64
    reading: Literal["A", "B"] = "B"
    batch_norm: bool = True

    def __post_init__(self) -> None:
        """Check the values."""
        if self.reading not in ("A", "B"):
            raise ConfigError(f"reading is {self.reading!r}; it must be 'A' or 'B'")
        if self.base < 1:
            raise ConfigError(f"base is {self.base}; it must be at least 1")


class Tsva(FusionNetwork):
    """Two shots, the sharper first by Brenner gradient, to one image: Y1 + residual.

    Parameters
    ----------
    config
        The shape; the defaults are the paper's.
    """

    def __init__(self, config: TsvaConfig | None = None) -> None:
        super().__init__()
        config = config or TsvaConfig()
        self.config: TsvaConfig = config
        self.inputs = ("sharper", "other")
        self.residual_to = "sharper"
        self.stride = 2**N_POOLINGS
        base, batch_norm, is_b = config.base, config.batch_norm, config.reading == "B"
        n_levels = N_POOLINGS if is_b else N_POOLINGS + 1
        self.contracting = ContractingPath(3, base, n_levels, batch_norm=batch_norm)
        deepest = base * 2**N_POOLINGS
        self.bottleneck = (
            conv_units(deepest, deepest, 2, batch_norm=batch_norm)
            if is_b
            else nn.Sequential()
        )
        n_joined = deepest if is_b else 2 * deepest
        self.expansive = nn.ModuleList(
            ExpansiveStep(
                n_joined if i_level == N_POOLINGS - 1 else base * 2 ** (i_level + 1),
                base * 2**i_level,
                n_skips=2,
                n_units=2 if is_b else 3,
                batch_norm=batch_norm,
            )
            for i_level in reversed(range(N_POOLINGS))
        )
        self.head = nn.Conv2d(base, 3, 1)
        init_convolutions(self)

    def compute(self, images: list[Tensor]) -> Tensor:
        """Return the residual (B, 3, H, W) to the sharper shot; 16 divides H, W."""
        left, right = (self.contracting(image) for image in images)
        deepest = torch.cat([left[-1], right[-1]], dim=1)
        if self.config.reading == "B":
            # Pooling commutes with concatenation: one call for both paths.
            deepest = functional.max_pool2d(deepest, 2)
        features: Tensor = self.bottleneck(deepest)
        skips = list(zip(left, right, strict=True))[:N_POOLINGS]
        for step, pair in zip(self.expansive, reversed(skips), strict=True):
            features = step(features, *pair)
        residual: Tensor = self.head(features)
        return residual

    def count_paper_layers(self) -> int:
        """Return the convolutional layers as the chosen reading counts them: 27."""
        contracting = _count_convs(self.contracting)
        expansive = _count_convs(self.expansive)
        if self.config.reading == "A":
            return contracting + expansive + 1
        n_up_convs = len(self.expansive)
        paths = 2 * contracting
        return paths + _count_convs(self.bottleneck) + expansive - n_up_convs + 1


def _count_convs(module: nn.Module) -> int:
    return sum(isinstance(part, nn.Conv2d) for part in module.modules())
