"""The bifocus family: a small plain network that corrects the physics image.

Pixel-unshuffle stem, 3x3 convolutions with ReLU in residual blocks, additive skips; no
normalisation, attention or global operation, so that batch, tile and padding do not
change a pixel beyond the receptive radius. The head starts at zero: before training the
output *is* the base image. Why each choice: reference/network.md, sections 2, 3 and 6.

Base image: the physics image if there is one, else the sharper shot.
"""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bifocus.errors import ConfigError
from bifocus.model.fusion_network import (
    FusionNetwork,
    init_convolutions,
    silence_head,
)

# Second convolutions start this small, so that 12 blocks in a row keep the variance.
_BRANCH_GAIN = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class HybridConfig:
    """The shape of a hybrid network.

    Parameters
    ----------
    shuffle
        Side in pixels of the square that the stem folds into channels: 2 or 4.
    widths
        Channels of each level, from the finest.
    blocks
        Residual blocks of each level; the decoder repeats all but the last.
    use_physics
        Take the physics image, and correct it; else correct the sharper shot.
    use_second_shot
        Take both shots; else the sharper one alone.
    is_late_fusion
        Give each shot its own pass of one shared encoder (the paper's topology) and
        merge the passes at every level by a 1x1 convolution.

    Notes
    -----
    The physics image is made of *both* shots: a one-shot ablation that must not see the
    second has ``use_physics=False`` as well.
    """

    shuffle: int = 2
    widths: tuple[int, ...] = (32, 64, 128)
    blocks: tuple[int, ...] = (1, 1, 2)
    use_physics: bool = True
    use_second_shot: bool = True
    is_late_fusion: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        if self.shuffle not in (2, 4):
            raise ConfigError(f"shuffle is {self.shuffle}; it must be 2 or 4")
        if not self.widths or len(self.widths) != len(self.blocks):
            raise ConfigError(
                f"widths {self.widths} and blocks {self.blocks} must be equally long"
            )
        if min(self.widths) < 1 or min(self.blocks) < 0:
            raise ConfigError("widths must be at least 1 and blocks at least 0")
        if self.is_late_fusion and not self.use_second_shot:
            raise ConfigError("late fusion needs the second shot")

    @property
    def shots(self) -> tuple[str, ...]:
        """Names of the shots: in physical order beside a physics image, else sorted."""
        if not self.use_second_shot:
            return ("sharper",)
        return ("minus", "plus") if self.use_physics else ("sharper", "other")


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))), 3x3 at one width: (B, C, H, W) to the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Return the features (B, C, H, W) with the branch added."""
        branch: Tensor = self.second(torch.relu(self.first(features)))
        return features + branch


class Encoder(nn.Module):
    """From images to one feature map per level, finest first."""

    def __init__(self, n_images: int, config: HybridConfig) -> None:
        super().__init__()
        widths = config.widths
        self.unshuffle = nn.PixelUnshuffle(config.shuffle)
        stem_channels = 3 * n_images * config.shuffle**2
        self.stem = nn.Conv2d(stem_channels, widths[0], 3, padding=1)
        self.downs = nn.ModuleList(
            nn.Conv2d(fine, coarse, 2, stride=2)
            for fine, coarse in itertools.pairwise(widths)
        )
        self.levels = nn.ModuleList(
            _residual_blocks(width, count)
            for width, count in zip(widths, config.blocks, strict=True)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the levels of images (B, 3 n, H, W); level i is H / (shuffle 2^i)."""
        features: Tensor = self.levels[0](self.stem(self.unshuffle(images)))
        pyramid = [features]
        for down, blocks in zip(self.downs, self.levels[1:], strict=True):
            pyramid.append(blocks(down(pyramid[-1])))
        return pyramid


class Decoder(nn.Module):
    """From the levels back to one image: up, add the skip, blocks, head."""

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        widths = config.widths
        # A 1x1 convolution before the shuffle: 4 fine pixels from each coarse one.
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv2d(coarse, 4 * fine, 1), nn.PixelShuffle(2))
            for fine, coarse in itertools.pairwise(widths)
        )
        self.levels = nn.ModuleList(
            _residual_blocks(width, count)
            for width, count in zip(widths[:-1], config.blocks[:-1], strict=True)
        )
        self.head = nn.Conv2d(widths[0], 3 * config.shuffle**2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(config.shuffle)

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        """Return the correction (B, 3, H, W) from the levels, finest first."""
        features = pyramid[-1]
        for i_level in reversed(range(len(self.ups))):
            features = self.ups[i_level](features) + pyramid[i_level]
            features = self.levels[i_level](features)
        correction: Tensor = self.shuffle(self.head(features))
        return correction


class HybridNet(FusionNetwork):
    """The network of the tiers fast, base and large, and of their ablations.

    Parameters
    ----------
    config
        The shape; the defaults are the tier "base".
    """

    def __init__(self, config: HybridConfig | None = None) -> None:
        super().__init__()
        config = config or HybridConfig()
        self.config: HybridConfig = config
        self.inputs = config.shots + (("physics",) if config.use_physics else ())
        self.residual_to = "physics" if config.use_physics else "sharper"
        self.stride = config.shuffle * 2 ** (len(config.widths) - 1)
        n_images = 1 + config.use_physics if config.is_late_fusion else len(self.inputs)
        self.encoder = Encoder(n_images, config)
        self.merges = nn.ModuleList(
            nn.Conv2d(2 * width, width, 1)
            for width in (config.widths if config.is_late_fusion else ())
        )
        self.decoder = Decoder(config)
        _init_hybrid(self)

    def compute(self, images: list[Tensor]) -> Tensor:
        """Return the correction (B, 3, H, W) to the base image."""
        if not self.config.is_late_fusion:
            early: Tensor = self.decoder(self.encoder(torch.cat(images, dim=1)))
            return early
        # Each pass sees one shot, beside the physics image where there is one.
        shots, shared = images[:2], images[2:]
        left, right = (self.encoder(torch.cat([shot, *shared], 1)) for shot in shots)
        pyramid = [
            merge(torch.cat(pair, dim=1))
            for merge, *pair in zip(self.merges, left, right, strict=True)
        ]
        late: Tensor = self.decoder(pyramid)
        return late


def _residual_blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(width) for _ in range(count)))


def _init_hybrid(network: HybridNet) -> None:
    init_convolutions(network)
    for module in network.modules():
        if isinstance(module, ResidualBlock):
            with torch.no_grad():
                module.second.weight.mul_(_BRANCH_GAIN)
    silence_head(network.decoder.head)
