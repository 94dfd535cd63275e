"""Gains of both shots for every block and ring: `physics_fusion` in tensor steps."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from bifocus.export.block_transform import as_tensor
from bifocus.export.offset_graph import FIRST_RING, median, split_energy
from bifocus.pair_spectra import radial_bins
from bifocus.physics_fusion import (
    IN_FOCUS_UNITS,
    MAX_GAIN,
    OFFSET_DOUBT_UNITS,
    QUANTISATION_POWER,
    SCATTER,
)


class Gains(NamedTuple):
    """Gains (shots, colours, blocks, bins), shares of both shots, and the quality."""

    gains: Tensor
    pick: Tensor
    quality: Tensor


class WienerGraph(nn.Module):
    """The two-shot Wiener filter mixed with the sharper shot, in gains per ring.

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
        trust: Tensor,
    ) -> Gains:
        """Return the gains, the shares (shots, blocks) of the mean, and the quality.

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
        trust
            The largest share of the Wiener image, (1,).
        """
        unit = scale_um[2] / scale_um[0]
        h, slope = self._tables(transfer, local)
        wiener, quality = self._wiener(statistics, h, slope, in_focus[:, None], unit)
        half_spacing = scale_um[1] / scale_um[0]
        share = trust * _wiener_share(local, half_spacing, unit)
        share = share[:, None]
        plus = (0.5 + 5 * local / half_spacing).clamp(0, 1)
        pick = torch.stack([1 - plus, plus])
        gains = share * wiener + (1 - share) * pick[:, None, :, None]
        return Gains(gains, pick, quality)

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

    def _wiener(
        self, statistics: Tensor, h: Tensor, slope: Tensor, focus: Tensor, unit: Tensor
    ) -> tuple[Tensor, Tensor]:
        along, across, norm = split_energy(statistics, h)
        along, across = _smooth(along), _smooth(across)
        floor = median(across[..., self.first_outer :])
        noise = torch.minimum(across, floor).clamp(min=QUANTISATION_POWER)
        signal = (along - across).clamp(min=0) / norm + 1e-12
        turned = h.flip(0) * slope
        lean = (turned * turned).sum(dim=0) / norm
        mismatch = (across - SCATTER * noise).clamp(min=0) / lean.clamp(min=1e-6)
        doubt = OFFSET_DOUBT_UNITS * unit
        mismatch = torch.minimum(mismatch, signal * doubt * doubt)
        weight = h / (noise + mismatch * slope * slope)
        gains = focus * signal * weight / (1 + signal * (weight * h).sum(dim=0))
        strength = (gains * gains).sum(dim=0).sqrt()
        gains = gains * (MAX_GAIN / strength.clamp(min=1e-9)).clamp(max=1)
        inner = torch.full_like(gains[..., :FIRST_RING], 0.5)
        gains = torch.cat([inner, gains[..., FIRST_RING:]], dim=-1)
        unexplained = (across[..., FIRST_RING:] * self.used).sum()
        explained = (along[..., FIRST_RING:] * self.used).sum()
        ratio = unexplained / explained.clamp(min=1e-30)
        return gains, (1 - ratio.sqrt()).clamp(0, 1)


def _smooth(values: Tensor) -> Tensor:
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
