"""What a z-stack says of the optics: cross-spectra of its planes, block by block.

Blocks lie where the field shows most detail; each is transformed under a Hann window,
and the products of all planes with each other are averaged over rings of frequency.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import scipy.fft

from bifocus.records import UInt8Image
from bifocus.sharpness import to_gray
from bifocus.tone import ToneCurve, decode

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

# Rings over 0 to 0.5 cycles per pixel. Below so many cycles across a block the window
# smears transfers that change fast with frequency: rings from 5 cycles on put NA off by
# 1.7 %, from 25 on by 0.5 % (virtual instruments).
_RINGS = 48
_LEAST_CYCLES = 25
_LARGEST_BLOCK_PX = 256
_MOST_BLOCKS = 9
LEAST_SIDE_PX = 200
"""Smallest picture of which blocks with enough rings can be cut."""


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

    @property
    def effective_blocks(self) -> float:
        """How many blocks' worth of tissue they hold."""
        return len(self.corners_px) / self.overlap


def plan_blocks(shot: UInt8Image) -> StackLayout:
    """Choose the blocks of a field that show the most detail.

    Parameters
    ----------
    shot
        The sharpest plane, uint8, (rows, columns, 3), sides of `LEAST_SIDE_PX` or more.
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
    cross: Float64
    count: Float64
    frequency_per_px: Float64
    overlap: float


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
        cross=np.ascontiguousarray(cross[:, :, first:], dtype=np.float64),
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
