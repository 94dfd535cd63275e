"""What a network costs: parameters and the exact multiply-adds of its convolutions.

Counted as in reference/network.md, section 2: one multiply-add per weight and output
pixel of every convolution that is run; additions, ReLU, pooling and batch normalisation
(folded for export) are free. Sizes are those after padding, as they are computed.
Multiply-adds do not predict seconds: measure those as well (section 3 there).
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bifocus.model.fusion_network import FusionNetwork


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkCost:
    """Parameters, and what one image of a size costs.

    Attributes
    ----------
    params
        Trained numbers; the statistics of batch normalisation are not.
    macs
        Multiply-adds of all convolutions for one image set.
    conv_calls
        Convolutions run; shared weights count each time.
    height_px, width_px
        The size of the images.
    """

    params: int
    macs: int
    conv_calls: int
    height_px: int
    width_px: int

    @property
    def gmac(self) -> float:
        """Multiply-adds in units of 10^9."""
        return self.macs / 1e9

    @property
    def kmac_per_px(self) -> float:
        """Multiply-adds per pixel of the image, in thousands."""
        return self.macs / (self.height_px * self.width_px) / 1e3


def compute_cost(
    network: FusionNetwork, *, height_px: int = 224, width_px: int = 224
) -> NetworkCost:
    """Return the cost of one image set; nothing is computed, only shapes are followed.

    Parameters
    ----------
    network
        Any network; it is not changed.
    height_px, width_px
        The images' size; 224 is the paper's patch.
    """
    shapes = copy.deepcopy(network).to("meta").eval()
    counts: list[int] = []

    def count(module: nn.Module, _inputs: Any, output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):  # weight: out, in / groups, rows, columns
            counts.append(output[0, 0].numel() * module.weight.numel())

    for module in shapes.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    image = torch.empty(1, 3, height_px, width_px, device="meta")
    with torch.no_grad():
        shapes(*[image] * len(network.inputs))
    return NetworkCost(
        params=sum(parameter.numel() for parameter in network.parameters()),
        macs=sum(counts),
        conv_calls=len(counts),
        height_px=height_px,
        width_px=width_px,
    )
