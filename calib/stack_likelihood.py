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
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import scipy.fft

from bifocus.focal_offset import INDEPENDENT_SHARE
from bifocus.optics import Objective
from bifocus.records import UInt8Image
from bifocus.sharpness import to_gray
from bifocus.tone import ToneCurve, decode
from bifocus.transfer import Light, compute_rim_waves, integrate_transfer

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

# Rings over 0 to 0.5 cycles per pixel. Below so many cycles across a block the window
# smears transfers that change fast with frequency: rings from 5 cycles on put NA off by
# 1.7 %, from 25 on by 0.5 % (virtual instruments).
_RINGS = 48
_LEAST_CYCLES = 25
_LARGEST_BLOCK_PX = 256
_MOST_BLOCKS = 9
# Transfers are integrated at nodes so far apart in waves of defocus, and interpolated
# by cubics in between (error under 2e-3).
_NODE_WAVES = 0.1
_QUADRATURE = (12, 6)
# Below this share of the (0..1)^2 scale energy is rounding.
_TINY_ENERGY = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class StackLayout:
    """Blocks of a field: their side, and row and column of their first pixels."""

    block_px: int
    hop_px: int
    corners_px: tuple[tuple[int, int], ...]

    @property
    def overlap(self) -> float:
        """How many blocks share one block's worth of tissue.

        A Hann window sees half of its length along each axis.
        """
        return max(1.0, (self.block_px / 2 / self.hop_px) ** 2)


