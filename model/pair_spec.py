"""Everything that is random about one training pair: its record, and its relief.

A pair is made by one *instrument* (`PairOptics`: what the user tells the program) whose
true optics deviate from what was told. `bifocus.model.pair_drawing` draws both;
rendering and sensing draw nothing but what the record seeds, so a pair is repeated
exactly from its record and texture.
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
        and their colour mixture is turned about grey.
    texture_blend
        A second texture lies over the first, with this share of its optical density.
    texture_sharpen, texture_jpeg
        Amount of unsharp masking, and JPEG quality (0: none), that the texture had been
        through before it was laid under the microscope, as some files have.
    texture_strength
        The texture's optical densities are multiplied by this: below 1 it is faint.
    texture_grain, texture_grain_px
        Relative sd of a fine grain in the densities, and the size (a Gaussian's sigma)
        of its grains.
    texture_noise, texture_noise_px, texture_noise_colour
        Noise that the texture's own scanner left in it: sd in grey levels, size of its
        grains, and the share of its power that each colour has for itself.
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
    texture_blend: float = 0.0
    texture_sharpen: float = 0.0
    texture_jpeg: int = 0
    texture_strength: float = 1.0
    texture_grain: float = 0.0
    texture_grain_px: float = 0.7
    texture_noise: float = 0.0
    texture_noise_px: float = 0.5
    texture_noise_colour: float = 0.5

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
        fields = _with_tuples(document)
        nominal = _with_tuples(fields.pop("nominal"))
        return PairSpec(nominal=PairOptics(**nominal), **fields)
    except (TypeError, KeyError, ValueError) as error:
        msg = f"not the record of a pair: {error}"
        raise ConfigError(msg) from error


def _with_tuples(document: dict[str, Any]) -> dict[str, Any]:
    """Return the values with tuples for JSON's lists."""
    return {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in document.items()
    }


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
