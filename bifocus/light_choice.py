"""Reads from a pair how its tissue is lit: the optics under which it is most likely.

Condenser, phase and spherical aberration change what defocus does to a picture, and a
wrong guess costs both sharpness and the focal offset. The likelihood that finds the
offset (`bifocus.focal_offset`) compares optics as well: the ones are taken under which
the two shots agree best on one object. One choice serves an instrument; the more
tissue, the surer.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from bifocus.focal_offset import PairOptics, offset_costs
from bifocus.pair_spectra import PairSpectra
from bifocus.transfer import INCOHERENT, Light

Float32 = npt.NDArray[np.float32]

# Compared first; real condensers are stopped down to 0.4 to 0.8 of the objective.
_FIRST = (
    INCOHERENT,
    Light(pupil="exact"),
    *(
        Light(condenser=condenser, phase_ratio=0.3, pupil="exact")
        for condenser in (0.825, 0.675, 0.525, 0.4)
    ),
)
# Then each is changed in turn, for as long as that makes the pair likelier.
_GRID: dict[str, tuple[float, ...]] = {
    "phase_ratio": (0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.05, 1.2),
    "spherical_waves": (-0.1, -0.075, -0.05, -0.025, 0.0, 0.025, 0.05, 0.075, 0.1),
    "condenser": (0.35, 0.4, 0.45, 0.525, 0.6, 0.675, 0.75, 0.825, 0.9),
}
_MOST_ROUNDS = 6
# Partially coherent light must be this much likelier than incoherent light, in nats for
# each block: relief makes wrong light likelier by up to 20, and light from a condenser
# of 0.6 makes the right one likelier by 45 to 270 (measured on training slides).
_WORTH_NATS = 25.0
# Blocks with the most detail that are looked at, and every how many offsets.
_BLOCKS = 8
_EVERY = 2


def light_evidence(pair: PairSpectra) -> Float32:
    """Return the statistics of the pair's blocks with the most detail.

    Small enough to be kept for some tiles: shape (3, blocks, colours, bins).
    """
    energy = pair.statistics[:2, :, :, 2:].sum(axis=(0, 2, 3))
    most = np.sort(np.argsort(energy)[-_BLOCKS:])
    return pair.statistics[:, most]


def choose_light(
    evidence: Sequence[Float32], optics: PairOptics, block_px: int
) -> Light:
    """Return the likeliest light of one or more pairs of one instrument.

    Parameters
    ----------
    evidence
        From `light_evidence`, one for each pair; their offsets may differ.
    optics
        NA, pixel, wavelengths and dD; its `light` is not looked at.
    block_px
        Side of the blocks.
    """
    worth_nats = _WORTH_NATS * sum(part.shape[1] for part in evidence)

    @cache
    def cost(light: Light) -> float:
        tried = dataclasses.replace(optics, light=light)
        return sum(
            float(offset_costs(part, tried, block_px, every=_EVERY).sum(axis=0).min())
            for part in evidence
        )

    light = min(_FIRST, key=cost)
    if light.condenser < 1:
        light = _descend(light, cost)
    return light if cost(light) < cost(INCOHERENT) - worth_nats else INCOHERENT


def _descend(light: Light, cost: Callable[[Light], float]) -> Light:
    """Change one property after the other by one step of its grid, or two."""
    for _ in range(_MOST_ROUNDS):
        before = light
        for name, grid in _GRID.items():
            at = int(np.argmin(np.abs(np.subtract(grid, getattr(light, name)))))
            near = grid[max(at - 2, 0) : at + 3]
            changes: list[dict[str, Any]] = [{name: value} for value in near]
            tried = [dataclasses.replace(light, **change) for change in changes]
            light = min([light, *tried], key=cost)
        if light == before:
            break
    return light
