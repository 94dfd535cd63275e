"""A trained network as the goal of a smaller one's training, in place of the truth.

Most of a fused picture's error cannot be foretold from two shots: the noise in them is
lost detail. Against the truth a network learns under that noise; against a larger
network's pictures, which lack it, in far fewer steps (distillation: G. Hinton,
O. Vinyals and J. Dean, arXiv 1503.02531).
"""

from pathlib import Path

import torch
from torch import Tensor

from bifocus.model.checkpoint import load_checkpoint
from bifocus.model.patch_batches import Batch


class Teacher:
    """The network of a checkpoint, which learns nothing itself.

    Parameters
    ----------
    path
        A checkpoint of any network.
    device
        Where batches are fused.

    Raises
    ------
    ConfigError, EngineError
        As `bifocus.model.checkpoint.load_checkpoint`.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        self._network = load_checkpoint(path).network.to(device).eval()
        self._network.requires_grad_(False)
        self._device = device

    def fuse(self, batch: Batch, *, is_coarse: bool = False) -> Tensor:
        """Return fused pictures (B, 3, H, W) of a batch; `is_coarse` for bfloat16."""
        images = [
            batch[name].to(self._device, memory_format=torch.channels_last)
            for name in self._network.inputs
        ]
        kind = self._device.type
        with torch.no_grad(), torch.autocast(kind, torch.bfloat16, enabled=is_coarse):
            fused: Tensor = self._network(*images)
        return fused.float()
