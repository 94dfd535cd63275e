"""The fused picture of one block: gains by ring, from what its two shots tell.

Signal and noise power of each ring of frequencies come from the pair itself
(docs/decisions/0006); the method is told in `bifocus.physics_fusion`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
import scipy.fft

from bifocus.focal_offset import (
    OffsetMap,
    PairOptics,
    offset_grid_um,
    ring_frequency_per_um,
    split_energy,
    transfer_tables,
)
from bifocus.joint_colours import joint_mixing, smooth
from bifocus.pair_spectra import (
    Complex64,
    PairSpectra,
    RadialBins,
    filter_block,
    inner_rings,
    radial_bins,
)
from bifocus.transfer import INCOHERENT, compute_transfer

Float32 = npt.NDArray[np.float32]

# Each colour is fused from itself alone, or from all three together.
Colours = Literal["apart", "together"]

# Share of the Wiener image in the mix: on pairs of foreign optics a little less than
# all of it is best, on matched optics it costs 0.1 dB (docs/decisions/0006), and 0.25
# dB on a whole instrument whose optics were measured: there all of it is taken.
TRUST = 0.9
# No frequency is amplified more than this; noise beyond the model would be, too.
MAX_GAIN = 2.5
# How far, in the same units, the true offset may lie from the estimated one inside a
# block; more energy across h than this explains is put down to foreign optics.
OFFSET_DOUBT_UNITS = 0.15
# Energy across scatters from ring to ring; only what exceeds this many times the
# camera's noise counts as mismatch.
SCATTER = 1.3
# |defocus| of the nearer shot, in units of lambda / NA^2, up to which that shot is
# returned as it is, and from which the mix applies in full.
IN_FOCUS_UNITS = (0.02, 0.06)
# Quantisation to 8 bits adds 1/12 of a squared level.
QUANTISATION_POWER = 1 / 12 / 255**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What both shots of one block tell in each ring.

    Attributes
    ----------
    weight
        h/N of each shot and colour, (2, colours, bins): what it is counted by.
    precision
        h-^2/N- + h+^2/N+, (colours, bins).
    signal
        Power S of the object, (colours, bins).
    focus
        h(0), (colours, bins).
    """

    weight: Float32
    precision: Float32
    signal: Float32
    focus: Float32


def fused_blocks(
    pair: PairSpectra,
    optics: PairOptics,
    offsets: OffsetMap,
    colours: Colours,
    fits: list[tuple[float, float]],
) -> Iterator[Float32]:
    """Yield the blocks (colours, block, block); append the energies of their fits."""
    size = pair.layout.block_px
    local_um = offsets.local_um.ravel()
    trust = np.float32(trust_in_optics(optics))
    share = trust * _wiener_share(local_um, optics)
    plus_share = _plus_share(local_um, optics)
    for block in range(local_um.size):
        tables = _tables_at(optics, size, float(local_um[block]))
        seen, fit = _observe(pair, block, tables, optics)
        fits.append(fit)
        pick = np.array([1 - plus_share[block], plus_share[block]], dtype=np.float32)
        if colours == "together":
            mixed = _mix_together(pair, block, seen, trust, pick)
        else:
            mixed = _mix_apart(pair, block, seen, share[block], pick)
        mixed[:, 0, 0] += size**2 * (pick @ pair.means[:, block])
        yield np.asarray(scipy.fft.irfft2(mixed, (size, size)), dtype=np.float32)


def _mix_apart(
    pair: PairSpectra, block: int, seen: Observed, share: np.float32, pick: Float32
) -> Complex64:
    """Return the spectra of the fused block, each colour from itself alone."""
    gains = seen.focus * seen.signal * seen.weight / (1 + seen.signal * seen.precision)
    strength = np.hypot(gains[0], gains[1])
    gains *= np.minimum(1.0, MAX_GAIN / np.maximum(strength, 1e-9))
    # Rings 0 and 1 hold the window's own leakage: pass them through, half from each.
    gains[:, :, :2] = 0.5
    gains = share * gains + (1 - share) * pick[:, None, None]
    gains = gains.astype(np.float32)
    return np.stack(
        [filter_block(pair.spectra[:, block, c], gains[:, c]) for c in range(3)]
    )


def _mix_together(
    pair: PairSpectra, block: int, seen: Observed, share: np.float32, pick: Float32
) -> Complex64:
    """Return the spectra of the fused block, each colour from all three."""
    spectra = pair.spectra[:, block]
    combined = [filter_block(spectra[:, c], seen.weight[:, c]) for c in range(3)]
    mixing = joint_mixing(
        combined, pair.layout, seen.precision, seen.signal, seen.focus
    )
    power = (mixing**2 * np.square(seen.weight).sum(axis=0)).sum(axis=1)
    mixing *= np.minimum(1.0, MAX_GAIN / np.maximum(np.sqrt(power), 1e-9))[:, None]
    mixing[..., :2] = 0
    mixed = np.stack([filter_block(combined, share * mixing[c]) for c in range(3)])
    inner = inner_rings(pair.layout.block_px)
    for c in range(3):
        # As in `_mix_apart`: the innermost rings pass, half from each shot.
        both = spectra[0, c][inner] + spectra[1, c][inner]
        mixed[c][inner] += np.float32(0.5) * share * both
        wide = mixed[c].view(np.float32)
        for shot in np.flatnonzero(pick):
            values = spectra[shot, c].view(np.float32)
            cv2.scaleAdd(values, float((1 - share) * pick[shot]), wide, dst=wide)
    return mixed


