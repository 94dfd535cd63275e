"""From which ranges pairs are drawn, and the drawing itself: all of it seeded.

Ranges: network.md of the project, section 6 (recipe, item 3); the offsets follow the
paper (arXiv 2003.06630, n ~ N(0, 1) um) plus a flat mix over defocus.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from bifocus.focal_offset import PairOptics
from bifocus.model.pair_spec import Imaging, OffsetKind, PairSpec

Range = tuple[float, float]

# The instrument that the quality goals are stated for.
REFERENCE_NA = 0.75
REFERENCE_PIXEL_UM = 0.25
REFERENCE_HALF_SPACING_UM = 0.75
NOMINAL_WAVELENGTHS_UM = (0.62, 0.53, 0.46)
# lambda / NA^2 of that instrument: spacings and offsets of others scale with theirs.
_REFERENCE_UNIT_UM = NOMINAL_WAVELENGTHS_UM[1] / REFERENCE_NA**2
# Edges in um, at the reference NA, of the smaller |defocus| of the two shots.
DEFOCUS_BINS_UM = (0.0, 0.25, 0.5, 1.0, 1.5, 2.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairMix:
    """From which ranges pairs are drawn; `a_share` is a probability.

    Spacings and offsets are stated at the reference NA 0.75 and scale with
    lambda / NA^2; `pixel_share` is the pixel in units of lambda / (2 NA).
    """

    reference_share: float = 0.5
    na: Range = (0.4, 0.95)
    pixel_share: Range = (0.45, 0.85)
    half_spacing_um: Range = (0.4, 1.2)
    reference_half_spacing_um: Range = (0.6, 0.9)
    offset_sigma_um: float = 1.0
    largest_offset_um: float = 2.75
    flat_share: float = 0.3
    identity_share: float = 0.12
    coherent_share: float = 0.5
    exact_pupil_share: float = 0.4
    condenser_sigma: Range = (0.35, 0.75)
    phase_rad: Range = (0.0, 0.25)
    n_sources: int = 14
    spherical_waves: float = 0.06
    coma_waves: float = 0.05
    relief_share: float = 0.6
    relief_um: Range = (0.1, 0.5)
    na_deviation: float = 0.02
    wavelength_deviation: float = 0.05
    spacing_deviation: float = 0.03
    shift_px: float = 0.5
    gain_deviation: float = 0.03
    tilt: float = 0.01
    full_well_e: Range = (8e3, 40e3)
    jpeg_share: float = 1 / 3
    jpeg_quality: tuple[int, int] = (80, 100)
    texture_scale: Range = (0.6, 1.0)
    stain_deviation: float = 0.2
    stain_turn_rad: float = 0.3
    srgb_share: float = 0.35
    blend_share: float = 0.0
    blend: Range = (0.3, 0.9)
    sharpen_share: float = 0.0
    sharpen: Range = (0.2, 1.0)
    texture_jpeg_share: float = 0.0
    texture_jpeg_quality: tuple[int, int] = (60, 95)
    faint_share: float = 0.0
    strength: Range = (0.2, 1.0)
    grain_share: float = 0.0
    grain: Range = (0.05, 0.5)
    grain_px: Range = (0.4, 1.2)


# The default: half of the instruments lie near the reference.
TRAINING_MIX = PairMix()
# The reference alone, mostly as the product stores it: a second store of these makes
# the network best where its goals are stated, and keeps it safe elsewhere.
REFERENCE_MIX = dataclasses.replace(
    TRAINING_MIX, reference_share=1.0, srgb_share=0.15, jpeg_share=0.2
)
# The reference instrument on textures that no slide has shown: two tissues over each
# other, any stain, finer structures, sharpened and JPEG sources. What a network learns
# of textures alone then does not pay.
DIVERSE_MIX = dataclasses.replace(
    REFERENCE_MIX,
    texture_scale=(0.4, 1.0),
    stain_deviation=0.5,
    stain_turn_rad=1.0,
    blend_share=0.5,
    sharpen_share=0.3,
    texture_jpeg_share=0.2,
)
# The same tissue under a reference instrument that somebody looks after: files without
# loss, little drift, numbers that are nearly right; its light may be anything.
MAINTAINED_MIX = dataclasses.replace(
    DIVERSE_MIX,
    reference_half_spacing_um=(0.65, 0.85),
    flat_share=0.2,
    identity_share=0.06,
    coherent_share=0.6,
    condenser_sigma=(0.4, 0.8),
    phase_rad=(0.05, 0.3),
    n_sources=10,
    spherical_waves=0.08,
    relief_share=0.4,
    na_deviation=0.01,
    wavelength_deviation=0.02,
    spacing_deviation=0.02,
    shift_px=0.25,
    gain_deviation=0.015,
    tilt=0.005,
    full_well_e=(12e3, 32e3),
    jpeg_share=0.05,
    srgb_share=0.05,
)
# Tissue that is hard to tell from noise: faint, and with a grain as fine as the optics
# pass. Without it a network smooths such tissue away, and harms it near focus.
GRAINY_MIX = dataclasses.replace(
    MAINTAINED_MIX,
    texture_jpeg_share=0.1,
    relief_share=0.25,
    coherent_share=0.5,
    flat_share=0.1,
    faint_share=0.6,
    grain_share=0.75,
)
# Never trained on: higher condenser, more phase, larger aberrations, other relief.
# Offsets are the paper's, the spacing is the product's.
EVALUATION_COHERENT = PairMix(
    reference_share=1.0,
    reference_half_spacing_um=(0.75, 0.75),
    largest_offset_um=2.5,
    flat_share=0.0,
    identity_share=0.0,
    coherent_share=1.0,
    condenser_sigma=(0.6, 0.8),
    phase_rad=(0.15, 0.3),
    n_sources=24,
    spherical_waves=0.1,
    relief_share=0.0,
    wavelength_deviation=0.0,
    na_deviation=0.0,
    spacing_deviation=0.0,
    full_well_e=(20e3, 20e3),
    jpeg_share=0.0,
    shift_px=0.0,
    gain_deviation=0.0,
    tilt=0.0,
    texture_scale=(1.0, 1.0),
    stain_deviation=0.0,
    stain_turn_rad=0.0,
    srgb_share=0.0,
)
EVALUATION_RELIEF = dataclasses.replace(
    EVALUATION_COHERENT,
    coherent_share=0.0,
    exact_pupil_share=0.0,
    spherical_waves=0.0,
    coma_waves=0.0,
    relief_share=1.0,
    relief_um=(0.4, 0.4),
)
MIXES = {
    "training": TRAINING_MIX,
    "reference": REFERENCE_MIX,
    "diverse": DIVERSE_MIX,
    "maintained": MAINTAINED_MIX,
    "grainy": GRAINY_MIX,
    "evaluation-coherent": EVALUATION_COHERENT,
    "evaluation-relief": EVALUATION_RELIEF,
}


def draw_instrument(mix: PairMix, rng: np.random.Generator) -> PairOptics:
    """Draw what the user tells the program about one instrument.

    The half-spacing is a multiple of 0.05 focus units, so that the transfer tables of
    the physics fuser are shared by both shots.
    """
    is_reference = rng.uniform() < mix.reference_share
    if is_reference:
        na, pixel_um = REFERENCE_NA, REFERENCE_PIXEL_UM
        spacing_um = rng.uniform(*mix.reference_half_spacing_um)
    else:
        na = float(round(rng.uniform(*mix.na), 3))
        share = rng.uniform(*mix.pixel_share)
        pixel_um = float(round(share * NOMINAL_WAVELENGTHS_UM[1] / (2 * na), 4))
        spacing_um = rng.uniform(*mix.half_spacing_um)
    unit_um = NOMINAL_WAVELENGTHS_UM[1] / na**2
    low, high = mix.reference_half_spacing_um
    if not (is_reference and low == high):
        spacing_um = 0.05 * unit_um * round(spacing_um / _REFERENCE_UNIT_UM / 0.05)
    return PairOptics(
        na=na,
        pixel_um=pixel_um,
        half_spacing_um=float(spacing_um),
        wavelengths_um=NOMINAL_WAVELENGTHS_UM,
    )


def draw_pair_spec(
    mix: PairMix, nominal: PairOptics, rng: np.random.Generator
) -> PairSpec:
    """Draw one pair of an instrument.

    Parameters
    ----------
    mix
        The ranges.
    nominal
        The instrument, from `draw_instrument`.
    rng
        All randomness comes from here.

    Returns
    -------
    PairSpec
        The complete record of the pair but for its texture.
    """
    scale = nominal.focus_unit_um / _REFERENCE_UNIT_UM
    spacing_um = nominal.half_spacing_um * (1 + _spread(rng, mix.spacing_deviation))
    kind, offset_um = _draw_offset_um(mix, spacing_um, scale, rng)
    imaging: Imaging = "coherent" if _chance(rng, mix.coherent_share) else "incoherent"
    exact = imaging == "coherent" or _chance(rng, mix.exact_pupil_share)
    has_relief = kind != "identity" and _chance(rng, mix.relief_share)
    relief_um = rng.uniform(*mix.relief_um) * scale if has_relief else 0.0
    # The coherent code renders one whole image per layer: three are enough there.
    spacing_share = 0.25 if imaging == "incoherent" else 0.45
    low, high = mix.jpeg_quality
    quality = int(rng.integers(low, high + 1)) if _chance(rng, mix.jpeg_share) else 0
    red, green, blue = (
        wavelength * (1 + _spread(rng, mix.wavelength_deviation))
        for wavelength in nominal.wavelengths_um
    )
    gains = 1 + mix.stain_deviation * rng.uniform(-1, 1, 3)
    return PairSpec(
        nominal=nominal,
        imaging=imaging,
        offset_kind=kind,
        offset_um=offset_um,
        half_spacing_um=spacing_um,
        na=min(nominal.na * (1 + _spread(rng, mix.na_deviation)), 0.97),
        pixel_um=nominal.pixel_um,
        wavelengths_um=(red, green, blue),
        pupil="exact" if exact else "paraxial",
        spherical_waves=_spread(rng, mix.spherical_waves),
        coma_waves=_spread(rng, mix.coma_waves),
        coma_angle_rad=float(rng.uniform(0, 2 * np.pi)),
        condenser_sigma=float(rng.uniform(*mix.condenser_sigma)),
        phase_rad=float(rng.uniform(*mix.phase_rad)),
        n_sources=mix.n_sources,
        relief_um=float(relief_um),
        layer_spacing_um=spacing_share * scale,
        shift_px=(_spread(rng, mix.shift_px), _spread(rng, mix.shift_px)),
        gain=1 + _spread(rng, mix.gain_deviation),
        tilt=(_spread(rng, mix.tilt), _spread(rng, mix.tilt)),
        full_well_e=float(np.exp(rng.uniform(*np.log(mix.full_well_e)))),
        read_noise_e=8.0,
        white_level=0.92,
        jpeg_quality=quality,
        texture_scale=float(rng.uniform(*mix.texture_scale)),
        stain_gain=(float(gains[0]), float(gains[1]), float(gains[2])),
        stain_turn_rad=_spread(rng, mix.stain_turn_rad),
        tone_curve="srgb" if _chance(rng, mix.srgb_share) else "linear",
        seed=int(rng.integers(2**31)),
        **_draw_texture_changes(mix, rng),
    )


def _draw_texture_changes(mix: PairMix, rng: np.random.Generator) -> dict[str, Any]:
    """Draw what is done to the texture; draws nothing from mixes that do nothing."""
    changes: dict[str, Any] = {}
    if mix.blend_share and _chance(rng, mix.blend_share):
        changes["texture_blend"] = float(rng.uniform(*mix.blend))
    if mix.sharpen_share and _chance(rng, mix.sharpen_share):
        changes["texture_sharpen"] = float(rng.uniform(*mix.sharpen))
    if mix.texture_jpeg_share and _chance(rng, mix.texture_jpeg_share):
        low, high = mix.texture_jpeg_quality
        changes["texture_jpeg"] = int(rng.integers(low, high + 1))
    if mix.faint_share and _chance(rng, mix.faint_share):
        changes["texture_strength"] = float(rng.uniform(*mix.strength))
    if mix.grain_share and _chance(rng, mix.grain_share):
        changes["texture_grain"] = float(rng.uniform(*mix.grain))
        changes["texture_grain_px"] = float(rng.uniform(*mix.grain_px))
    return changes


def _draw_offset_um(
    mix: PairMix, spacing_um: float, scale: float, rng: np.random.Generator
) -> tuple[OffsetKind, float]:
    """Draw the paper's normal offset, a flat one over defocus bins, or an exact one."""
    sign = 1.0 if rng.uniform() < 0.5 else -1.0
    choice = rng.uniform()
    limit_um = mix.largest_offset_um * scale
    if choice < mix.identity_share:
        return "identity", sign * spacing_um
    if choice < mix.identity_share + mix.flat_share:
        number = int(rng.integers(len(DEFOCUS_BINS_UM) - 1))
        low_um, high_um = DEFOCUS_BINS_UM[number], DEFOCUS_BINS_UM[number + 1]
        defocus_um = scale * rng.uniform(low_um, high_um)
        # Inside the pair where there is room and chance says so, else beyond it.
        inside = defocus_um <= spacing_um and rng.uniform() < 0.5
        offset_um = spacing_um - defocus_um if inside else spacing_um + defocus_um
        return "flat", sign * min(offset_um, limit_um)
    offset_um = rng.normal(0, mix.offset_sigma_um * scale)
    return "normal", float(np.clip(offset_um, -limit_um, limit_um))


def _spread(rng: np.random.Generator, half_width: float) -> float:
    return float(rng.uniform(-half_width, half_width))


def _chance(rng: np.random.Generator, share: float) -> bool:
    return bool(rng.uniform() < share)
