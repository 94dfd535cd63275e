"""How far the plus shot lies from the minus shot: `pair_alignment` in tensor steps.

Same method, same band, same windows; the search for the coarse peak ends at the largest
shift that would be accepted, and the number of steps is fixed, since a graph for
TensorRT has no loops.
"""

import numpy as np
import torch
from torch import Tensor, nn

from bifocus.export.block_transform import as_tensor
from bifocus.pair_alignment import (
    BAND_PER_PX,
    BIN_PX,
    LARGEST_SHIFT_PX,
    LEAST_AGREEMENT,
)

# Newton steps of each pass: the first starts within half a pixel, the others where the
# window has moved a little. More change nothing (docs/decisions/0007).
_STEPS = (4, 2, 1)


class ShiftGraph(nn.Module):
    """`pair_alignment.estimate_shift_px` for pictures of one size.

    Parameters
    ----------
    shape
        Rows and columns of the shots.
    """

    basis_0: Tensor
    basis_1: Tensor
    coarse_0: Tensor
    coarse_1: Tensor
    place_0: Tensor
    place_1: Tensor
    band: Tensor
    pull: Tensor
    curve: Tensor
    coarse_px: Tensor

    def __init__(self, shape: tuple[int, int]) -> None:
        super().__init__()
        self.shape = (shape[0] // BIN_PX, shape[1] // BIN_PX)
        highest = BAND_PER_PX[1] * BIN_PX
        counts = [int(highest * length) + 1 for length in self.shape]
        turns = []
        for axis, (count, length) in enumerate(zip(counts, self.shape, strict=True)):
            frequency = np.arange(count) / length
            turns.append(frequency)
            phase = 2 * np.pi * (np.outer(np.arange(length), np.arange(count)) % length)
            basis = np.concatenate([np.cos(phase / length), np.sin(phase / length)], 1)
            self.register_buffer(f"basis_{axis}", as_tensor(basis))
            reach = int(LARGEST_SHIFT_PX) // BIN_PX
            steps = np.arange(-reach, reach + 1)
            angle = 2 * np.pi * np.outer(frequency, steps)
            table = np.concatenate([np.cos(angle), (-1) ** (axis + 1) * np.sin(angle)])
            self.register_buffer(f"coarse_{axis}", as_tensor(table))
            place = np.arange(length) + 0.5
            self.register_buffer(f"place_{axis}", as_tensor(place))
        self.register_buffer("coarse_px", as_tensor(steps.astype(np.float64)))
        rows, columns = np.meshgrid(*turns, indexing="ij")
        radius = np.hypot(rows, columns) / BIN_PX
        inside = (radius > BAND_PER_PX[0]) & (radius < BAND_PER_PX[1])
        # Plane 0 holds (k_row, k_column), plane 1 (-k_row, k_column).
        band = np.stack([inside, inside & (rows > 0)])
        frequency = (
            2
            * np.pi
            * np.stack([np.stack([rows, columns]), np.stack([-rows, columns])], axis=1)
        )
        frequency = frequency.reshape(2, -1)
        self.register_buffer("band", as_tensor(band.astype(np.float64)))
        self.register_buffer("pull", as_tensor(frequency.T))
        curve = [frequency[0] ** 2, frequency[0] * frequency[1], frequency[1] ** 2]
        self.register_buffer("curve", as_tensor(np.stack(curve, axis=1)))

    def forward(self, shots: Tensor) -> Tensor:
        """Return the shift (2,) in pixels, down and right, of (2, colours, H, W)."""
        grey = nn.functional.avg_pool2d(shots.mean(dim=1, keepdim=True), BIN_PX)[:, 0]
        shift = torch.zeros_like(self.coarse_px[:2])
        for number, steps in enumerate(_STEPS):
            real, imaginary = self._cross(grey, shift)
            if number == 0:
                shift = self._coarse_peak(real, imaginary)
            flat = real.reshape(1, -1), imaginary.reshape(1, -1)
            for _ in range(steps):
                shift = self._newton(*flat, shift)
        turned, _ = self._turned(*flat, shift)
        total = (flat[0] * flat[0] + flat[1] * flat[1]).sqrt().sum()
        agreement = turned.sum() / total.clamp(min=1e-30)
        shift = shift * BIN_PX
        is_good = (agreement >= LEAST_AGREEMENT) & (
            shift.abs().amax(dim=0) <= LARGEST_SHIFT_PX
        )
        return torch.where(is_good, shift, torch.zeros_like(shift))

    def _cross(self, grey: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cross-spectrum in the band, (2, rows, columns), real and imag."""
        middles = torch.stack([shift / 2, -shift / 2])
        down = _hann(self.place_0, self.shape[0], middles[:, :1])[:, :, None]
        right = _hann(self.place_1, self.shape[1], middles[:, 1:])[:, None, :]
        window = down * right
        mean = (grey * window).sum((1, 2)) / window.sum((1, 2))
        bare = (grey - mean[:, None, None]) * window
        planes = torch.matmul(self.basis_0.T, torch.matmul(bare, self.basis_1))
        rows, columns = self.band.shape[1:]
        planes = planes.reshape(2, 2, rows, 2, columns)
        cos_cos, cos_sin = planes[:, 0, :, 0], planes[:, 0, :, 1]
        sin_cos, sin_sin = planes[:, 1, :, 0], planes[:, 1, :, 1]
        real = torch.stack([cos_cos - sin_sin, cos_cos + sin_sin], dim=1)
        imaginary = torch.stack([-sin_cos - cos_sin, sin_cos - cos_sin], dim=1)
        cross_real = real[0] * real[1] + imaginary[0] * imaginary[1]
        cross_imaginary = imaginary[0] * real[1] - real[0] * imaginary[1]
        return cross_real * self.band, cross_imaginary * self.band

    def _coarse_peak(self, real: Tensor, imaginary: Tensor) -> Tensor:
        """Return the whole-pixel peak of the correlation, by its place."""
        upper = torch.cat([real[0] + real[1], -imaginary[0] - imaginary[1]], dim=1)
        lower = torch.cat([imaginary[0] - imaginary[1], real[0] - real[1]], dim=1)
        both = torch.cat([upper, lower])
        map_ = torch.matmul(torch.matmul(self.coarse_0.T, both), self.coarse_1)
        height = map_.flatten().amax(dim=0)
        at_peak = (map_ >= height).to(map_.dtype)
        at_peak = at_peak / at_peak.sum()
        return torch.stack(
            [
                (at_peak.sum(1) * self.coarse_px).sum(),
                (at_peak.sum(0) * self.coarse_px).sum(),
            ]
        )

    def _turned(
        self, real: Tensor, imaginary: Tensor, shift: Tensor
    ) -> tuple[Tensor, Tensor]:
        angle = torch.matmul(self.pull, shift)[None]
        cosine, sine = angle.cos(), angle.sin()
        return (
            real * cosine - imaginary * sine,
            real * sine + imaginary * cosine,
        )

    def _newton(self, real: Tensor, imaginary: Tensor, shift: Tensor) -> Tensor:
        turned_real, turned_imaginary = self._turned(real, imaginary, shift)
        slope = -torch.matmul(turned_imaginary, self.pull)[0]
        curvature = torch.matmul(turned_real.clamp(min=0), self.curve)[0]
        a, b, c = curvature.unbind()
        determinant = (a * c - b * b).clamp(min=1e-20)
        step = (
            torch.stack([c * slope[0] - b * slope[1], a * slope[1] - b * slope[0]])
            / determinant
        )
        return shift + step.clamp(-0.5, 0.5)


def _hann(place: Tensor, length: int, middle: Tensor) -> Tensor:
    x = place - middle
    window = 0.5 - 0.5 * (x * (2 * np.pi / length)).cos()
    return torch.where((x > 0) & (x < length), window, torch.zeros_like(window))
