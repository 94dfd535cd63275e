"""A stem that learns on centred images, and is saved as the convolution it equals.

Shots and physics image are bright and nearly alike. On them as they are, the first
thousand steps drive all channels one way, and most ReLUs of the coarsest level close
for good: 90 % of the channels of `base`, all of those of `fast`, were dead so. In
training the stem therefore works on the base image about grey and on the others'
differences to it. Both are linear in the images, so that a plain convolution takes its
place after.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from bifocus.model.fusion_network import FusionNetwork
from bifocus.model.hybrid import HybridNet

# About the mean of stained tissue, and what brings differences to the size of detail.
_GREY = 0.7
_DIFFERENCE_GAIN = 4.0


class CentredStem(nn.Module):
    """Stands for a stem convolution (B, n 3 s^2, H, W) -> (B, C, H, W) in training.

    Parameters
    ----------
    plain
        The convolution to replace.
    n_images, base
        How many images its channels hold, and which of them is the base image.
    is_fresh
        Take the weights, freshly drawn, as those for centred images; else compute the
        weights that leave the output as it is.
    """

    def __init__(
        self, plain: nn.Conv2d, *, n_images: int, base: int, is_fresh: bool
    ) -> None:
        super().__init__()
        self._n_images, self._base = n_images, base
        assert plain.bias is not None
        weight, bias = plain.weight.detach().clone(), plain.bias.detach().clone()
        if not is_fresh:
            parts = list(weight.chunk(n_images, dim=1))
            total = torch.stack(parts).sum(dim=0)
            parts = [part / _DIFFERENCE_GAIN for part in parts]
            parts[base] = total
            weight = torch.cat(parts, dim=1)
            bias = bias + _GREY * total.sum(dim=(1, 2, 3))
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return the features of images as they are, (B, n 3 s^2, H, W)."""
        weight, bias = self._plain_weights()
        features: Tensor = functional.conv2d(images, weight, bias, padding=1)
        return features

    def plain(self) -> nn.Conv2d:
        """Return the convolution that computes the same."""
        weight, bias = self._plain_weights()
        plain = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
        plain.load_state_dict({"weight": weight.detach(), "bias": bias.detach()})
        return plain.to(weight.device)

    def _plain_weights(self) -> tuple[Tensor, Tensor]:
        parts = list(self.weight.chunk(self._n_images, dim=1))
        centre = parts[self._base]
        parts = [_DIFFERENCE_GAIN * part for part in parts]
        others = [part for i, part in enumerate(parts) if i != self._base]
        parts[self._base] = centre - sum(others, torch.zeros_like(centre))
        bias = self.bias - _GREY * centre.sum(dim=(1, 2, 3))
        return torch.cat(parts, dim=1), bias


def centre_stem(network: FusionNetwork, *, is_fresh: bool) -> None:
    """Let a hybrid network's stem learn on centred images; leave others as they are."""
    if not isinstance(network, HybridNet):
        return
    names = list(network.inputs)
    if network.config.is_late_fusion:  # each pass sees one shot, then what is shared
        names = names[1:]
    base = names.index(network.residual_to) if network.residual_to in names else 0
    centred = CentredStem(
        network.encoder.stem, n_images=len(names), base=base, is_fresh=is_fresh
    )
    network.encoder.register_module("stem", centred)


def uncentre_stem(network: FusionNetwork) -> None:
    """Put the plain convolution in the place of a stem that was centred."""
    if isinstance(network, HybridNet):
        stem: nn.Module = network.encoder.stem
        if isinstance(stem, CentredStem):
            network.encoder.register_module("stem", stem.plain())
