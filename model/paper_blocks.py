"""The pieces of the U-shaped reference networks, and batch normalisation folded away.

Paper: arXiv 2003.06630, section II and Fig. 4: levels of 3x3 convolutions with ReLU,
2x2 max pooling, and steps of up-sampling with a 2x2 convolution. Batch normalisation,
where it is on, stands between each 3x3 convolution and its ReLU; `fold_batch_norm`
removes it for export.
"""

import dataclasses
import itertools
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from bifocus.model.fusion_network import FusionNetwork

N_POOLINGS = 4  # the paper's; with them sizes are padded to multiples of 16
PaperNetwork = TypeVar("PaperNetwork", bound=FusionNetwork)


class ConvUnit(nn.Module):
    """3x3 convolution, optional batch norm, ReLU: (B, C, H, W) to (B, C', H, W)."""

    def __init__(self, n_in: int, n_out: int, *, batch_norm: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, 3, padding=1)
        self.norm = nn.BatchNorm2d(n_out) if batch_norm else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """Return the features (B, C', H, W)."""
        return torch.relu(self.norm(self.conv(features)))


class UpConv(nn.Module):
    """Nearest up-sampling by 2, then a 2x2 convolution: (B, C, H, W) to 2H, 2W."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, 2)

    def forward(self, features: Tensor) -> Tensor:
        """Return the features (B, C', 2H, 2W); a zero row and column close the size."""
        fine = functional.interpolate(features, scale_factor=2.0, mode="nearest")
        up: Tensor = self.conv(functional.pad(fine, (0, 1, 0, 1)))
        return up


def conv_units(n_in: int, n_out: int, count: int, *, batch_norm: bool) -> nn.Sequential:
    """Return `count` units in a row, the first from `n_in`, all to `n_out` channels."""
    widths = [n_in] + [n_out] * count
    return nn.Sequential(
        *(
            ConvUnit(before, after, batch_norm=batch_norm)
            for before, after in itertools.pairwise(widths)
        )
    )


class ContractingPath(nn.Module):
    """Levels of two units with 2x2 max pooling between: one map per level."""

    def __init__(
        self, n_in: int, base: int, n_levels: int, *, batch_norm: bool
    ) -> None:
        super().__init__()
        widths = [n_in] + [base * 2**i for i in range(n_levels)]
        self.levels = nn.ModuleList(
            conv_units(before, after, 2, batch_norm=batch_norm)
            for before, after in itertools.pairwise(widths)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return maps (B, base 2^i, H / 2^i, W / 2^i) of the image (B, C, H, W)."""
        maps: list[Tensor] = [self.levels[0](image)]
        for level in self.levels[1:]:
            maps.append(level(functional.max_pool2d(maps[-1], 2)))
        return maps


class ExpansiveStep(nn.Module):
    """Up-convolution, concatenation with the skips, and units."""

    def __init__(
        self, n_in: int, n_out: int, *, n_skips: int, n_units: int, batch_norm: bool
    ) -> None:
        super().__init__()
        self.up = UpConv(n_in, n_out)
        self.units = conv_units(
            (1 + n_skips) * n_out, n_out, n_units, batch_norm=batch_norm
        )

    def forward(self, coarse: Tensor, *skips: Tensor) -> Tensor:
        """Return the level above `coarse`, (B, n_out, 2H, 2W), the skips' size."""
        fine: Tensor = self.units(torch.cat([self.up(coarse), *skips], dim=1))
        return fine


def fold_batch_norm(network: PaperNetwork) -> PaperNetwork:
    """Return an equal network without batch normalisation, in evaluation mode.

    With running mean m, variance v, scale g and shift b, a convolution (W, c) becomes
    (k W, k (c - m) + b), k = g / sqrt(v + eps). A network without it is copied.
    """
    config = dataclasses.replace(network.config, batch_norm=False)
    folded = type(network)(config).to(next(network.parameters()))
    state = {
        name: tensor
        for name, tensor in network.state_dict().items()
        if ".norm." not in name
    }
    for name, unit in network.named_modules():
        if isinstance(unit, ConvUnit) and isinstance(unit.norm, nn.BatchNorm2d):
            weight, bias = _folded_pair(unit.conv, unit.norm)
            state[f"{name}.conv.weight"], state[f"{name}.conv.bias"] = weight, bias
    folded.load_state_dict(state)
    return folded.eval()


def _folded_pair(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    mean, variance, bias = norm.running_mean, norm.running_var, conv.bias
    if mean is None or variance is None or bias is None:
        raise ValueError("batch norm without running statistics cannot be folded")
    gain = norm.weight.double() / torch.sqrt(variance.double() + norm.eps)
    weight = conv.weight.double() * gain[:, None, None, None]
    shift = gain * (bias.double() - mean.double()) + norm.bias.double()
    return weight.to(conv.weight).detach(), shift.to(conv.weight).detach()
