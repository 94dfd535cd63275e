"""The likelihood of optics, given a z-stack of one field.

The model of `bifocus.focal_offset` for K planes instead of two: in each ring of spatial
frequencies all planes show one object through known transfers, Y_i = h(z_i - F) o +
noise, with the powers S of the object and N of the noise unknown. The covariance of Y
is S h h' + N I, and maximising over S and N leaves

    J = sum over rings of  n / 2 (log E_along + (K - 1) log E_across)

to be minimised, with E_along the energy along h and E_across that across it. Each block
of the field and each colour has a focus of its own, so that relief and chromatic shift
are no misfit; optics are shared.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from bifocus.calib.stack_evidence import StackEvidence
from bifocus.focal_offset import INDEPENDENT_SHARE
from bifocus.optics import Objective
from bifocus.transfer import Light, compute_rim_waves, integrate_transfer

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Complex64 = npt.NDArray[np.complex64]
Numbers = TypeVar("Numbers", Float32, Complex64)

# Transfers are integrated at nodes so far apart in waves of defocus and in pupil radii
# of frequency, and interpolated by cubics in between (error under 2e-3).
_NODE_WAVES = 0.1
_NODE_BLOCK = 8
_S_COUNT = 80
_S_STEP = 2 / _S_COUNT
_QUADRATURE = (12, 6)
# Below this share of the (0..1)^2 scale energy is rounding.
_TINY_ENERGY = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """The cost of some optics, block by block, and where each block is in focus.

    `cost` has shape (blocks, colours), in nats; `focus_um` and its curvature
    `focus_sd_um` likewise, in the stage frame.
    """

    cost: Float64
    focus_um: Float64
    focus_sd_um: Float64


def stack_transfer(
    optics: "StackOptics", frequency_per_um: Float64, depth_um: Sequence[Float64]
) -> list[Float32]:
    """Return each colour's transfer at its own depths, shape (*depths, rings).

    Parameters
    ----------
    optics
        Objectives, one for each colour, and the light that they share.
    frequency_per_um
        Shape (rings,).
    depth_um
        Height of the tissue above the plane of focus, one array for each colour.
    """
    light = optics.light
    waves = [
        compute_rim_waves(objective, light.pupil, depth)
        for objective, depth in zip(optics.objectives, depth_um, strict=True)
    ]
    # Whole blocks of nodes, so that a light hardly changed finds its table again.
    span = _NODE_WAVES * _NODE_BLOCK
    low = np.floor((min(float(part.min()) for part in waves) - 2 * _NODE_WAVES) / span)
    high = np.ceil((max(float(part.max()) for part in waves) + 3 * _NODE_WAVES) / span)
    table = _table(
        dataclasses.replace(light, phase_ratio=0.0),
        optics.sine if light.pupil == "exact" else 0.0,
        int(low) * _NODE_BLOCK,
        int(high - low) * _NODE_BLOCK,
    )
    found = []
    for objective, part in zip(optics.objectives, waves, strict=True):
        s = frequency_per_um * (objective.wavelength_um / objective.na)
        at_rings = _between_nodes(table, np.minimum(s / _S_STEP, _S_COUNT + 0.5) + 1)
        whole = at_rings.real + np.float32(light.phase_ratio) * at_rings.imag
        position = part / _NODE_WAVES - low * _NODE_BLOCK
        found.append(_between_nodes(np.ascontiguousarray(whole.T), position))
    return found


@lru_cache(maxsize=48)
def _table(light: Light, sine: float, first: int, count: int) -> Complex64:
    """Return the transfer at nodes of frequency and defocus, shape (s, waves).

    The first frequency lies a step below 0, the last ones beyond the pupil.
    """
    s = np.abs(np.arange(-1, _S_COUNT + 3) * _S_STEP)
    table = integrate_transfer(
        light,
        sine,
        np.minimum(s, 2.0),
        (first * _NODE_WAVES, _NODE_WAVES, count),
        nodes=_QUADRATURE,
    )
    result = np.ascontiguousarray(table.T)
    result.setflags(write=False)
    return result


def _between_nodes(table: Numbers, position: Float64) -> Numbers:
    """Interpolate along the first axis by Catmull-Rom cubics.

    Shape (*position, columns) from a table of shape (nodes, columns).
    """
    node = np.floor(position).astype(np.intp)
    t = (position - node).astype(np.float32)[..., None]
    result = table[node - 1] * (t * (-0.5 + t * (1 - 0.5 * t)))
    result += table[node] * (1 + t * t * (-2.5 + 1.5 * t))
    result += table[node + 1] * (t * (0.5 + t * (2 - 1.5 * t)))
    result += table[node + 2] * (t * t * (-0.5 + 0.5 * t))
    return np.asarray(result, dtype=table.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class StackOptics:
    """Optics to be tried on a stack.

    Attributes
    ----------
    objectives
        One for each colour.
    light
        Shared by the colours.
    pixel_um
        Pixel size on the object.
    sine
        NA / index that shapes the exact pupil: the file's, whatever NA is tried. The
        shape hardly changes with NA, and tables serve for all.
    z_scale
        True micrometres for each micrometre of the stage's.
    """

    objectives: tuple[Objective, ...]
    light: Light
    pixel_um: float
    sine: float
    z_scale: float = 1.0


def compute_costs(
    evidence: StackEvidence, optics: StackOptics, focus_um: Float64
) -> Float64:
    """Return J for some foci of each block and colour, in nats.

    Parameters
    ----------
    evidence
        The stack.
    optics
        The optics to try.
    focus_um
        Foci to try, shape (blocks, colours, foci).

    Returns
    -------
    ndarray of float64
        Shape (blocks, colours, foci).
    """
    frequency = evidence.frequency_per_px / optics.pixel_um
    depth_um = [
        optics.z_scale * (focus_um[:, colour, :, None] - evidence.z_um)
        for colour in range(focus_um.shape[1])
    ]
    costs = np.empty(focus_um.shape)
    weight = 0.5 * INDEPENDENT_SHARE * evidence.count
    transfers = stack_transfer(optics, frequency, depth_um)
    for colour, transfer in enumerate(transfers):
        cross = evidence.cross[:, colour]
        # Energy across is a small rest of large ones: single precision is too coarse.
        h = transfer.transpose(0, 3, 2, 1).astype(
            np.float64
        )  # (b, rings, planes, foci)
        norm = np.maximum((h**2).sum(axis=2), 1e-8)
        along = ((cross @ h) * h).sum(axis=2) / norm
        costs[:, colour] = np.einsum(
            "r,brf->bf", weight, _ring_costs(cross, along, evidence.z_um.size)
        )
    return costs


def plane_slopes(
    evidence: StackEvidence, optics: StackOptics, focus_um: Float64, step_um: float
) -> Float64:
    """Return dJ / dz of each plane's height, in nats per um, shape (blocks, planes).

    Parameters
    ----------
    focus_um
        Of each block and colour, shape (blocks, colours).
    step_um
        Over which the transfer is differentiated.

    Notes
    -----
    With h the transfers of a ring, dE_along / dh = 2 (Y h - E_along h) / |h|^2.
    """
    frequency = evidence.frequency_per_px / optics.pixel_um
    steps_um = step_um * np.array([-1.0, 0.0, 1.0])[:, None]
    depth_um = [
        optics.z_scale * (focus_um[:, colour, None, None] - evidence.z_um - steps_um)
        for colour in range(focus_um.shape[1])
    ]
    weight = 0.5 * INDEPENDENT_SHARE * evidence.count
    slopes = np.zeros((focus_um.shape[0], evidence.z_um.size))
    transfers = stack_transfer(optics, frequency, depth_um)
    for colour, transfer in enumerate(transfers):
        cross = evidence.cross[:, colour]
        below, h, above = transfer.transpose(1, 0, 3, 2).astype(np.float64)
        norm = np.maximum((h**2).sum(axis=-1), 1e-8)[..., None]
        seen = (cross @ h[..., None])[..., 0]
        along = np.maximum((seen * h).sum(axis=-1)[..., None] / norm, _TINY_ENERGY)
        total = np.trace(cross, axis1=2, axis2=3)[..., None]
        across = np.maximum(total - along, _TINY_ENERGY)
        count = evidence.z_um.size - 1
        pull = np.where(along * count > across, 1 / along - count / across, 0)
        change = 2 * (seen - along * h) / norm * (above - below) / (2 * step_um)
        slopes += np.einsum("r,brk->bk", weight, pull * change)
    return slopes


def _ring_costs(cross: Float64, along: Float64, count: int) -> Float64:
    """Return log E_along + (K - 1) log E_across of each ring."""
    total = np.trace(cross, axis1=2, axis2=3)[..., None]
    along = np.maximum(along, _TINY_ENERGY)
    across = np.maximum(total - along, _TINY_ENERGY) / (count - 1)
    # S cannot be negative: where more energy lies across, the fit is S = 0.
    fitted = np.log(along) + (count - 1) * np.log(across)
    blank = count * np.log(np.maximum(total, _TINY_ENERGY) / count)
    return np.asarray(np.where(along > across, fitted, blank), dtype=np.float64)


def fit_foci(
    evidence: StackEvidence, optics: StackOptics, focus_um: Float64, step_um: float
) -> Fit:
    """Return the cost of some optics with the focus of each block and colour free.

    Parameters
    ----------
    focus_um
        Where each is looked for, shape (blocks, colours): within some steps.
    step_um
        Distance of the three foci that a parabola is laid through.
    """
    tried = focus_um[..., None] + step_um * np.array([-1.0, 0.0, 1.0])
    costs = compute_costs(evidence, optics, tried)
    left, middle, right = np.moveaxis(costs, -1, 0)
    curvature = np.maximum(left - 2 * middle + right, 1e-9)
    shift = np.clip(0.5 * (left - right) / curvature, -2, 2)
    least = middle + shift * (right - left) / 2 + shift**2 * curvature / 2
    return Fit(
        cost=least,
        focus_um=focus_um + step_um * shift,
        focus_sd_um=step_um / np.sqrt(curvature),
    )
