"""The physics fusion of a pair as one graph without Fourier transforms, for a device.

Shots go in as the camera gave them, the focused picture and the focal offset come out;
the optics are an input, so that one engine serves every instrument. All of it is
float32: powers of single rings reach below what half precision can hold. As in NumPy a
pair is measured first, and then fused: each colour apart, or, for networks, together.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bifocus.block_fusion import Colours
from bifocus.export.block_transform import BlockTransform
from bifocus.export.joint_graph import JointGraph
from bifocus.export.moved_shot import move
from bifocus.export.offset_graph import OffsetGraph, Offsets
from bifocus.export.shift_graph import ShiftGraph
from bifocus.export.wiener_graph import Observed, WienerGraph, gains_apart
from bifocus.joint_colours import COLOUR_PAIRS
from bifocus.pair_spectra import BlockLayout, layout_for
from bifocus.tone import NO_REMAINDER, REMAINDER_STEPS


class Measured(NamedTuple):
    """A pair whose focal offsets are known: all that fusion still needs.

    ``spectra`` are those of each colour, (shots, blocks, 2 K, 2 K), ``light`` is what
    they are to be multiplied by, (shots, colours), ``level`` the mean of each block,
    (colours, blocks). Shots are as in `Fused`.
    """

    spectra: list[Tensor]
    light: Tensor
    level: Tensor
    seen: Observed
    trust: Tensor
    offsets: Offsets
    minus_moved: Tensor
    plus_moved: Tensor
    sharper: Tensor
    other: Tensor
    plus_is_sharper: Tensor
    shift_px: Tensor


class Fused(NamedTuple):
    """What the graph gives; names are those of its outputs.

    Pictures are float32, (1, rows, columns, 3), whole levels 0..255, all on the pixel
    grid of the sharper shot; the rest are single numbers, but for ``shift_px`` (2,).
    ``physics`` is made of each colour apart, ``joint``, which networks start from, of
    the three together; ``joint_remainder`` is what the latter lost by rounding
    (`bifocus.tone.encode_remainder`).
    ``clearest`` is the greatest weight of a block, 0..1: whether there is tissue.
    """

    physics: Tensor
    joint: Tensor
    joint_remainder: Tensor
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
        self.together = JointGraph()

    def forward(
        self,
        minus: Tensor,
        plus: Tensor,
        transfer: Tensor,
        in_focus: Tensor,
        scale_um: Tensor,
        trust: Tensor,
    ) -> Fused:
        """Fuse one pair both ways; parameters are those of `measure`."""
        measured = self.measure(minus, plus, transfer, in_focus, scale_um, trust)
        joint, joint_remainder = rounded(self.levels(measured, "together"))
        return Fused(
            physics=rounded(self.levels(measured, "apart"))[0],
            joint=joint,
            joint_remainder=joint_remainder,
            minus_moved=measured.minus_moved,
            plus_moved=measured.plus_moved,
            sharper=measured.sharper,
            other=measured.other,
            offset_um=measured.offsets.offset_um,
            sd_um=measured.offsets.sd_um,
            confidence=measured.offsets.confidence,
            quality=measured.seen.quality,
            sharper_is_plus=measured.plus_is_sharper.to(torch.float32),
            clearest=measured.offsets.clearest,
            shift_px=measured.shift_px,
        )

    def measure(
        self,
        minus: Tensor,
        plus: Tensor,
        transfer: Tensor,
        in_focus: Tensor,
        scale_um: Tensor,
        trust: Tensor,
    ) -> Measured:
        """Transform, align and read one pair; optics as in `bifocus.optics_inputs`.

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
        seen = self.wiener(
            statistics, offsets.local_steps, transfer, in_focus, scale_um
        )
        sharper = torch.where(plus_is_sharper, second, first)
        other = torch.where(plus_is_sharper, first, second)
        other = move(other, torch.where(plus_is_sharper, -shift, shift))
        return Measured(
            spectra=[spectra for spectra, _ in blocks],
            light=light,
            level=(seen.pick[:, None] * means * light[:, :, None]).sum(dim=0),
            seen=seen,
            trust=trust,
            offsets=offsets,
            minus_moved=torch.where(plus_is_sharper, other, sharper)[None],
            plus_moved=torch.where(plus_is_sharper, sharper, other)[None],
            sharper=sharper[None],
            other=other[None],
            plus_is_sharper=plus_is_sharper,
            shift_px=shift,
        )

    def levels(self, measured: Measured, colours: Colours) -> Tensor:
        """Return the fused picture, 0..255 and not rounded, (1, rows, columns, 3)."""
        fuse = self._apart if colours == "apart" else self._together
        planes = [
            self.transform.back(spectra, level)
            for spectra, level in zip(
                fuse(measured), measured.level.unbind(), strict=True
            )
        ]
        return 255 * torch.stack(planes, dim=-1).clamp(0, 1)[None]

    def _apart(self, measured: Measured) -> Iterator[Tensor]:
        """Yield the spectra of the fused blocks, colour by colour."""
        gains = gains_apart(measured.seen, measured.trust)
        gains = gains * measured.light[:, :, None, None]
        for colour, spectra in enumerate(measured.spectra):
            yield self.transform.filtered(spectra, gains[:, colour])

    def _together(self, measured: Measured) -> Iterator[Tensor]:
        """As `_apart`, with each colour made of all three."""
        light = measured.light[:, :, None, None]
        gains = self.together(measured.seen, self._cross(measured), measured.trust)
        gains = gains * light[:, None]
        for colour in range(3):
            first, second, third = (
                self.transform.filtered(spectra, gains[:, colour, source])
                for source, spectra in enumerate(measured.spectra)
            )
            yield first + second + third

    def _cross(self, measured: Measured) -> Tensor:
        """Return the ring means of the colours' products; see `JointGraph`."""
        weight = measured.seen.weight * measured.light[:, :, None, None]
        combined = [
            self.transform.filtered(spectra, weight[:, colour])
            for colour, spectra in enumerate(measured.spectra)
        ]
        return self.transform.statistics(torch.stack(combined), COLOUR_PAIRS)


def rounded(levels: Tensor) -> tuple[Tensor, Tensor]:
    """Return whole levels and their remainder, as `bifocus.tone` makes them."""
    whole = (levels + 0.5).floor()
    remainder = (REMAINDER_STEPS * (levels - whole) + (NO_REMAINDER + 0.5)).floor()
    return whole, remainder.clamp(0, 255)


def _gain_of_light(means: Tensor, plus_is_sharper: Tensor) -> Tensor:
    """Return what each shot is multiplied by, (shots, colours): 1 for the sharper."""
    brightness = means.mean(dim=2)
    target = torch.where(plus_is_sharper, brightness[1], brightness[0])
    return target / brightness.clamp(min=1e-6)


def _brenner(green: Tensor) -> Tensor:
    difference = green[:, 2:] - green[:, :-2]
    return (difference * difference).mean()
