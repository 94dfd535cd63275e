"""Image formation with incoherent light: layers of absorbance, each with its own blur.

The layered-depth model of arXiv 2003.06630, Eqs. 2-3: the tissue is cut into layers of
equal height, and each layer's missing light is convolved with the intensity PSF of its
defocus, colour by colour. The PSF is the squared modulus of the Fourier transform of
the aberrated pupil (J. W. Goodman, *Introduction to Fourier Optics*, ch. 6), not the
radial integral of `bifocus.optics`: the two are compared in the tests.

The field is periodic; render with a margin and crop it.
"""

import math
from dataclasses import dataclass

import torch

from bifocus.errors import ConfigError
from bifocus.model.pair_spec import (
    PairSpec,
    compute_layer_shares,
    compute_relief_um,
)
from bifocus.records import FloatImage

# An Airy disc has 1 % of its energy beyond 8 um at NA 0.75; what leaves the field comes
# back on the other side.
_SMALLEST_FIELD_PX = 64
# Beyond the geometric blur the diffraction rings need some room.
_RING_ROOM_PX = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedPair:
    """Linear light, float32, (rows, columns, 3), clear glass = 1; no noise yet.

    `truth` is the tissue with every layer in focus.
    """

    minus: FloatImage
    plus: FloatImage
    truth: FloatImage


def render(
    texture: FloatImage, spec: PairSpec, *, device: str | torch.device = "cpu"
) -> RenderedPair:
    """Render both shots and the in-focus image of a texture.

    Parameters
    ----------
    texture
        Linear transmission, float32, (rows, columns, 3), 0..1.
    spec
        The pair; its shot noise, drift and storage are left to `shot_camera`.
    device
        Where the transforms run.

    Returns
    -------
    RenderedPair
        Arrays on the host.
    """
    rows, columns = texture.shape[:2]
    height_um = compute_relief_um(spec, (rows, columns))
    heights_um, shares = compute_layer_shares(height_um, spec.layer_spacing_um)
    absorbance = torch.as_tensor(1 - texture, device=device).permute(2, 0, 1)
    weight = torch.as_tensor(shares, device=device)
    layers = torch.fft.rfft2(absorbance[None] * weight[:, None])
    shots = []
    for stage_um in (-spec.half_spacing_um, spec.half_spacing_um, None):
        blurred = torch.zeros_like(layers[0])
        for number, layer_um in enumerate(heights_um):
            z_um = 0.0 if stage_um is None else layer_um - stage_um
            transfer = compute_transfer(spec, (rows, columns), z_um, device=device)
            blurred += layers[number] * transfer
            if stage_um is None and number == 0:
                blurred = layers.sum(dim=0) * transfer
                break
        light = 1 - torch.fft.irfft2(blurred, (rows, columns))
        shots.append(light.permute(1, 2, 0).contiguous().cpu().numpy())
    return RenderedPair(minus=shots[0], plus=shots[1], truth=shots[2])


def compute_transfer(
    spec: PairSpec,
    shape: tuple[int, int],
    z_um: float,
    *,
    device: str | torch.device = "cpu",
) -> torch.Tensor:
    """Return the complex OTF of each colour on the `rfft2` half plane of `shape`.

    The PSF is formed on a small field, fine enough to hold all of its frequencies, cut
    to those that the pixels carry, and embedded in the image's field.
    """
    field_px = _field_px(spec, shape, z_um)
    transfers = []
    for wavelength_um in spec.wavelengths_um:
        psf = _psf_on_pixels(spec, wavelength_um, z_um, field_px, device)
        embedded = torch.zeros(shape, device=device)
        half = field_px // 2
        embedded[:field_px, :field_px] = torch.fft.fftshift(psf)
        embedded = torch.roll(embedded, (-half, -half), (0, 1))
        transfers.append(torch.fft.rfft2(embedded))
    return torch.stack(transfers)


def _psf_on_pixels(
    spec: PairSpec,
    wavelength_um: float,
    z_um: float,
    field_px: int,
    device: str | torch.device,
) -> torch.Tensor:
    """Return the PSF of one colour, sum 1, with its origin at [0, 0]."""
    # Squaring doubles the band: the fine grid must hold 2 NA / lambda.
    finer = max(2, math.ceil(4 * spec.na * spec.pixel_um / wavelength_um))
    size = field_px * finer
    step_per_um = 1 / (field_px * spec.pixel_um)
    axis = torch.fft.fftfreq(size, 1 / size, device=device) * step_per_um
    rows, columns = axis[:, None], axis[None, :]
    radius = torch.hypot(rows, columns)
    edge = spec.na / wavelength_um
    # A soft rim, one frequency step wide, replaces the jagged edge of the disc.
    amplitude = torch.clamp(0.5 + (edge - radius) / step_per_um, 0, 1)
    rho = torch.clamp(radius / edge, max=1.0)
    cosine = (
        columns * math.cos(spec.coma_angle_rad) + rows * math.sin(spec.coma_angle_rad)
    ) / radius.clamp(min=1e-9)
    waves = spec.spherical_waves * (rho**4 - rho**2)
    waves = waves + spec.coma_waves * (3 * rho**3 - 2 * rho) * cosine
    if spec.pupil == "paraxial":
        waves = waves + spec.na**2 * z_um * rho**2 / (2 * wavelength_um)
    else:
        path = 1 - torch.sqrt(1 - (spec.na * rho) ** 2)
        waves = waves + z_um * path / wavelength_um
    field = torch.fft.ifft2(torch.polar(amplitude, 2 * math.pi * waves))
    spectrum = torch.fft.fft2(field.abs() ** 2)
    kept = torch.cat([torch.arange(field_px // 2), torch.arange(-(field_px // 2), 0)])
    spectrum = spectrum[kept][:, kept] / spectrum[0, 0].real
    # The lone Nyquist row and column have no partner: their odd part is dropped here.
    psf: torch.Tensor = torch.fft.ifft2(spectrum).real
    return psf


def _field_px(spec: PairSpec, shape: tuple[int, int], z_um: float) -> int:
    """Return the even side of a field that holds the blur of `z_um`."""
    blur_px = abs(z_um) * spec.na / math.sqrt(1 - spec.na**2) / spec.pixel_um
    wanted = 2 * math.ceil(blur_px + _RING_ROOM_PX)
    field_px = _SMALLEST_FIELD_PX
    while field_px < wanted:
        field_px *= 2
    largest = min(shape) // 2 * 2
    if largest < 2:
        msg = f"the field {shape} is too small to be rendered"
        raise ConfigError(msg)
    return min(field_px, largest)