def _observe(
    pair: PairSpectra, block: int, tables: Float32, optics: PairOptics
) -> tuple[Observed, tuple[float, float]]:
    """Return what a block's shots tell, and the energies across and along h."""
    bins = radial_bins(pair.layout.block_px)
    mean = pair.statistics[:, block] / np.maximum(bins.count, 1)
    h, slope, focus = tables[:2], tables[2:4], tables[4]
    along, across, norm = split_energy(mean, h)
    along, across = smooth(along), smooth(across)
    noise = _camera_noise(across, bins)
    signal = np.maximum(along - across, 0) / norm + np.float32(1e-12)
    # Energy across beyond the camera's noise is mismatch: a block is not level, and
    # its offset not exact. The shot whose transfer changes faster with z carries it.
    lean = (h[1] ** 2 * slope[0] ** 2 + h[0] ** 2 * slope[1] ** 2) / norm
    mismatch = np.maximum(across - SCATTER * noise, 0) / np.maximum(lean, 1e-6)
    doubt_um = np.float32(OFFSET_DOUBT_UNITS * optics.focus_unit_um)
    mismatch = np.minimum(mismatch, signal * doubt_um**2)
    weight = np.asarray(h / (noise + mismatch * slope**2), dtype=np.float32)
    seen = Observed(
        weight=weight,
        precision=np.asarray((weight * h).sum(axis=0), dtype=np.float32),
        signal=np.asarray(signal, dtype=np.float32),
        focus=focus,
    )
    used = bins.count[2:]
    energy = float((across[:, 2:] * used).sum()), float((along[:, 2:] * used).sum())
    return seen, energy


def _camera_noise(across: Float32, bins: RadialBins) -> Float32:
    """Return the white noise power of each colour, shape (colours, rings)."""
    outer = bins.frequency > 0.35
    floor = np.median(across[:, outer], axis=1, keepdims=True)
    noise: Float32 = np.maximum(
        np.minimum(across, floor), np.float32(QUANTISATION_POWER)
    )
    return noise


def _tables_at(optics: PairOptics, block_px: int, offset_um: float) -> Float32:
    """Return h-, h+, their slopes per um and h(0), shape (5, colours, bins)."""
    grid_um = offset_grid_um(optics)
    step_um = grid_um[1] - grid_um[0]
    position = np.clip((offset_um - grid_um[0]) / step_um, 0, grid_um.size - 1.001)
    low = int(position)
    part = np.float32(position - low)
    tables = transfer_tables(optics, block_px)
    below, above = tables[:, :, low], tables[:, :, low + 1]
    h = (below * (1 - part) + above * part).swapaxes(0, 1)
    slope = ((above - below) / np.float32(step_um)).swapaxes(0, 1)
    return np.concatenate([h, slope, focus_table(optics, block_px)[None]])


@lru_cache(maxsize=64)
def focus_table(optics: PairOptics, block_px: int) -> Float32:
    """Return h(0) of each ring of a block, shape (colours, bins)."""
    frequency = ring_frequency_per_um(optics, block_px)
    light = optics.light or INCOHERENT
    rows = [
        compute_transfer(optics.objective(colour), light, frequency, np.zeros(1))[0]
        for colour in range(3)
    ]
    return np.stack(rows)


def trust_in_optics(optics: PairOptics) -> float:
    """Return the largest share of the Wiener image in the mix; see `TRUST`."""
    return 1.0 if optics.is_measured else TRUST


def _wiener_share(local_um: Float32, optics: PairOptics) -> Float32:
    """Return how much of `trust_in_optics` each block takes: 0 where in focus."""
    nearer_um = np.abs(np.abs(local_um) - optics.half_spacing_um)
    low, high = (units * optics.focus_unit_um for units in IN_FOCUS_UNITS)
    rise = np.asarray(np.clip((nearer_um - low) / (high - low), 0, 1))
    return np.asarray(rise * rise * (3 - 2 * rise), dtype=np.float32)


def _plus_share(local_um: Float32, optics: PairOptics) -> Float32:
    """Return the plus shot's share of the "sharper shot": 1 above F, 0 below it.

    Within a tenth of dD of F both shots are equally blurred and are averaged.
    """
    share = np.clip(0.5 + 5 * local_um / optics.half_spacing_um, 0, 1)
    return np.asarray(share, dtype=np.float32)
