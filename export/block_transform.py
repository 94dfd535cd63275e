"""Blocks of both shots to real Fourier coefficients and back, in matrix products only.

TensorRT knows no Fourier transform and no complex numbers. Here a block of N x N pixels
becomes R_y b R_x', with R the N x N table of windowed cosines and sines: four real
planes (cos cos, cos sin, sin cos, sin sin), a quarter of the frequency plane each. For
round transfer functions that is all there is to do: a filter multiplies the four planes
by one table, and |Y(k)|^2 + |Y(-k)|^2 is twice the sum of their squares. A shift of a
shot turns the tables, not the data. Frequencies -1 and N/2 + 1 are carried along, so
that the Hann filter of the statistics is three neighbours everywhere.

The numbers are those of `bifocus.pair_spectra`, to rounding.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bifocus.pair_spectra import (
    BlockLayout,
    fade_edge,
    radial_bins,
    statistics_energy,
    taper_edge,
)

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

SHOT_PAIRS = ((0, 0), (1, 1), (0, 1))


def as_tensor(values: npt.NDArray[np.floating[Any]]) -> Tensor:
    """Return a float32 tensor of NumPy values."""
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


class BlockTransform(nn.Module):
    """Forward and inverse transform of all blocks of a picture of one size.

    Blocks are numbered across first: block ``a * down + d`` lies in column a, row d.

    Parameters
    ----------
    shape
        Rows and columns of the pictures.
    layout
        How they are cut.
    """

    phase: Tensor
    rate: Tensor
    edge: Tensor
    rows: Tensor
    columns: Tensor
    ring: Tensor
    binning: Tensor
    inverse: Tensor
    row_fade: Tensor
    column_fade: Tensor
    row_weight: Tensor
    column_weight: Tensor

    def __init__(self, shape: tuple[int, int], layout: BlockLayout) -> None:
        super().__init__()
        self.shape, self.layout = shape, layout
        self.down, self.across = layout.counts(shape)
        size = layout.block_px
        self.size = size
        self.n_frequencies = size // 2 + 3  # -1 .. N/2 + 1
        self.window_sum = float(taper_edge(layout).sum()) ** 2
        frequency = np.arange(-1, size // 2 + 2)
        turns = np.outer(frequency, np.arange(size)) % size / size
        fades = [
            _fades(layout, count, length)
            for count, length in zip((self.down, self.across), shape, strict=True)
        ]
        for name, values in {
            "phase": 2 * np.pi * turns,
            "rate": 2 * np.pi * frequency / size,
            "edge": taper_edge(layout),
            "binning": _binning(layout),
            "inverse": _inverse(layout),
            "row_fade": fades[0],
            "column_fade": fades[1].T,
            "row_weight": 1 / fades[0].sum(axis=1, keepdims=True),
            "column_weight": 1 / fades[1].sum(axis=1),
        }.items():
            self.register_buffer(name, as_tensor(values))
        self.row_fade *= self.row_weight
        self.column_fade *= self.column_weight
        indices = {
            "rows": _mirrored(layout, self.down, shape[0]),
            "columns": _mirrored(layout, self.across, shape[1]),
            "ring": _ring_index(size),
        }
        for name, index in indices.items():
            self.register_buffer(name, torch.from_numpy(index))

    def basis(self, shift_px: Tensor) -> tuple[Tensor, Tensor]:
        """Return windowed cosines and sines, down and across: (shots, 2 K, N) each.

        Parameters
        ----------
        shift_px
            How far each shot is to be moved, (shots, 2): down, right.
        """
        both = []
        for axis in range(2):
            turn = (shift_px[:, axis : axis + 1] * self.rate)[:, :, None]
            angle = self.phase + turn
            both.append(torch.cat([angle.cos(), angle.sin()], dim=1) * self.edge)
        return both[0], both[1]

    def forward(
        self, light: Tensor, vertical: Tensor, horizontal: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the coefficients of all blocks of one colour, and their means.

        Parameters
        ----------
        light
            Linear light, (shots, rows, columns).
        vertical, horizontal
            The basis.

        Returns
        -------
        coefficients, means
            (shots, blocks, 2 K, 2 K) without the means, cosines before sines, the row
            axis first, and (shots, blocks).
        """
        n_shots, across, down = light.shape[0], self.across, self.down
        width = 2 * self.n_frequencies
        lines = light.index_select(2, self.columns).reshape(n_shots, -1, self.size)
        lines = torch.matmul(lines, horizontal.transpose(1, 2))
        # Blocks above each other share this step: rows are cut into blocks after it.
        lines = lines.reshape(n_shots, self.shape[0], across, width)
        lines = lines.permute(0, 2, 1, 3).index_select(2, self.rows)
        blocks = lines.reshape(n_shots, across * down, self.size, width)
        spectra = torch.matmul(vertical[:, None], blocks)
        means = spectra[:, :, 1, 1] / self.window_sum  # cos cos at frequency 0
        window = vertical.sum(2)[:, :, None] * horizontal.sum(2)[:, None]
        return spectra - means[:, :, None, None] * window[:, None], means

    def statistics(
        self, coefficients: Tensor, pairs: Sequence[tuple[int, int]] = SHOT_PAIRS
    ) -> Tensor:
        """Return the mean of Re(first conj second) per ring: (pairs, blocks, bins).

        Of the blocks under a Hann window, as `bifocus.pair_spectra.fill_statistics`.

        Parameters
        ----------
        coefficients
            Of some pictures, shots for example: (pictures, blocks, 2 K, 2 K).
        pairs
            Which two of them; by default |Y-|^2, |Y+|^2 and Re(Y- conj Y+).
        """
        k = self.n_frequencies
        quarters = coefficients.reshape(*coefficients.shape[:2], 2, k, 2, k)
        filtered = _hann_filtered(_hann_filtered(quarters, 3), 5)
        products = (filtered[first] * filtered[second] for first, second in pairs)
        rings = [
            torch.matmul(product.sum(dim=(1, 3)).flatten(1), self.binning)
            for product in products
        ]
        return torch.stack(rings)

    def filtered(self, coefficients: Tensor, gains: Tensor) -> Tensor:
        """Return the coefficients times gains (shots, blocks, bins), shots summed."""
        k = self.n_frequencies
        n_shots, n_blocks = gains.shape[:2]
        factors = gains.index_select(-1, self.ring).reshape(n_shots, n_blocks, k, 1, k)
        quarters = coefficients.reshape(n_shots, n_blocks, 2, k, 2, k)
        mixed = (quarters * factors[:, :, None]).sum(dim=0)
        return mixed.reshape(n_blocks, 2 * k, 2 * k)

    def back(self, coefficients: Tensor, means: Tensor) -> Tensor:
        """Return the picture (rows, columns) of filtered blocks and their means.

        Parameters
        ----------
        coefficients, means
            (blocks, 2 K, 2 K) and (blocks,).
        """
        across, down, width = self.across, self.down, 2 * self.n_frequencies
        strips = torch.matmul(self.inverse, coefficients)  # (blocks, L, 2 K)
        columns = self._overlap_add(
            strips.reshape(across, down, -1, width), self.shape[0]
        )
        lines = torch.matmul(columns, self.inverse.T).permute(1, 0, 2)[:, :, :, None]
        picture = self._overlap_add(lines, self.shape[1])[:, :, 0]
        picture = picture * self.row_weight * self.column_weight
        level = means.reshape(across, down).T
        return picture + self.row_fade @ level @ self.column_fade

    def _overlap_add(self, strips: Tensor, length: int) -> Tensor:
        """Return strips (batch, blocks, L, width) laid down: (batch, length, width).

        A strip is one hop and the ramp that it shares with the next.
        """
        hop, ramp = self.layout.hop_px, self.layout.ramp_px
        head = nn.functional.pad(strips[:, :, :hop], (0, 0, 0, 0, 0, 1))
        tail = nn.functional.pad(strips[:, :, hop:], (0, 0, 0, hop - ramp, 1, 0))
        total = (head + tail).flatten(1, 2)
        start = self.layout.margin_px - self.layout.taper_px
        return total[:, start : start + length]


