"""What every network here shares: named inputs, padding inside, a residual at the end.

A network names the images it takes; `forward` pads them on the right and below to the
network's stride, computes, crops, and adds the image the network corrects. Padding
there only, never on the left or above, keeps the sampling grid tied to pixel (0, 0), so
that tiles cut at multiples of `stride` see the grid of the whole picture.
"""

from abc import ABC, abstractmethod
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from bifocus.errors import ConfigError

# sharper, other: the pair sorted by Brenner gradient, as the paper does; minus, plus:
# the pair in physical order, F-dD first; physics: the training-free fusion of the pair.
IMAGE_NAMES: Final = ("sharper", "other", "minus", "plus", "physics")
MIN_SIDE_PX: Final = 32  # below this, padding would be most of a 16-aligned image


class FusionNetwork(nn.Module, ABC):
    """A network from named images (B, 3, H, W) in 0..1 to one of that shape, unclamped.

    Attributes
    ----------
    inputs
        Names of the images `forward` takes, in this order, out of `IMAGE_NAMES`.
    stride
        The network's sampling grid in pixels; tiles start at multiples of it.
    residual_to
        The input which the network's output is added to; None for a direct output.
    config
        The frozen dataclass the network was built from.
    """

    inputs: tuple[str, ...]
    stride: int
    residual_to: str | None
    config: Any  # each family has its own dataclass

    def forward(self, *images: Tensor) -> Tensor:
        """Return the fused image (B, 3, H, W); H and W are any size from 32 px."""
        self._check_images(images)
        height, width = images[0].shape[-2:]
        padded = [pad_to_multiple(image, self.stride) for image in images]
        fused = self.compute(padded)[..., :height, :width]
        base = self.base_image(images)
        return fused if base is None else base + fused

    @abstractmethod
    def compute(self, images: list[Tensor]) -> Tensor:
        """Return the output (B, 3, H, W) before the residual; H, W fit the stride."""

    def base_image(self, images: tuple[Tensor, ...]) -> Tensor | None:
        """Return the image to which the output of `compute` is added, if any."""
        if self.residual_to is None:
            return None
        return images[self.inputs.index(self.residual_to)]

    def _check_images(self, images: tuple[Tensor, ...]) -> None:
        if len(images) != len(self.inputs):
            raise ConfigError(
                f"the network takes {len(self.inputs)} images "
                f"({', '.join(self.inputs)}), not {len(images)}"
            )
        height, width = images[0].shape[-2:]
        # The exporter's symbolic sizes carry their own lower bound.
        if isinstance(height, int) and min(height, width) < MIN_SIDE_PX:
            raise ConfigError(
                f"an image of {width}x{height} px is too small: "
                f"both sides must be at least {MIN_SIDE_PX} px"
            )


def pad_to_multiple(image: Tensor, stride: int) -> Tensor:
    """Return `image` (B, C, H, W) with its last row and column repeated to the stride.

    H and W of the result are the next multiples of `stride`.
    """
    height, width = image.shape[-2:]
    return functional.pad(
        image, (0, -width % stride, 0, -height % stride), mode="replicate"
    )


def init_convolutions(network: nn.Module) -> None:
    """Fill the convolutions for ReLU after He et al. 2015; biases are zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def silence_head(head: nn.Conv2d) -> None:
    """Set the last convolution to zero, so that step 0 returns the base image."""
    with torch.no_grad():
        head.weight.zero_()
        if head.bias is not None:
            head.bias.zero_()
