"""What both shots tell of every block and ring: `physics_fusion` in tensor steps.

From it come the gains of the fusion, of each colour apart here, of the three together
in `bifocus.export.joint_graph`.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from bifocus.block_fusion import (
    IN_FOCUS_UNITS,
    MAX_GAIN,
    OFFSET_DOUBT_UNITS,
    QUANTISATION_POWER,
    SCATTER,
)
from bifocus.export.block_transform import as_tensor
from bifocus.export.offset_graph import FIRST_RING, median, split_energy
from bifocus.pair_spectra import radial_bins


class Observed(NamedTuple):
    """What the shots tell, as `block_fusion.Observed`, of all blocks at once.

    ``weight`` is h/N, (shots, colours, blocks, bins); ``precision`` and ``signal``
    are (colours, blocks, bins), ``focus`` is h(0), (colours, 1, bins). ``pick`` is how
    much of each shot makes the sharper one, (shots, blocks), ``share`` how much of a
    block may be filtered where each colour is apart, (blocks,).
    """

    weight: Tensor
    precision: Tensor
    signal: Tensor
    focus: Tensor
    pick: Tensor
    share: Tensor
    quality: Tensor


class WienerGraph(nn.Module):
    """Signal and noise of both shots, and how the sharper one is to be mixed in.

    Parameters
    ----------
    block_px
        Side of the blocks.
    n_offsets
        Offsets of the search grid: odd, the middle one is 0.
    """

    used: Tensor
    steps: Tensor

    def __init__(self, block_px: int, n_offsets: int) -> None:
        super().__init__()
        bins = radial_bins(block_px)
        self.reach = n_offsets // 2
        self.first_outer = int(np.argmax(bins.frequency > 0.35))
        self.register_buffer("used", as_tensor(bins.count[FIRST_RING:]))
        self.register_buffer(
            "steps", as_tensor(np.arange(-self.reach, self.reach + 1.0))
        )

    def forward(
        self,
        statistics: Tensor,
        local: Tensor,
        transfer: Tensor,
        in_focus: Tensor,
        scale_um: Tensor,
    ) -> Observed:
        """Return what the shots tell of each block.

        Parameters
        ----------
        statistics
            Ring means, (3, colours, blocks, bins).
        local
            Offsets of the blocks in steps of the grid, (blocks,).
        transfer, in_focus
            h- and h+, (colours, 2, offsets, bins), and h(0), (colours, bins).
        scale_um
            The grid's step, dD and the unit of defocus.
        """
        unit = scale_um[2] / scale_um[0]
        half_spacing = scale_um[1] / scale_um[0]
        h, slope = self._tables(transfer, local)
        split = split_energy(statistics, h)
        along, across = smooth(split.along), smooth(split.across)
        signal = ((along - across) / split.norm).clamp(min=1e-12)
        noise = self._noise(across, signal, h, slope, split.norm, scale_um)
        weight = h / noise
        plus = (0.5 + 5 * local / half_spacing).clamp(0, 1)
        return Observed(
            weight=weight,
            precision=(weight * h).sum(dim=0),
            signal=signal,
            focus=in_focus[:, None],
            pick=torch.stack([1 - plus, plus]),
            share=_wiener_share(local, half_spacing, unit),
            quality=self._quality(along, across),
        )

    def _tables(self, transfer: Tensor, local: Tensor) -> tuple[Tensor, Tensor]:
        """Return h and its slope per step, (2, colours, blocks, bins)."""
        position = local.clamp(-float(self.reach), self.reach - 0.001)
        low = position.floor()
        away = self.steps - position[:, None]
        hat = (1 - away.abs()).clamp(min=0)
        step = self.steps - low[:, None]
        rise = (step == 1).to(hat.dtype) - (step == 0).to(hat.dtype)
        tables = transfer.transpose(0, 1)
        return torch.matmul(hat, tables), torch.matmul(rise, tables)

    def _noise(
        self,
        across: Tensor,
        signal: Tensor,
        h: Tensor,
        slope: Tensor,
        norm: Tensor,
        scale_um: Tensor,
    ) -> Tensor:
        """Return the noise of each shot: the camera's, and what the offset may miss."""
        floor = median(across[..., self.first_outer :])
        camera = torch.minimum(across, floor).clamp(min=QUANTISATION_POWER)
        turned = h.flip(0) * slope
        lean = (turned * turned).sum(dim=0) / norm
        # Slopes are per step here: so is the least that NumPy divides by.
        step_um, unit = scale_um[0], scale_um[2] / scale_um[0]
        lean = torch.maximum(lean, 1e-6 * step_um * step_um)
        mismatch = (across - SCATTER * camera).clamp(min=0) / lean
        doubt = OFFSET_DOUBT_UNITS * unit
        mismatch = torch.minimum(mismatch, signal * doubt * doubt)
        return camera + mismatch * slope * slope

    def _quality(self, along: Tensor, across: Tensor) -> Tensor:
        unexplained = (across[..., FIRST_RING:] * self.used).sum()
        explained = (along[..., FIRST_RING:] * self.used).sum()
        ratio = unexplained / explained.clamp(min=1e-30)
        return (1 - ratio.sqrt()).clamp(0, 1)


def gains_apart(seen: Observed, trust: Tensor) -> Tensor:
    """Return the gains of each colour on itself, (shots, colours, blocks, bins).

    `trust` is the largest share of the Wiener image, (1,).
    """
    told = 1 + seen.signal * seen.precision
    gains = seen.focus * seen.signal * seen.weight / told
    strength = (gains * gains).sum(dim=0).sqrt()
    gains = gains * (MAX_GAIN / strength.clamp(min=1e-9)).clamp(max=1)
    inner = torch.full_like(gains[..., :FIRST_RING], 0.5)
    gains = torch.cat([inner, gains[..., FIRST_RING:]], dim=-1)
    share = (trust * seen.share)[:, None]
    return share * gains + (1 - share) * seen.pick[:, None, :, None]


def smooth(values: Tensor) -> Tensor:
    """Three-ring running mean, the ends repeated."""
    before = torch.cat([values[..., :1], values[..., :-1]], dim=-1)
    after = torch.cat([values[..., 1:], values[..., -1:]], dim=-1)
    return (before + values + after) / 3


def _wiener_share(local: Tensor, half_spacing: Tensor, unit: Tensor) -> Tensor:
    """Return the Wiener image's share of each block: 0 where in focus, else 1."""
    nearer = (local.abs() - half_spacing).abs() / unit
    low, high = IN_FOCUS_UNITS
    rise = ((nearer - low) / (high - low)).clamp(0, 1)
    return rise * rise * (3 - 2 * rise)
