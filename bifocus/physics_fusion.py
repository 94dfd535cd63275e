"""Blind two-shot Wiener fusion: the training-free way from a pair to the focused tile.

Each block of the pair gets its own focal offset (`bifocus.focal_offset`) and, ring by
ring of spatial frequency, its own signal power S and noise power N, estimated from the
pair itself. The linear estimate of the in-focus image x = h(0) o that has the least
mean squared error is

    X = h0 S (h- Y-/N- + h+ Y+/N+) / (1 + S (h-^2/N- + h+^2/N+))

(N. Wiener 1949, for two observations of one object). N- and N+ are the camera's noise
plus what an uncertain offset makes of the signal in each shot, so that the far shot,
whose blur changes fastest, is believed least. X is mixed with the sharper shot, and
gives way to it entirely where that shot already is in focus. All of it is linear in
the two shots, so a block costs two gain profiles and one inverse FFT per colour.
"""

import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
import scipy.fft

from bifocus.errors import ImageFileError
from bifocus.focal_offset import (
    OffsetMap,
    PairOptics,
    estimate_offset_map,
    offset_grid_um,
    ring_frequency_per_um,
    split_energy,
    transfer_tables,
)
from bifocus.joint_colours import joint_mixing, smooth
from bifocus.light_choice import choose_light, light_evidence
from bifocus.pair_alignment import align, estimate_shift_px
from bifocus.pair_spectra import (
    Complex64,
    PairSpectra,
    RadialBins,
    assemble,
    compute_spectra,
    fill_statistics,
    filter_block,
    inner_rings,
    radial_bins,
)
from bifocus.records import FocalOffset, UInt8Image
from bifocus.sharpness import is_plus_sharper
from bifocus.tone import ToneCurve, decode, encode
from bifocus.transfer import INCOHERENT, compute_transfer

Float32 = npt.NDArray[np.float32]

# Each colour is fused from itself alone, or from all three together.
Colours = Literal["apart", "together"]

# Smallest image side that holds one small block without mirroring it whole.
MIN_SIDE_PX = 64

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


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicsResult:
    """What the fusion of one pair gives."""

    pixels: UInt8Image
    offset: FocalOffset
    local_um: Float32
    quality: float
    seconds: float
    sharper_is_plus: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredPair:
    """A pair whose focal offsets are known: all that fusion still needs.

    `optics` holds the light, told or read from the pair. `shift_px` (down, right) is
    how far the plus shot must move to fit the minus; the spectra have been moved
    already, onto the sharper shot's grid.
    """

    minus: UInt8Image
    plus: UInt8Image
    shift_px: tuple[float, float]
    spectra: PairSpectra
    optics: PairOptics
    offsets: OffsetMap
    tone_curve: ToneCurve
    sharper_is_plus: bool
    seconds: float


def fuse_two_shots(
    minus: UInt8Image,
    plus: UInt8Image,
    optics: PairOptics,
    *,
    tone_curve: ToneCurve = "linear",
    colours: Colours = "apart",
) -> PhysicsResult:
    """Fuse the shots at F-dD and F+dD into the in-focus image.

    Parameters
    ----------
    minus, plus
        uint8, (rows, columns, 3), both sides >= 64 px, the same field.
    optics
        NA, pixel, wavelengths and dD of the pair.
    tone_curve
        How the stored values relate to light; see `bifocus.tone`.
    colours
        Whether each colour is made of itself alone, or of all three
        (`bifocus.joint_colours`): the picture that networks start from.

    Returns
    -------
    PhysicsResult
        `pixels` lies on the pixel grid of the sharper shot.

    Raises
    ------
    ImageFileError
        If the shots are not RGB images of one size, or too small.
    """
    _check(minus, plus)
    measured = measure_pair(minus, plus, optics, tone_curve=tone_curve)
    return fuse_measured(measured, colours=colours)


def fuse_measured(
    measured: MeasuredPair, *, colours: Colours = "apart"
) -> PhysicsResult:
    """Fuse a pair whose offsets are known already; see `fuse_two_shots`."""
    start_s = time.perf_counter()
    fits: list[tuple[float, float]] = []
    blocks = _filtered_blocks(
        measured.spectra, measured.optics, measured.offsets, colours, fits
    )
    linear = assemble(blocks, measured.spectra)
    unexplained, explained = map(sum, zip(*fits, strict=True))
    return PhysicsResult(
        pixels=encode(linear, measured.tone_curve),
        offset=measured.offsets.tile,
        local_um=measured.offsets.local_um,
        quality=_quality(unexplained, explained),
        seconds=measured.seconds + time.perf_counter() - start_s,
        sharper_is_plus=measured.sharper_is_plus,
    )


def measure_pair(
    minus: UInt8Image,
    plus: UInt8Image,
    optics: PairOptics,
    *,
    tone_curve: ToneCurve = "linear",
    spectra_in: Complex64 | None = None,
) -> MeasuredPair:
    """Transform and align a pair and read its focal offsets; the first half of fusion.

    Parameters and errors are those of `fuse_two_shots`; `spectra_in` is memory for the
    spectra, see `bifocus.pair_spectra.compute_spectra`.
    """
    _check(minus, plus)
    start_s = time.perf_counter()
    plus_is_sharper = is_plus_sharper(minus, plus)
    first, second = decode(minus, tone_curve), decode(plus, tone_curve)
    shift_px = estimate_shift_px(first, second)
    spectra = compute_spectra(first, second, spectra_in)
    align(spectra, shift_px, reference=int(plus_is_sharper))
    fill_statistics(spectra)
    if optics.light is None:
        evidence = light_evidence(spectra)
        light = choose_light([evidence], optics, spectra.layout.block_px)
        optics = dataclasses.replace(optics, light=light)
    offsets = estimate_offset_map(spectra, optics)
    return MeasuredPair(
        minus=minus,
        plus=plus,
        shift_px=shift_px,
        spectra=spectra,
        optics=optics,
        offsets=offsets,
        tone_curve=tone_curve,
        sharper_is_plus=plus_is_sharper,
        seconds=time.perf_counter() - start_s,
    )


def _check(minus: UInt8Image, plus: UInt8Image) -> None:
    for name, image in (("minus", minus), ("plus", plus)):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            msg = (
                f"the {name} shot must be 8-bit RGB (rows, columns, 3), "
                f"got {image.dtype} {image.shape}"
            )
            raise ImageFileError(msg)
        if min(image.shape[:2]) < MIN_SIDE_PX:
            msg = (
                f"the {name} shot is {image.shape[1]}x{image.shape[0]} px; "
                f"both sides must be at least {MIN_SIDE_PX} px"
            )
            raise ImageFileError(msg)
    if minus.shape != plus.shape:
        msg = f"the two shots differ in size: {minus.shape} and {plus.shape}"
        raise ImageFileError(msg)


def _filtered_blocks(
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


def _quality(unexplained: float, explained: float) -> float:
    """Return 1 - sqrt(energy across / energy along), clipped to 0..1."""
    ratio = unexplained / max(explained, 1e-30)
    return float(np.clip(1 - np.sqrt(ratio), 0, 1))
