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
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bifocus.block_fusion import Colours, fused_blocks
from bifocus.errors import ImageFileError
from bifocus.focal_offset import (
    OffsetMap,
    PairOptics,
    estimate_offset_map,
)
from bifocus.light_choice import choose_light, light_evidence
from bifocus.pair_alignment import align, estimate_shift_px
from bifocus.pair_spectra import (
    Complex64,
    PairSpectra,
    assemble,
    compute_spectra,
    fill_statistics,
)
from bifocus.records import FloatImage, FocalOffset, UInt8Image
from bifocus.sharpness import is_plus_sharper
from bifocus.tone import ToneCurve, decode, encode, encode_remainder

Float32 = npt.NDArray[np.float32]

# Smallest image side that holds one small block without mirroring it whole.
MIN_SIDE_PX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicsResult:
    """What the fusion of one pair gives.

    `pixels` is `linear`, light that may lie outside 0..1, encoded by `tone_curve`.
    """

    pixels: UInt8Image
    linear: FloatImage
    tone_curve: ToneCurve
    offset: FocalOffset
    local_um: Float32
    quality: float
    seconds: float
    sharper_is_plus: bool

    def remainder(self) -> UInt8Image:
        """Compute what `pixels` lost by rounding; see `tone.encode_remainder`."""
        return encode_remainder(self.linear, self.pixels, self.tone_curve)


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
    blocks = fused_blocks(
        measured.spectra, measured.optics, measured.offsets, colours, fits
    )
    linear = assemble(blocks, measured.spectra)
    unexplained, explained = map(sum, zip(*fits, strict=True))
    return PhysicsResult(
        pixels=encode(linear, measured.tone_curve),
        linear=linear,
        tone_curve=measured.tone_curve,
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


def _quality(unexplained: float, explained: float) -> float:
    """Return 1 - sqrt(energy across / energy along), clipped to 0..1."""
    ratio = unexplained / max(explained, 1e-30)
    return float(np.clip(1 - np.sqrt(ratio), 0, 1))
