"""A trained network as the goal of a smaller one's training, beside the truth.

Most of a fused picture's error cannot be foretold from two shots: the noise in them is
lost detail. Against the truth a network learns under that noise; against a larger
network's pictures, which lack it, in far fewer steps (distillation: G. Hinton,
O. Vinyals and J. Dean, arXiv 1503.02531).

The teacher sees each batch turned and mirrored at random. Whoever follows it so learns
the mean of its pictures over all eight, which is nearer the truth than any of them.
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

    def fuse(self, batch: Batch, *, turn: int = 0, is_coarse: bool = False) -> Tensor:
        """Return the fused pictures (B, 3, H, W) of a batch.

        Parameters
        ----------
        batch
            As `PatchSet.draw_batch` gives it.
        turn
            0..7: what the network sees is turned by that many right angles, from 4 on
            mirrored as well; the pictures come back as the batch lies.
        is_coarse
            Compute in bfloat16.
        """
        images = [
            turned(batch[name].to(self._device), turn).contiguous(
                memory_format=torch.channels_last
            )
            for name in self._network.inputs
        ]
        kind = self._device.type
        with torch.no_grad(), torch.autocast(kind, torch.bfloat16, enabled=is_coarse):
            fused: Tensor = self._network(*images)
        return turned_back(fused.float(), turn)


def turned(images: Tensor, turn: int) -> Tensor:
    """Return images (B, C, H, W) turned, and from 4 on mirrored; `turn` 0..7."""
    images = torch.rot90(images, turn % 4, (2, 3))
    return images.flip(3) if turn >= 4 else images


def turned_back(images: Tensor, turn: int) -> Tensor:
    """Return what `turned` was given."""
    images = images.flip(3) if turn >= 4 else images
    return torch.rot90(images, -(turn % 4), (2, 3))
