"""Smooth random functions of the plane: a sum of a few seeded cosines.

Cosines of sums are sums of products, so a grid costs one matrix product.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

_WAVES = 6  # enough directions that no stripe shows


@dataclass(frozen=True, slots=True, kw_only=True)
class SmoothField:
    """f(x, y) = sum_i cos(kx_i x + ky_i y + phase_i) * sqrt(2 / n), of unit spread."""

    kx_per_um: Float64
    ky_per_um: Float64
    phase: Float64

    def grid(self, x_um: Float64, y_um: Float64) -> Float64:
        """Return f on the grid of `y_um` (rows) and `x_um` (columns)."""
        along_x = x_um[None, :] * self.kx_per_um[:, None]
        along_y = y_um[:, None] * self.ky_per_um + self.phase
        value = np.cos(along_y) @ np.cos(along_x) - np.sin(along_y) @ np.sin(along_x)
        result: Float64 = value * np.sqrt(2 / self.phase.size)
        return result


def make_smooth_field(period_um: float, rng: np.random.Generator) -> SmoothField:
    """Draw a field whose waves have periods of 1 to 2 times `period_um`."""
    turns = (np.arange(_WAVES) + rng.uniform(0, 1, _WAVES)) / _WAVES
    wave = 2 * np.pi / (period_um * rng.uniform(1, 2, _WAVES))
    return SmoothField(
        kx_per_um=wave * np.cos(np.pi * turns),
        ky_per_um=wave * np.sin(np.pi * turns),
        phase=rng.uniform(0, 2 * np.pi, _WAVES),
    )
