"""One picture moved by a part of a pixel, in gathers: what networks see of a pair.

Cubic convolution (R. G. Keys, IEEE Trans. ASSP 29 (1981)) with a = -0.75, as
`edge.shifted_shot`, which the loop uses on the CPU; the border is repeated.
"""

import torch
from torch import Tensor

_A = -0.75


def move(levels: Tensor, shift_px: Tensor) -> Tensor:
    """Return `levels` (rows, columns, colours), 0..255, moved down and right."""
    moved = _move_along(levels, shift_px[0], 0)
    moved = _move_along(moved, shift_px[1], 1)
    return (moved + 0.5).floor().clamp(0, 255)


def _move_along(levels: Tensor, shift_px: Tensor, dim: int) -> Tensor:
    length = levels.shape[dim]
    whole = (-shift_px).floor()
    place = torch.arange(length, dtype=levels.dtype, device=levels.device)
    total = torch.zeros_like(levels)
    for tap, weight in enumerate(_cubic_weights(-shift_px - whole), start=-1):
        index = (place + (whole + tap)).clamp(0, length - 1).to(torch.int64)
        total = total + weight * levels.index_select(dim, index)
    return total


def _cubic_weights(part: Tensor) -> list[Tensor]:
    """Return the weights of the pixels at -1, 0, 1, 2 for a place `part` after 0."""
    outer, left, right = part + 1, part, 1 - part
    weights = [_A * outer**3 - 5 * _A * outer**2 + 8 * _A * outer - 4 * _A]
    weights += [(_A + 2) * d**3 - (_A + 3) * d**2 + 1 for d in (left, right)]
    return [*weights, 1 - weights[0] - weights[1] - weights[2]]