def _hann_filtered(values: Tensor, dim: int) -> Tensor:
    """Return twice the values at frequencies 0 .. N/2 under a Hann window."""
    n = values.shape[dim] - 2
    before, middle, after = (values.narrow(dim, i, n) for i in range(3))
    return middle - 0.5 * (before + after)


def _mirrored(layout: BlockLayout, count: int, length: int) -> Int64:
    """Return which pixel each pixel of each block shows; borders are mirrored."""
    hop, margin = layout.hop_px, layout.margin_px
    after = count * hop + margin - length
    padded = np.pad(np.arange(length), (margin, after), mode="symmetric")
    starts = hop * np.arange(count)[:, None]
    return padded[starts + np.arange(layout.block_px)].ravel().astype(np.int64)


def _quarter_index(size: int) -> Int64:
    return radial_bins(size).index[: size // 2 + 1].astype(np.int64)


def _ring_index(size: int) -> Int64:
    """Return the ring of each coefficient, frequencies -1 and N/2 + 1 included.

    These lie where 1 and N/2 - 1 do: what is filtered can go through a Hann window.
    """
    return np.pad(_quarter_index(size), 1, mode="reflect").ravel()


def _binning(layout: BlockLayout) -> Float64:
    """Return the matrix from a quarter plane of squares to the mean of each ring."""
    size = layout.block_px
    bins = radial_bins(size)
    twice = np.full(size // 2 + 1, 2.0)
    twice[[0, -1]] = 1.0  # these hold their own conjugates
    # Two filters, each of which returns twice the values.
    weight = np.outer(twice, twice).ravel() / (16 * statistics_energy(layout))
    matrix = np.zeros((weight.size, bins.count.size))
    matrix[np.arange(weight.size), _quarter_index(size).ravel()] = weight
    means: Float64 = matrix / np.maximum(bins.count, 1)
    return means


def _inverse(layout: BlockLayout) -> Float64:
    """Return the inverse transform of what fusion uses of a block, faded: (L, 2 K)."""
    size, taper = layout.block_px, layout.taper_px
    frequency = np.arange(-1, size // 2 + 2)
    weight = np.full(frequency.size, 2.0 / size)
    weight[[1, -2]], weight[[0, -1]] = 1.0 / size, 0.0
    pixel = np.arange(taper, size - taper)
    angle = 2 * math.pi * np.outer(pixel, frequency) / size
    basis = np.concatenate([np.cos(angle) * weight, np.sin(angle) * weight], axis=1)
    faded: Float64 = fade_edge(layout)[pixel][:, None] * basis
    return faded


def _fades(layout: BlockLayout, count: int, length: int) -> Float64:
    """Return how much each of `count` blocks counts at each pixel: (length, count)."""
    margin, hop, size = layout.margin_px, layout.hop_px, layout.block_px
    fades = np.zeros((count * hop + 2 * margin, count))
    for number in range(count):
        fades[number * hop : number * hop + size, number] = fade_edge(layout)
    return fades[margin : margin + length]
