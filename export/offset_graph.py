"""The focal offset of all blocks and of the tile: `focal_offset` in tensor steps.

Offsets are counted in steps of the search grid, so that the tables alone carry the
optics. The median, the minimum and the plane fit use sorting, sums and a closed form;
each step is as in `bifocus.focal_offset`, whose docstring derives the method.
What keeps a quotient finite is a least value: the exporter drops a sum with 1e-12.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from bifocus.export.block_transform import as_tensor
from bifocus.focal_offset import (
    BLANK_NATS,
    HALF_CONFIDENCE_NATS,
    INDEPENDENT_SHARE,
    LOCAL_SD_UNITS,
    MODEL_SD_UNITS,
    TINY_ENERGY,
)
from bifocus.pair_spectra import radial_bins

# Rings 0 and 1 hold the window's own leakage.
FIRST_RING = 2
# Reweighting steps of the plane fit.
_FIT_STEPS = 8


class Split(NamedTuple):
    """Energies along and across h of every ring, and |h|^2."""

    along: Tensor
    across: Tensor
    norm: Tensor


class Offsets(NamedTuple):
    """Offsets of the blocks in steps of the grid, and the tile's in um.

    ``clearest`` is the greatest weight of a block, 0..1.
    """

    local_steps: Tensor
    offset_um: Tensor
    sd_um: Tensor
    confidence: Tensor
    clearest: Tensor


def split_energy(statistics: Tensor, tables: Tensor) -> Split:
    """Split energies (3, ..., bins) along and across h (2, ..., bins)."""
    minus, plus, cross = statistics[0], statistics[1], statistics[2]
    h_minus, h_plus = tables[0], tables[1]
    norm = (h_minus * h_minus + h_plus * h_plus).clamp(min=1e-8)
    along = h_minus * h_minus / norm * minus + h_plus * h_plus / norm * plus
    along = along + 2 * h_minus * h_plus / norm * cross
    tiny = TINY_ENERGY
    across = (minus + plus - along).clamp(min=tiny)
    return Split(along.clamp(min=tiny), across, norm)


def median(values: Tensor) -> Tensor:
    """Return the median over the last axis, as NumPy defines it; it is kept."""
    count = values.shape[-1]
    # Sorting half of them is enough, and TensorRT has no other way.
    largest = torch.topk(values, count // 2 + 1, dim=-1).values
    if count % 2:
        return largest[..., -1:]
    return largest[..., -2:].mean(dim=-1, keepdim=True)


class OffsetGraph(nn.Module):
    """Offsets from ring statistics, for one size of picture.

    Parameters
    ----------
    grid
        Blocks down and across.
    block_px
        Side of the blocks.
    n_offsets
        Offsets of the search grid: odd, the middle one is 0.
    """

    count: Tensor
    steps: Tensor
    tilt: Tensor

    def __init__(self, grid: tuple[int, int], block_px: int, n_offsets: int) -> None:
        super().__init__()
        share = 0.5 * INDEPENDENT_SHARE
        count = radial_bins(block_px).count[FIRST_RING:, None] * share
        self.reach = n_offsets // 2
        self.register_buffer("count", as_tensor(count))
        self.register_buffer(
            "steps", as_tensor(np.arange(-self.reach, self.reach + 1.0))
        )
        across, down = np.indices((grid[1], grid[0])).reshape(2, -1).astype(float)
        tilt = np.stack([down - down.mean(), across - across.mean()])
        self.has_plane = min(grid) >= 2 and tilt.shape[1] >= 6
        self.register_buffer("tilt", as_tensor(tilt))

    def forward(
        self, statistics: Tensor, transfer: Tensor, scale_um: Tensor
    ) -> Offsets:
        """Return the offsets.

        Parameters
        ----------
        statistics
            Ring means, (3, colours, blocks, bins).
        transfer
            h- and h+, (colours, 2, offsets, bins).
        scale_um
            The grid's step, dD and the unit of defocus.
        """
        step_um, unit = scale_um[0], scale_um[2] / scale_um[0]
        cost = self._costs(statistics[..., FIRST_RING:], transfer[..., FIRST_RING:])
        depth = median(cost) - cost.amin(dim=1, keepdim=True)
        depth = (depth[:, 0] - BLANK_NATS).clamp(min=0)
        weight = depth / (depth + HALF_CONFIDENCE_NATS)
        first, _ = self._minimum(cost.sum(dim=0, keepdim=True))
        local, _ = self._minimum(cost + self._prior(first[:, None], 2 * unit))
        surface = self._surface(local, weight * depth, 1e-3 / step_um)
        prior = self._prior(surface[:, None], LOCAL_SD_UNITS * unit)
        local, local_sd = self._minimum(cost + prior)
        return self._tile(local, local_sd, weight, depth, scale_um)

    def _costs(self, statistics: Tensor, transfer: Tensor) -> Tensor:
        """Return J of every block and offset, (blocks, offsets)."""
        split = split_energy(
            statistics[:, :, :, None], transfer.transpose(0, 1)[:, :, None]
        )
        both = ((statistics[0] + statistics[1]) / 2).clamp(min=TINY_ENERGY)
        # S cannot be negative: where more energy lies across, the fit is S = 0.
        product = torch.where(
            split.along > split.across,
            split.along * split.across,
            (both * both)[:, :, None],
        )
        return torch.matmul(product.log().sum(dim=0), self.count)[..., 0]

    def _prior(self, centre: Tensor, sd: Tensor) -> Tensor:
        distance = (self.steps - centre) / sd
        return distance * distance / 2

    def _minimum(self, cost: Tensor) -> tuple[Tensor, Tensor]:
        """Return the minimum of each row between steps, and its sd by curvature."""
        limit = self.reach - 1
        best = cost.argmin(dim=1).to(cost.dtype) - self.reach
        best = best.clamp(-limit, limit)
        away = self.steps - best[:, None]
        left, middle, right = (
            ((away == side).to(cost.dtype) * cost).sum(dim=1) for side in (-1, 0, 1)
        )
        curvature = (left - 2 * middle + right).clamp(min=1e-12)
        shift = (0.5 * (left - right) / curvature).clamp(-1, 1)
        return best + shift, 1 / curvature.sqrt()

    def _surface(self, local: Tensor, weight: Tensor, least_scale: Tensor) -> Tensor:
        """Return at every block the plane (constant for few blocks) fitted to all."""
        weight = weight + 1e-6
        surface = (weight * local).sum() / weight.sum()
        for _ in range(_FIT_STEPS):
            residual = local - surface
            scale = 1.4826 * median(residual.abs()) + least_scale
            ratio = residual / (2 * scale)
            robust = weight / (1 + ratio * ratio)
            mean = (robust * local).sum() / robust.sum()
            surface = self._plane(local, robust, mean) if self.has_plane else mean
        return surface.expand_as(local)

    def _plane(self, local: Tensor, robust: Tensor, mean: Tensor) -> Tensor:
        """Return the weighted plane: two slopes about the weighted middle."""
        total = robust.sum()
        middle = (self.tilt * robust).sum(dim=1, keepdim=True) / total
        lever = self.tilt - middle
        weighted = lever * robust
        moments = torch.matmul(weighted, lever.T)
        pull = (weighted * (local - mean)).sum(dim=1)
        ridge = 1e-3 * total
        # The pull towards a level plane acts on the slopes, wherever the middle lies.
        a, c, b = moments[0, 0] + ridge, moments[1, 1] + ridge, moments[0, 1]
        determinant = a * c - b * b
        slope = torch.stack([c * pull[0] - b * pull[1], a * pull[1] - b * pull[0]])
        return mean + torch.matmul(slope / determinant, lever)

    def _tile(
        self,
        local: Tensor,
        local_sd: Tensor,
        weight: Tensor,
        depth: Tensor,
        scale_um: Tensor,
    ) -> Offsets:
        step_um, unit_um = scale_um[0], scale_um[2]
        total = weight.sum().clamp(min=1e-12)
        offset = (weight * local).sum() / total
        away = local - offset
        spread = ((weight * away * away).sum() / total).sqrt()
        random = (weight * weight * local_sd * local_sd).sum().sqrt() / total
        effective = total * total / (weight * weight).sum().clamp(min=1e-12)
        relief = spread / effective.clamp(min=1).sqrt()
        model_um = MODEL_SD_UNITS * unit_um
        sd_um = (
            ((random * random + relief * relief) * step_um * step_um)
            + model_um * model_um
        ).sqrt()
        nats = depth.sum()
        confidence = nats / (nats + 4 * HALF_CONFIDENCE_NATS)
        is_inside = offset.abs() <= 0.95 * self.reach
        confidence = torch.where(is_inside, confidence, torch.zeros_like(confidence))
        clearest = weight.amax(dim=0)
        return Offsets(local, offset * step_um, sd_um, confidence, clearest)
