"""The drawing of an instrument, and of a pair of it, from a mix: all of it seeded."""

from typing import Any

import numpy as np

from bifocus.focal_offset import PairOptics
from bifocus.model.pair_mix import (
    DEFOCUS_BINS_UM,
    NOMINAL_WAVELENGTHS_UM,
    REFERENCE_NA,
    REFERENCE_PIXEL_UM,
    REFERENCE_UNIT_UM,
    PairMix,
)
from bifocus.model.pair_spec import Imaging, OffsetKind, PairSpec


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
        spacing_um = 0.05 * unit_um * round(spacing_um / REFERENCE_UNIT_UM / 0.05)
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
    scale = nominal.focus_unit_um / REFERENCE_UNIT_UM
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
    if mix.noise_share and _chance(rng, mix.noise_share):
        changes["texture_noise"] = float(rng.uniform(*mix.noise_levels))
        changes["texture_noise_px"] = float(rng.uniform(*mix.noise_px))
        changes["texture_noise_colour"] = float(rng.uniform(*mix.noise_colour))
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
