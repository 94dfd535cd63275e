"""A second image formation, for the tests of focus and fusion.

Nothing here uses `bifocus.optics`: a test that renders with the code it checks would
prove only that the code agrees with itself. `render_incoherent` gets its transfer
function from a sampled pupil by FFT, `render_partially_coherent` sums fields over the
condenser (E. Abbe; Born & Wolf, section 10.6) with phase in the object, spherical
aberration and coma. Light is linear, 1 = clear glass; shapes are (rows, columns, 3).
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy.fft

Float64 = npt.NDArray[np.float64]
UInt8 = npt.NDArray[np.uint8]

# Clear glass is set to this share of full scale, as a careful user does.
GLASS = 0.92


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """A 40x / 0.75 objective on 0.25 um pixels; `condenser` is its NA / objective NA.

    `paraxial` keeps only the square term of the defocus, as the paper's Eq. 1 does.
    """

    na: float = 0.75
    pixel_um: float = 0.25
    wavelengths_um: tuple[float, float, float] = (0.62, 0.53, 0.46)
    spherical_waves: float = 0.0
    coma_waves: float = 0.0
    condenser: float = 0.6
    object_phase_rad: float = 0.15
    paraxial: bool = False


# What the fusion assumes.
MATCHED = Scope(paraxial=True)
# What it is not told of: exact defocus, a condenser, phase, and the aberrations of a
# good objective: 0.01 and 0.02 waves RMS, where Marechal's limit is 0.07.
FOREIGN = Scope(spherical_waves=0.05, coma_waves=0.03)
HARSH = replace(
    FOREIGN,
    spherical_waves=0.1,
    coma_waves=0.05,
    condenser=0.8,
    object_phase_rad=0.3,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedPair:
    """The two shots and the in-focus truth as a camera stores them."""

    minus: UInt8
    plus: UInt8
    truth: UInt8
    offset_um: float

    @property
    def sharper(self) -> UInt8:
        """The shot that is nearer to the truth."""
        shots = (self.minus, self.plus)
        return max(shots, key=lambda shot: psnr_db(shot, self.truth))


def render_incoherent(
    transmission: Float64, height_um: Float64 | float, plane_um: float, scope: Scope
) -> Float64:
    """Return the image at stage height `plane_um`; layers lie 0.1 um apart."""
    shape = (transmission.shape[0], transmission.shape[1])
    image = np.zeros_like(transmission)
    for layer_um, share in _layers(height_um):
        absorbed = (1 - transmission) * share
        for colour, wavelength_um in enumerate(scope.wavelengths_um):
            z_um = round(layer_um - plane_um, 6)
            otf = otf_by_pupil_fft(shape, scope, wavelength_um, z_um)
            spectrum = scipy.fft.rfft2(absorbed[..., colour]) * otf
            image[..., colour] += scipy.fft.irfft2(spectrum, shape)
    return 1 - image


def in_focus_incoherent(transmission: Float64, scope: Scope) -> Float64:
    """Return the all-in-focus image of the same tissue."""
    return render_incoherent(transmission, 0.0, 0.0, scope)


def render_partially_coherent(
    transmission: Float64, z_um: float, scope: Scope, *, n_sources: int = 12
) -> Float64:
    """Return the image of a level slice at defocus `z_um`.

    Each point of the condenser sends one plane wave; their images add up as intensity.
    The object is t exp(i phase (1 - T)) with |t|^2 = T: denser tissue retards more.
    """
    shape = (transmission.shape[0], transmission.shape[1])
    rows, columns = _frequencies(shape, scope.pixel_um)
    image = np.zeros_like(transmission)
    for colour, wavelength_um in enumerate(scope.wavelengths_um):
        bright = np.clip(transmission[..., colour], 1e-4, None)
        retarded = 2 * scope.object_phase_rad * (1 - bright)
        spectrum = scipy.fft.fft2(
            (np.sqrt(bright) * np.exp(1j * retarded)).astype(np.complex64)
        )
        cutoff = scope.na / wavelength_um
        for down, right in _sunflower(n_sources, scope.condenser):
            pupil = _pupil(
                rows / cutoff + down,
                columns / cutoff + right,
                scope,
                wavelength_um,
                z_um,
            )
            field = scipy.fft.ifft2(spectrum * pupil.astype(np.complex64))
            image[..., colour] += np.abs(field) ** 2 / n_sources
    return image


def expose(
    intensity: Float64,
    rng: np.random.Generator | None = None,
    tone_curve: Literal["linear", "srgb"] = "linear",
) -> UInt8:
    """Return 8-bit pixels; with `rng`, shot noise of 20 ke- and read noise of 8 e-."""
    exposed = np.clip(intensity * GLASS, 0, None)
    if rng is not None:
        electrons = rng.poisson(exposed * 20_000.0) + rng.normal(0, 8, exposed.shape)
        exposed = electrons / 20_000.0
    stored = np.clip(exposed, 0, 1)
    if tone_curve == "srgb":  # IEC 61966-2-1, written out again on purpose
        high = 1.055 * stored ** (1 / 2.4) - 0.055
        stored = np.where(stored <= 0.0031308, 12.92 * stored, high)
    return np.rint(255 * stored).astype(np.uint8)


def shoot_incoherent(
    transmission: Float64,
    height_um: Float64 | float,
    half_spacing_um: float,
    scope: Scope,
    rng: np.random.Generator | None,
    tone_curve: Literal["linear", "srgb"] = "linear",
) -> RenderedPair:
    """Take the pair at -dD and +dD of tissue at `height_um` under incoherent light."""
    minus, plus = (
        render_incoherent(transmission, height_um, plane_um, scope)
        for plane_um in (-half_spacing_um, half_spacing_um)
    )
    return RenderedPair(
        minus=expose(minus, rng, tone_curve),
        plus=expose(plus, rng, tone_curve),
        truth=expose(in_focus_incoherent(transmission, scope), None, tone_curve),
        offset_um=float(np.mean(height_um)),
    )


def shoot_partially_coherent(
    transmission: Float64,
    offset_um: float,
    half_spacing_um: float,
    scope: Scope,
    rng: np.random.Generator | None,
) -> RenderedPair:
    """Take the same pair of a level slice under partially coherent light."""
    minus, plus, truth = (
        render_partially_coherent(transmission, z_um, scope)
        for z_um in (offset_um + half_spacing_um, offset_um - half_spacing_um, 0.0)
    )
    return RenderedPair(
        minus=expose(minus, rng),
        plus=expose(plus, rng),
        truth=expose(truth),
        offset_um=offset_um,
    )


def psnr_db(image: UInt8, truth: UInt8, margin_px: int = 24) -> float:
    """Return the PSNR inside a margin, where mirrored borders play no part."""
    inner = (slice(margin_px, -margin_px), slice(margin_px, -margin_px))
    error = image[inner].astype(np.float64) - truth[inner]
    return float(10 * np.log10(255**2 / max(float(np.mean(error**2)), 1e-9)))


def _layers(height_um: Float64 | float) -> list[tuple[float, Float64 | float]]:
    """Cut a height map into levels 0.1 um apart, each with its share of every pixel."""
    if isinstance(height_um, float | int):
        return [(float(height_um), 1.0)]
    spacing_um = 0.1
    low = int(np.floor(height_um.min() / spacing_um))
    high = int(np.ceil(height_um.max() / spacing_um))
    levels = [spacing_um * number for number in range(low, high + 1)]
    return [
        (level, np.maximum(0, 1 - np.abs(height_um - level) / spacing_um)[..., None])
        for level in levels
    ]


@lru_cache(maxsize=512)
def otf_by_pupil_fft(
    shape: tuple[int, int], scope: Scope, wavelength_um: float, z_um: float
) -> npt.NDArray[np.complex64]:
    """Transfer function on the `rfft2` half plane: FFT of the squared point image.

    The point image needs half the pixel, or its spectrum would fold back.
    """
    twice = (2 * shape[0], 2 * shape[1])
    cutoff = scope.na / wavelength_um
    rows, columns = _frequencies(twice, scope.pixel_um / 2)
    pupil = _pupil(rows / cutoff, columns / cutoff, scope, wavelength_um, z_um)
    field = scipy.fft.ifft2(pupil)
    otf = scipy.fft.fft2(np.abs(field) ** 2)
    keep = np.fft.fftfreq(shape[0], 1 / shape[0]).astype(int)
    half = otf[keep][:, : shape[1] // 2 + 1] / otf[0, 0].real
    result: npt.NDArray[np.complex64] = half.astype(np.complex64)
    return result


def _frequencies(shape: tuple[int, int], pixel_um: float) -> tuple[Float64, Float64]:
    rows = np.asarray(np.fft.fftfreq(shape[0], pixel_um)[:, None], dtype=np.float64)
    columns = np.asarray(np.fft.fftfreq(shape[1], pixel_um)[None, :], dtype=np.float64)
    return rows, columns


def _pupil(
    down: Float64, right: Float64, scope: Scope, wavelength_um: float, z_um: float
) -> npt.NDArray[np.complex128]:
    """Pupil function at normalised coordinates, its edge softened over one sample."""
    rho = np.hypot(down, right)
    step = max(abs(down.ravel()[1] - down.ravel()[0]), 1e-6)
    inside = np.clip((1 - rho) / step + 0.5, 0, 1)
    rho = np.minimum(rho, 1.0)
    if scope.paraxial:
        depth = (scope.na * rho) ** 2 / 2
    else:
        depth = 1 - np.sqrt(1 - (scope.na * rho) ** 2)
    waves = z_um * depth / wavelength_um
    waves = waves + scope.spherical_waves * (rho**4 - rho**2)
    waves = waves + scope.coma_waves * (3 * rho**2 - 2) * np.minimum(right, 1.0)
    result: npt.NDArray[np.complex128] = inside * np.exp(2j * np.pi * waves)
    return result


def _sunflower(count: int, radius: float) -> list[tuple[float, float]]:
    """Return points that fill a disc evenly (H. Vogel, Math. Biosci. 44, 1979).

    Each has its opposite: light that leans would move the picture with defocus.
    """
    number = np.arange(count // 2) + 0.5
    distance = radius * np.sqrt(number / (count // 2))
    angle = number * np.pi * (3 - np.sqrt(5))
    down, right = distance * np.sin(angle), distance * np.cos(angle)
    half = [(float(y), float(x)) for y, x in zip(down, right, strict=True)]
    return half + [(-y, -x) for y, x in half]
