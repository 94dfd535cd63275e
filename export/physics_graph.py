"""The physics fusion of a pair as one graph without Fourier transforms, for a device.

Shots go in as the camera gave them, the focused picture and the focal offset come out;
the optics are an input, so that one engine serves every instrument. All of it is
float32: powers of single rings reach below what half precision can hold.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from bifocus.export.block_transform import BlockTransform
from bifocus.export.moved_shot import move
from bifocus.export.offset_graph import OffsetGraph
from bifocus.export.shift_graph import ShiftGraph
from bifocus.export.wiener_graph import WienerGraph
from bifocus.pair_spectra import BlockLayout, layout_for


class Fused(NamedTuple):
    """What the graph gives; names are those of its outputs.

    Pictures are float32, (1, rows, columns, 3), whole levels 0..255, all on the pixel
    grid of the sharper shot; the rest are single numbers, but for ``shift_px`` (2,).
    ``clearest`` is the greatest weight of a block, 0..1: whether there is tissue.
    """

    physics: Tensor
    minus_moved: Tensor
    plus_moved: Tensor
    sharper: Tensor
    other: Tensor
    offset_um: Tensor
    sd_um: Tensor
    confidence: Tensor
    quality: Tensor
    sharper_is_plus: Tensor
    clearest: Tensor
    shift_px: Tensor


class PhysicsGraph(nn.Module):
    """`physics_fusion.fuse_two_shots` in linear light, for pictures of one size.

    Parameters
    ----------
    shape
        Rows and columns of the shots, both at least 64.
    n_offsets
        Offsets in the optics' tables.
    layout
        How pictures are cut; the one `bifocus.pair_spectra` takes unless given.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        n_offsets: int = 161,
        layout: BlockLayout | None = None,
    ) -> None:
        super().__init__()
        self.layout = layout or layout_for(shape)
        block_px = self.layout.block_px
        self.transform = BlockTransform(shape, self.layout)
        self.shift = ShiftGraph(shape)
        self.offset = OffsetGraph(self.layout.counts(shape), block_px, n_offsets)
        self.wiener = WienerGraph(block_px, n_offsets)

    def forward(
        self,
        minus: Tensor,
        plus: Tensor,
        transfer: Tensor,
        in_focus: Tensor,
        scale_um: Tensor,
        trust: Tensor,
    ) -> Fused:
        """Fuse one pair; see `bifocus.optics_inputs` for the last four.

        Parameters
        ----------
        minus, plus
            uint8, (1, rows, columns, 3).
        """
        first, second = minus.to(torch.float32)[0], plus.to(torch.float32)[0]
        plus_is_sharper = _brenner(second[..., 1]) > _brenner(first[..., 1])
        shots = torch.stack([first, second]).permute(0, 3, 1, 2) / 255
        shift = self.shift(shots)
        is_moved = torch.stack([plus_is_sharper, ~plus_is_sharper]).to(shots.dtype)
        moves = torch.stack([-shift, shift]) * is_moved[:, None]
        basis = self.transform.basis(moves)
        # One colour after the other: a third of the memory.
        blocks = [self.transform(shots[:, colour], *basis) for colour in range(3)]
        means = torch.stack([mean for _, mean in blocks], dim=1)
        light = _gain_of_light(means, plus_is_sharper)
        statistics = torch.stack(
            [self.transform.statistics(spectra) for spectra, _ in blocks], dim=1
        )
        power = torch.stack([light[0] ** 2, light[1] ** 2, light[0] * light[1]])
        statistics = statistics * power[:, :, None, None]
        offsets = self.offset(statistics, transfer, scale_um)
        found = self.wiener(
            statistics, offsets.local_steps, transfer, in_focus, scale_um, trust
        )
        gains = found.gains * light[:, :, None, None]
        level = (found.pick[:, None] * means * light[:, :, None]).sum(dim=0)
        picture = torch.stack(
            [
                self.transform.back(
                    self.transform.filtered(blocks[colour][0], gains[:, colour]),
                    level[colour],
                )
                for colour in range(3)
            ]
        ).clamp(0, 1)
        sharper = torch.where(plus_is_sharper, second, first)
        other = torch.where(plus_is_sharper, first, second)
        other = move(other, torch.where(plus_is_sharper, -shift, shift))
        return Fused(
            physics=(picture.permute(1, 2, 0) * 255 + 0.5).floor()[None],
            minus_moved=torch.where(plus_is_sharper, other, sharper)[None],
            plus_moved=torch.where(plus_is_sharper, sharper, other)[None],
            sharper=sharper[None],
            other=other[None],
            offset_um=offsets.offset_um,
            sd_um=offsets.sd_um,
            confidence=offsets.confidence,
            quality=found.quality,
            sharper_is_plus=plus_is_sharper.to(shots.dtype),
            clearest=offsets.clearest,
            shift_px=shift,
        )


def _gain_of_light(means: Tensor, plus_is_sharper: Tensor) -> Tensor:
    """Return what each shot is multiplied by, (shots, colours): 1 for the sharper."""
    brightness = means.mean(dim=2)
    target = torch.where(plus_is_sharper, brightness[1], brightness[0])
    return target / brightness.clamp(min=1e-6)


def _brenner(green: Tensor) -> Tensor:
    difference = green[:, 2:] - green[:, :-2]
    return (difference * difference).mean()
