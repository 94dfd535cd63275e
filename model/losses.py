"""Training losses: per-sample log-MSE with a Charbonnier part, and the paper's MSE.

The mean over log MSE is the mean over dB: a badly blurred tile does not drown those
that are nearly sharp, as it does in L1 or MSE, which then harm them (measurements:
network.md, section 4). The Charbonnier part (P. Charbonnier et al., ICIP 1994) speeds
up the hard tiles.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

LossName = Literal["log-mse-charbonnier", "mse"]
Loss = Callable[[Tensor, Tensor], Tensor]

# One grey level squared, over 12: a perfect 8-bit result; keeps the logarithm finite.
_QUANTISATION_MSE = 1 / 12 / 255**2
_CHARBONNIER_EPSILON = 1e-3
# Brings the mean absolute error (some 0.01) to the size of the logarithm's changes.
_CHARBONNIER_SCALE = 100.0


def compute_log_mse(fused: Tensor, truth: Tensor) -> Tensor:
    """Return the mean over samples of ln(MSE), images (B, C, H, W) in 0..1."""
    mse = (fused - truth).square().mean(dim=(1, 2, 3))
    return torch.log(mse + _QUANTISATION_MSE).mean()


def compute_charbonnier(fused: Tensor, truth: Tensor) -> Tensor:
    """Return the mean of sqrt(error^2 + epsilon^2), epsilon 1e-3."""
    return ((fused - truth).square() + _CHARBONNIER_EPSILON**2).sqrt().mean()


def compute_mse(fused: Tensor, truth: Tensor) -> Tensor:
    """Return the mean squared error: the paper's loss."""
    return (fused - truth).square().mean()


def make_loss(name: LossName, *, charbonnier_weight: float = 0.2) -> Loss:
    """Return the loss called `name`, a function of (fused, truth).

    Parameters
    ----------
    name
        `log-mse-charbonnier`, or `mse`.
    charbonnier_weight
        Weight of 100 times the Charbonnier loss beside ln(MSE); 0.1 to 0.3.
    """
    if name == "mse":
        return compute_mse

    def mixed(fused: Tensor, truth: Tensor) -> Tensor:
        smooth = _CHARBONNIER_SCALE * compute_charbonnier(fused, truth)
        return compute_log_mse(fused, truth) + charbonnier_weight * smooth

    return mixed
