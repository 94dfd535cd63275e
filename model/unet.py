"""The paper's single-shot baseline: a U-Net from the sharper shot to the focused one.

Sources: arXiv 2003.06630, section III (baseline); Ronneberger et al., MICCAI 2015. As
published it has no residual connection, which confounds "two shots beat one";
``residual=True`` is the fair copy (reference/network.md, section 0, finding 2).
"""

from dataclasses import dataclass

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
class UNetConfig:
    """The shape of the U-Net: channels of the first level, batch norm, residual."""

    base: int = 64
    batch_norm: bool = True
    residual: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        if self.base < 1:
            raise ConfigError(f"base is {self.base}; it must be at least 1")


class UNet(FusionNetwork):
    """One shot to one image, over 4 poolings.

    Parameters
    ----------
    config
        The shape; the defaults are the paper's baseline.
    """

    def __init__(self, config: UNetConfig | None = None) -> None:
        super().__init__()
        config = config or UNetConfig()
        self.config: UNetConfig = config
        self.inputs = ("sharper",)
        self.residual_to = "sharper" if config.residual else None
        self.stride = 2**N_POOLINGS
        base, batch_norm = config.base, config.batch_norm
        self.contracting = ContractingPath(3, base, N_POOLINGS, batch_norm=batch_norm)
        deepest = base * 2**N_POOLINGS
        self.bottleneck = conv_units(deepest // 2, deepest, 2, batch_norm=batch_norm)
        self.expansive = nn.ModuleList(
            ExpansiveStep(
                base * 2 ** (i_level + 1),
                base * 2**i_level,
                n_skips=1,
                n_units=2,
                batch_norm=batch_norm,
            )
            for i_level in reversed(range(N_POOLINGS))
        )
        self.head = nn.Conv2d(base, 3, 1)
        init_convolutions(self)

    def compute(self, images: list[Tensor]) -> Tensor:
        """Return the image, or the residual to the shot, (B, 3, H, W)."""
        maps = self.contracting(images[0])
        features: Tensor = self.bottleneck(functional.max_pool2d(maps[-1], 2))
        for step, skip in zip(self.expansive, reversed(maps), strict=True):
            features = step(features, skip)
        output: Tensor = self.head(features)
        return output
