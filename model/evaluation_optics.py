"""The image formation that evaluation uses: NumPy only, shared with no training code.

Two kinds of light. *Partially coherent*: each point of the condenser sends a plane wave
through the object t exp(i phase), and the intensities add up (E. Abbe; Born & Wolf,
7th ed., section 10.6). *Incoherent*: absorbing layers, each blurred by its own transfer
function, sampled from the pupil by FFT (arXiv 2003.06630, Eqs. 2-3). Light is linear,
1 = clear glass; pictures are (rows, columns, 3) and wrap around, so cut a border off.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import scipy.fft

from bifocus.records import UInt8Image

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Complex64 = npt.NDArray[np.complex64]

# Clear glass at this share of full scale, as the virtual camera's default.
WHITE_LEVEL = 0.92
# Relief is cut into levels this far apart, finer than any training code needs.
LAYER_UM = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationOptics:
    """What really forms the pictures; the methods under test are told only the first.

    Attributes
    ----------
    na, pixel_um, wavelengths_um
        Told to the methods.
    condenser
        Condenser NA / objective NA; 0 means incoherent light.
    object_phase_rad
        Phase of an opaque pixel, proportional to absorption; coherent light only.
    spherical_waves, coma_waves
        Coefficients of rho^4 - rho^2 and of (3 rho^2 - 2) x, in waves.
    paraxial
        Whether defocus is the square term alone (the paper's Eq. 1) or exact.
    relief_um
        Height of the smooth relief inside a tile, plus and minus.
    full_well_e, read_noise_e
        Electrons of the camera.
    """

    na: float = 0.75
    pixel_um: float = 0.25
    wavelengths_um: tuple[float, float, float] = (0.62, 0.53, 0.46)
    condenser: float = 0.0
    object_phase_rad: float = 0.0
    spherical_waves: float = 0.0
    coma_waves: float = 0.0
    paraxial: bool = False
    relief_um: float = 0.0
    full_well_e: float = 20_000.0
    read_noise_e: float = 8.0
    n_sources: int = 48


def render_planes(
    transmission: Float64,
    height_um: Float64,
    planes_um: Sequence[float],
    optics: EvaluationOptics,
) -> list[Float64]:
    """Return the picture at each stage height, then the all-in-focus one.

    Parameters
    ----------
    transmission
        0..1, (rows, columns, 3).
    height_um
        Height of the tissue, (rows, columns); coherent light takes its mean.
    planes_um
        Stage heights.
    optics
        Light and aberrations.
    """
    if optics.condenser > 0:
        level_um = float(np.mean(height_um))
        z_um = [level_um - plane_um for plane_um in planes_um]
        return _render_coherent(transmission, [*z_um, 0.0], optics)
    pictures = [
        _render_layers(transmission, height_um, plane_um, optics)
        for plane_um in planes_um
    ]
    flat = np.zeros(transmission.shape[:2])
    return [*pictures, _render_layers(transmission, flat, 0.0, optics)]


def expose(
    light: Float64, optics: EvaluationOptics, rng: np.random.Generator | None
) -> UInt8Image:
    """Return 8-bit linear pixels, with shot and read noise if `rng` is given."""
    exposed = np.clip(light * WHITE_LEVEL, 0, None)
    if rng is not None:
        well = optics.full_well_e
        electrons = rng.poisson(exposed * well).astype(np.float64)
        electrons += rng.normal(0, optics.read_noise_e, exposed.shape)
        exposed = electrons / well
    return np.rint(255 * np.clip(exposed, 0, 1)).astype(np.uint8)


def _render_coherent(
    transmission: Float64, z_um: Sequence[float], optics: EvaluationOptics
) -> list[Float64]:
    shape = (transmission.shape[0], transmission.shape[1])
    pictures = [np.zeros(transmission.shape) for _ in z_um]
    for colour, wavelength_um in enumerate(optics.wavelengths_um):
        bright = np.clip(transmission[..., colour], 1e-4, None)
        retarded = optics.object_phase_rad * 2 * (1 - bright)
        wave = np.sqrt(bright) * np.exp(1j * retarded)
        spectrum = scipy.fft.fft2(wave.astype(np.complex64))
        for source in range(optics.n_sources):
            pupil, depth = _pupil(shape, optics, wavelength_um, source)
            arriving = spectrum * pupil
            for picture, plane_um in zip(pictures, z_um, strict=True):
                turn = np.exp(np.complex64(2j * np.pi * plane_um) * depth)
                field = scipy.fft.ifft2(arriving * turn)
                picture[..., colour] += np.abs(field) ** 2 / optics.n_sources
    return pictures


def _render_layers(
    transmission: Float64,
    height_um: Float64,
    plane_um: float,
    optics: EvaluationOptics,
) -> Float64:
    shape = (transmission.shape[0], transmission.shape[1])
    first = int(np.floor(height_um.min() / LAYER_UM))
    last = int(np.ceil(height_um.max() / LAYER_UM))
    picture = np.zeros(transmission.shape)
    for layer in range(first, last + 1):
        share = np.clip(1 - np.abs(height_um / LAYER_UM - layer), 0, 1)
        if not share.any():
            continue
        z_um = round(layer * LAYER_UM - plane_um, 4)
        for colour, wavelength_um in enumerate(optics.wavelengths_um):
            absorbed = (1 - transmission[..., colour]) * share
            otf = _incoherent_otf(shape, optics, wavelength_um, z_um)
            spectrum = scipy.fft.rfft2(absorbed) * otf
            picture[..., colour] += scipy.fft.irfft2(spectrum, shape)
    light: Float64 = 1 - picture
    return light


@lru_cache(maxsize=512)
def _incoherent_otf(
    shape: tuple[int, int], optics: EvaluationOptics, wavelength_um: float, z_um: float
) -> Complex64:
    """Transfer function on the `rfft2` half plane: FFT of the squared point image.

    The point image is sampled at half the pixel, or its spectrum would fold back.
    """
    twice = (2 * shape[0], 2 * shape[1])
    down, right = _frequencies(twice, optics.pixel_um / 2)
    cutoff = optics.na / wavelength_um
    pupil, depth = _pupil_at(down / cutoff, right / cutoff, optics, wavelength_um)
    field = scipy.fft.ifft2(pupil * np.exp(np.complex64(2j * np.pi * z_um) * depth))
    otf = scipy.fft.fft2(np.abs(field) ** 2)
    rows = np.fft.fftfreq(shape[0], 1 / shape[0]).astype(int)
    half = otf[rows][:, : shape[1] // 2 + 1] / otf[0, 0].real
    return np.asarray(half, dtype=np.complex64)


@lru_cache(maxsize=64)
def _pupil(
    shape: tuple[int, int], optics: EvaluationOptics, wavelength_um: float, source: int
) -> tuple[Complex64, Float32]:
    """Pupil as one point of the condenser sees it, and its depth in waves per um."""
    down, right = _frequencies(shape, optics.pixel_um)
    cutoff = optics.na / wavelength_um
    lean_down, lean_right = _source_points(optics.n_sources, optics.condenser)[source]
    return _pupil_at(
        down / cutoff + lean_down, right / cutoff + lean_right, optics, wavelength_um
    )


def _pupil_at(
    down: Float64, right: Float64, optics: EvaluationOptics, wavelength_um: float
) -> tuple[Complex64, Float32]:
    rho = np.hypot(down, right)
    step = abs(float(down.ravel()[1] - down.ravel()[0]))
    inside = np.clip((1 - rho) / step + 0.5, 0, 1)  # edge softened over one sample
    rho = np.minimum(rho, 1.0)
    if optics.paraxial:
        depth = (optics.na * rho) ** 2 / 2
    else:
        depth = 1 - np.sqrt(1 - (optics.na * rho) ** 2)
    waves = optics.spherical_waves * (rho**4 - rho**2)
    waves = waves + optics.coma_waves * (3 * rho**2 - 2) * np.clip(right, -1, 1)
    pupil = inside * np.exp(2j * np.pi * waves)
    return pupil.astype(np.complex64), (depth / wavelength_um).astype(np.float32)


def _frequencies(shape: tuple[int, int], pixel_um: float) -> tuple[Float64, Float64]:
    return (
        np.asarray(np.fft.fftfreq(shape[0], pixel_um)[:, None], dtype=np.float64),
        np.asarray(np.fft.fftfreq(shape[1], pixel_um)[None, :], dtype=np.float64),
    )


def _source_points(count: int, radius: float) -> list[tuple[float, float]]:
    """Return points that fill a disc evenly, in opposite pairs.

    H. Vogel, Math. Biosci. 44 (1979). Light that leans would move the picture with
    defocus, so each point has its opposite.
    """
    number = np.arange(count // 2) + 0.5
    distance = radius * np.sqrt(number / (count // 2))
    angle = number * np.pi * (3 - np.sqrt(5))
    half = [
        (float(d * np.sin(a)), float(d * np.cos(a)))
        for d, a in zip(distance, angle, strict=True)
    ]
    return half + [(-down, -right) for down, right in half]
