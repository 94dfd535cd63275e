"""Everything that is random about one training pair, drawn from a seeded generator.

A pair is made by one *instrument* (`PairOptics`: what the user tells the program) whose
true optics deviate from what was told. `draw_instrument` draws the former and
`draw_pair_spec` the latter; rendering, sensing and the network never draw anything
else, so a pair is repeated exactly from its record.

Ranges: network.md of the project, section 6 (recipe, item 3); the offsets follow the
paper (arXiv 2003.06630, n ~ N(0, 1) um) plus a flat mix over defocus.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bifocus.errors import ConfigError
from bifocus.focal_offset import PairOptics
from bifocus.optics import Pupil
from bifocus.tone import ToneCurve

Float32 = npt.NDArray[np.float32]
Imaging = Literal["incoherent", "coherent"]
OffsetKind = Literal["normal", "flat", "identity"]
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
class PairSpec:
    """One pair: what the user was told (`nominal`), and what is true.

    Attributes
    ----------
    nominal
        NA, pixel, wavelengths and half-spacing as told to the program.
    imaging
        The image formation code: `bifocus.model.incoherent` or `.coherent`.
    offset_um
        Best focus minus F, before relief; the shots stand at -+`half_spacing_um`.
    spherical_waves, coma_waves, coma_angle_rad
        Aberrations: rho^4 - rho^2, and (3 rho^3 - 2 rho) cos(angle).
    condenser_sigma, phase_rad, n_sources
        Coherent only: condenser NA / objective NA, phase of full absorption, and points
        that sample the condenser.
    relief_um, layer_spacing_um
        Amplitude of the height map, and the distance of the layers it is cut into.
    shift_px, gain, tilt
        Drift of the less sharp shot against the other: rows and columns, factor, and
        the relative brightness gradient across the field along rows and columns.
    full_well_e, read_noise_e, white_level
        The camera; clear glass fills `white_level` of the range.
    jpeg_quality
        Both shots are stored as JPEG of this quality; 0 for lossless.
    texture_scale, stain_gain, stain_turn_rad
        The texture is shrunk to this scale; optical densities are multiplied by colour
        and their colour mixture is turned by a small angle about grey.
    tone_curve
        How the camera stores light; known to the program.
    seed
        Of the noise and the relief.
    """

    nominal: PairOptics
    imaging: Imaging
    offset_kind: OffsetKind
    offset_um: float
    half_spacing_um: float
    na: float
    pixel_um: float
    wavelengths_um: tuple[float, float, float]
    pupil: Pupil
    spherical_waves: float
    coma_waves: float
    coma_angle_rad: float
    condenser_sigma: float
    phase_rad: float
    n_sources: int
    relief_um: float
    layer_spacing_um: float
    shift_px: tuple[float, float]
    gain: float
    tilt: tuple[float, float]
    full_well_e: float
    read_noise_e: float
    white_level: float
    jpeg_quality: int
    texture_scale: float
    stain_gain: tuple[float, float, float]
    stain_turn_rad: float
    tone_curve: ToneCurve
    seed: int

    def __post_init__(self) -> None:
        """Refuse what cannot be rendered."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            values = value if isinstance(value, tuple) else (value,)
            numbers = [v for v in values if isinstance(v, float | int)]
            if not all(map(math.isfinite, numbers)):
                msg = f"{field.name} must be finite, got {value}"
                raise ConfigError(msg)
        positive = ("half_spacing_um", "na", "pixel_um", "layer_spacing_um")
        for name in (*positive, "full_well_e", "white_level", "texture_scale", "gain"):
            if getattr(self, name) <= 0:
                msg = f"{name} must be positive, got {getattr(self, name)}"
                raise ConfigError(msg)
        if self.na >= 1:
            msg = f"na must be below 1 (dry objective), got {self.na}"
            raise ConfigError(msg)
        if not 0 <= self.condenser_sigma <= 1 or self.n_sources < 1:
            msg = "condenser_sigma must lie in 0..1 and n_sources be positive"
            raise ConfigError(msg)

    @property
    def nearer_defocus_um(self) -> float:
        """The smaller |defocus| of the two shots, relief left out."""
        return abs(abs(self.offset_um) - self.half_spacing_um)

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values."""
        return dataclasses.asdict(self)


def pair_spec_from_json(document: dict[str, Any]) -> PairSpec:
    """Rebuild a record from `PairSpec.to_json`.

    Raises
    ------
    ConfigError
        If a key is missing, unknown or out of range.
    """
    try:
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in document.items()
        }
        nominal = dict(fields.pop("nominal"))
        nominal["wavelengths_um"] = tuple(nominal["wavelengths_um"])
        return PairSpec(nominal=PairOptics(**nominal), **fields)
    except (TypeError, KeyError, ValueError) as error:
        msg = f"not the record of a pair: {error}"
        raise ConfigError(msg) from error


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


# The default: half of the instruments lie near the reference.
TRAINING_MIX = PairMix()
# The reference alone, mostly as the product stores it: a second store of these makes
# the network best where its goals are stated, and keeps it safe elsewhere.
REFERENCE_MIX = dataclasses.replace(
    TRAINING_MIX, reference_share=1.0, srgb_share=0.15, jpeg_share=0.2
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
    )


def compute_relief_um(spec: PairSpec, shape: tuple[int, int]) -> Float32:
    """Return the height of the tissue over F at each pixel: offset plus smooth relief.

    Four plane waves of random direction, with periods of 0.7 to 1.5 fields, scaled to
    an amplitude of exactly `relief_um`.
    """
    if spec.relief_um == 0:
        return np.full(shape, spec.offset_um, dtype=np.float32)
    rng = np.random.default_rng([spec.seed, 1])
    rows, columns = np.mgrid[: shape[0], : shape[1]] / max(shape)
    height = np.zeros(shape)
    for _ in range(4):
        angle, phase = rng.uniform(0, 2 * np.pi, 2)
        per_field = 2 * np.pi / rng.uniform(0.7, 1.5)
        along = np.cos(angle) * columns + np.sin(angle) * rows
        height += np.cos(per_field * along + phase)
    height -= height.mean()
    height *= spec.relief_um / max(float(np.abs(height).max()), 1e-9)
    return (spec.offset_um + height).astype(np.float32)


def compute_layer_shares(
    height_um: Float32, spacing_um: float
) -> tuple[list[float], Float32]:
    """Cut a height map into layers that add up to one at each pixel.

    Returns
    -------
    heights_um, shares
        The layers' heights, multiples of `spacing_um` apart, and shares of shape
        (layers, rows, columns); a flat map gives one layer at its exact height.
    """
    low_um, high_um = float(height_um.min()), float(height_um.max())
    if high_um - low_um < 1e-6:
        return [low_um], np.ones((1, *height_um.shape), dtype=np.float32)
    count = max(2, math.ceil((high_um - low_um) / spacing_um) + 1)
    step_um = (high_um - low_um) / (count - 1)
    heights = low_um + step_um * np.arange(count)
    distance = np.abs(height_um[None] - heights[:, None, None]) / step_um
    shares = np.maximum(1 - distance, 0).astype(np.float32)
    return [float(height) for height in heights], shares


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