def plan_blocks(shot: UInt8Image) -> StackLayout:
    """Choose the blocks of a field that show the most detail.

    Parameters
    ----------
    shot
        The sharpest plane, uint8, (rows, columns, 3), sides of 160 px or more.
    """
    rows, columns = shot.shape[:2]
    block = min(_LARGEST_BLOCK_PX, 2 * (5 * min(rows, columns) // 16))
    hop = min(block // 2, (min(rows, columns) - block) // 2)
    gray = to_gray(shot)
    detail = np.square(np.diff(gray, axis=0)[:, :-1]) + np.square(
        np.diff(gray, axis=1)[:-1]
    )
    corners = [
        (row, column)
        for row in range(0, rows - block + 1, hop)
        for column in range(0, columns - block + 1, hop)
    ]
    corners.sort(key=lambda at: -_block_sum(detail, at, block))
    return StackLayout(
        block_px=block, hop_px=hop, corners_px=tuple(sorted(corners[:_MOST_BLOCKS]))
    )


def _block_sum(detail: Float32, corner: tuple[int, int], block_px: int) -> float:
    row, column = corner
    return float(detail[row : row + block_px, column : column + block_px].sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class StackEvidence:
    """What a z-stack says: cross-spectra of all planes in each ring.

    Attributes
    ----------
    z_um
        Planes in the stage frame, shape (planes,).
    cross
        Mean Re(Y_i conj Y_j), shape (blocks, colours, rings, planes, planes).
    count
        Independent real numbers in each ring, shape (rings,).
    frequency_per_px
        Mean radius of each ring, shape (rings,).
    overlap
        How many blocks share what is one block's worth of tissue.
    """

    z_um: Float64
    cross: Float32
    count: Float64
    frequency_per_px: Float64
    overlap: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """The cost of some optics, block by block, and where each block is in focus.

    `cost` has shape (blocks, colours), in nats; `focus_um` and its curvature
    `focus_sd_um` likewise, in the stage frame.
    """

    cost: Float64
    focus_um: Float64
    focus_sd_um: Float64


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rings:
    """Which coefficients of a block's half plane lie in which ring.

    `order` lists coefficients ring by ring, `starts` where each ring begins; `weight`
    is the square root of how often each counts.
    """

    order: npt.NDArray[np.intp]
    starts: npt.NDArray[np.intp]
    weight: Float32
    count: Float64
    frequency_per_px: Float64


@lru_cache(maxsize=4)
def _rings(block_px: int) -> _Rings:
    rows = np.fft.fftfreq(block_px)[:, None]
    columns = np.fft.rfftfreq(block_px)[None, :]
    radius = np.hypot(rows, columns).ravel()
    ring = (radius * (2 * _RINGS)).astype(np.intp)
    doubling = np.full((block_px, columns.size), 2.0)
    doubling[:, 0] = 1.0  # these two columns hold their own conjugates
    doubling[:, -1] = 1.0
    order = np.argsort(ring, kind="stable")
    order = order[ring[order] < _RINGS]
    weight = doubling.ravel()[order]
    count = np.asarray(np.bincount(ring[order], weight, _RINGS), dtype=np.float64)
    total = np.bincount(ring[order], weight * radius[order], _RINGS)
    return _Rings(
        order=order,
        starts=np.searchsorted(ring[order], np.arange(_RINGS + 1)),
        weight=np.sqrt(weight).astype(np.float32),
        count=count,
        frequency_per_px=total / np.maximum(count, 1),
    )


def gather_evidence(
    planes: Sequence[UInt8Image],
    z_um: Float64,
    *,
    tone_curve: ToneCurve,
    shifts_px: Float64,
    layout: StackLayout,
) -> StackEvidence:
    """Transform some blocks of a stack.

    Parameters
    ----------
    planes
        Shots, uint8, (rows, columns, 3).
    z_um
        Their heights, shape (planes,).
    tone_curve
        How the stored values relate to light.
    shifts_px
        By how much each plane must move (down, right) to fit the others, (planes, 2).
    layout
        The blocks.
    """
    block_px, corners_px = layout.block_px, layout.corners_px
    rings = _rings(block_px)
    edge = np.hanning(block_px + 1)[:-1]
    window = np.outer(edge, edge).astype(np.float32)
    moves = _phase_ramps(shifts_px, block_px, rings)
    count = len(planes)
    cross = np.zeros((len(corners_px), 3, _RINGS, count, count), dtype=np.float32)
    for block, (row, column) in enumerate(corners_px):
        place = np.s_[row : row + block_px, column : column + block_px]
        cut = np.stack([decode(plane[place], tone_curve) for plane in planes])
        # A lamp that flickers changes all of a plane alike.
        cut /= np.einsum("kyxc,yx->kc", cut, window)[:, None, None] / window.sum()
        for colour in range(3):
            spectra = scipy.fft.rfft2((cut[..., colour] - 1) * window)
            spectra = spectra.reshape(count, -1)[:, rings.order] * moves
            for ring, (start, stop) in enumerate(pairwise(rings.starts)):
                part = spectra[:, start:stop]
                real = np.concatenate([part.real, part.imag], axis=1)
                cross[block, colour, ring] = real @ real.T
    scale = np.maximum(rings.count, 1) * float(np.square(window).sum())
    cross /= scale[:, None, None].astype(np.float32)
    first = int(np.ceil(2 * _RINGS * _LEAST_CYCLES / block_px))
    return StackEvidence(
        z_um=np.asarray(z_um, dtype=np.float64),
        cross=np.ascontiguousarray(cross[:, :, first:]),
        count=rings.count[first:],
        frequency_per_px=rings.frequency_per_px[first:],
        overlap=layout.overlap,
    )


def _phase_ramps(
    shifts_px: Float64, block_px: int, rings: _Rings
) -> npt.NDArray[np.complex64]:
    """Return what moves each plane's spectrum, times the rings' weights."""
    rows, columns = np.meshgrid(
        np.fft.fftfreq(block_px), np.fft.rfftfreq(block_px), indexing="ij"
    )
    place = np.stack([rows.ravel()[rings.order], columns.ravel()[rings.order]])
    ramps: npt.NDArray[np.complex64] = np.exp(-2j * np.pi * (shifts_px @ place)).astype(
        np.complex64
    )
    ramps *= rings.weight
    return ramps


def select_planes(
    evidence: StackEvidence, planes: npt.NDArray[np.intp]
) -> StackEvidence:
    """Return the evidence of some of the planes."""
    cross = evidence.cross[..., planes[:, None], planes]
    return dataclasses.replace(evidence, z_um=evidence.z_um[planes], cross=cross)


def stack_transfer(
    objectives: Sequence[Objective],
    light: Light,
    frequency_per_um: Float64,
    depth_um: Sequence[Float64],
) -> list[Float32]:
    """Return each colour's transfer at its own depths, shape (*depths, rings).

    Parameters
    ----------
    objectives
        One for each colour.
    light
        Shared by the colours.
    frequency_per_um
        Shape (rings,).
    depth_um
        Height of the tissue above the plane of focus, one array for each colour.
    """
    waves = [
        compute_rim_waves(objective, light.pupil, depth)
        for objective, depth in zip(objectives, depth_um, strict=True)
    ]
    low = min(float(part.min()) for part in waves) - 2 * _NODE_WAVES
    high = max(float(part.max()) for part in waves) + 2 * _NODE_WAVES
    count = int(np.ceil((high - low) / _NODE_WAVES)) + 2
    s = [frequency_per_um * obj.wavelength_um / obj.na for obj in objectives]
    sine = objectives[0].na / objectives[0].refractive_index
    table = integrate_transfer(
        light,
        sine,
        np.minimum(np.concatenate(s), 2.0),
        (low, _NODE_WAVES, count),
        nodes=_QUADRATURE,
    )
    whole = table.real + np.float32(light.phase_ratio) * table.imag
    size = frequency_per_um.size
    return [
        _between_nodes(
            whole[:, colour * size : (colour + 1) * size], (part - low) / _NODE_WAVES
        )
        for colour, part in enumerate(waves)
    ]


def _between_nodes(table: Float32, position: Float64) -> Float32:
    """Interpolate by Catmull-Rom cubics; shape (*position, rings)."""
    node = np.floor(position).astype(np.intp)
    t = (position - node).astype(np.float32)[..., None]
    result = table[node - 1] * (t * (-0.5 + t * (1 - 0.5 * t)))
    result += table[node] * (1 + t * t * (-2.5 + 1.5 * t))
    result += table[node + 1] * (t * (0.5 + t * (2 - 1.5 * t)))
    result += table[node + 2] * (t * t * (-0.5 + 0.5 * t))
    return np.asarray(result, dtype=np.float32)


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
    z_scale
        True micrometres for each micrometre of the stage's.
    """

    objectives: tuple[Objective, ...]
    light: Light
    pixel_um: float
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
    transfers = stack_transfer(optics.objectives, optics.light, frequency, depth_um)
    for colour, transfer in enumerate(transfers):
        cross = evidence.cross[:, colour]
        h = transfer.transpose(0, 3, 2, 1)  # (blocks, rings, planes, foci)
        norm = np.maximum((h**2).sum(axis=2), np.float32(1e-8))
        along = ((cross @ h) * h).sum(axis=2) / norm
        costs[:, colour] = np.einsum(
            "r,brf->bf", weight, _ring_costs(cross, along, evidence.z_um.size)
        )
    return costs


def _ring_costs(cross: Float32, along: Float32, count: int) -> Float64:
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
