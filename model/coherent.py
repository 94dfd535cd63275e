"""Image formation with partially coherent light: Abbe's sum over the condenser.

Each point of the condenser lights the tissue with one plane wave; the tissue delays the
wave as well as absorbing it; the aberrated pupil lets a part of the wave pass, and the
images of all points add up in intensity (M. Born and E. Wolf, *Principles of Optics*,
7th ed., section 10.6; E. Abbe 1873). Nothing here is shared with
`bifocus.model.incoherent`, so that training and evaluation need not share one blur.

Relief is rendered as the mixture of the images of some flat heights, which holds for
relief that is smooth over the blur. The field is periodic; render with a margin.
"""

import math

import numpy as np
import torch

from bifocus.model.incoherent import RenderedPair
from bifocus.model.pair_spec import (
    PairSpec,
    compute_layer_shares,
    compute_relief_um,
)
from bifocus.records import FloatImage

_GOLDEN_ANGLE_RAD = math.pi * (3 - math.sqrt(5))
# The darkest transmission: keeps the phase of black pixels finite.
_DARKEST = 1e-4


def render(
    texture: FloatImage, spec: PairSpec, *, device: str | torch.device = "cpu"
) -> RenderedPair:
    """Render both shots and the in-focus image of a texture; see `incoherent.render`.

    The object is sqrt(T) exp(2 i phase (1 - T)): `phase_rad` is reached at half
    absorption, so that stained tissue is a weak phase object too.
    """
    rows, columns = texture.shape[:2]
    height_um = compute_relief_um(spec, (rows, columns))
    heights_um, shares = compute_layer_shares(height_um, spec.layer_spacing_um)
    spacing_um = spec.half_spacing_um
    depths_um = [h + spacing_um for h in heights_um]
    depths_um += [h - spacing_um for h in heights_um]
    images = render_depths(texture, spec, [*depths_um, 0.0], device=device)
    weight = torch.as_tensor(shares, device=device)[:, None]
    count = len(heights_um)
    shots = (
        (images[:count] * weight).sum(dim=0),
        (images[count : 2 * count] * weight).sum(dim=0),
        images[-1],
    )
    minus, plus, truth = (
        np.ascontiguousarray(shot.permute(1, 2, 0).cpu().numpy()) for shot in shots
    )
    return RenderedPair(minus=minus, plus=plus, truth=truth)


def render_depths(
    texture: FloatImage,
    spec: PairSpec,
    depths_um: list[float],
    *,
    device: str | torch.device = "cpu",
) -> torch.Tensor:
    """Return images of a flat texture at some depths, (depths, 3, rows, columns)."""
    rows, columns = texture.shape[:2]
    light = torch.zeros((len(depths_um), 3, rows, columns), device=device)
    z_um = torch.tensor(depths_um, device=device)[:, None, None]
    frequency_y = torch.fft.fftfreq(rows, spec.pixel_um, device=device)[:, None]
    frequency_x = torch.fft.fftfreq(columns, spec.pixel_um, device=device)[None, :]
    points = compute_source_points(spec.condenser_sigma, spec.n_sources)
    for colour, wavelength_um in enumerate(spec.wavelengths_um):
        transmission = torch.as_tensor(texture[..., colour], device=device)
        modulus = transmission.clamp(min=_DARKEST).sqrt()
        delay = 2 * spec.phase_rad * (1 - transmission)
        spectrum = torch.fft.fft2(torch.polar(modulus, delay))
        edge = spec.na / wavelength_um
        for source_y, source_x in points:
            y, x = frequency_y / edge + source_y, frequency_x / edge + source_x
            passed, waves, path = _pupil(spec, y, x)
            arriving = spectrum * torch.polar(passed, 2 * math.pi * waves)
            turn = (2 * math.pi / wavelength_um) * z_um * path
            field = torch.fft.ifft2(arriving * torch.polar(torch.ones_like(turn), turn))
            light[:, colour] += field.real**2 + field.imag**2
    return light / len(points)


def compute_source_points(sigma: float, count: int) -> list[tuple[float, float]]:
    """Return points spread evenly over the condenser's disc of radius `sigma`.

    The sunflower spiral (H. Vogel, Math. Biosciences 44, 1979); (y, x) in units of the
    objective's pupil radius. One point lies on the axis.
    """
    if count == 1:
        return [(0.0, 0.0)]
    radii = [sigma * math.sqrt((k + 0.5) / count) for k in range(count)]
    angles = [k * _GOLDEN_ANGLE_RAD for k in range(count)]
    return [
        (radius * math.sin(angle), radius * math.cos(angle))
        for radius, angle in zip(radii, angles, strict=True)
    ]


def _pupil(
    spec: PairSpec, y: torch.Tensor, x: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return transmission, aberration in waves, and path per um of defocus.

    `y` and `x` are pupil coordinates, 1 at the rim.
    """
    squared = y**2 + x**2
    passed = (squared <= 1).to(torch.float32)
    squared = squared.clamp(max=1.0)
    # (3 rho^3 - 2 rho) cos(angle) without dividing by rho.
    along = x * math.cos(spec.coma_angle_rad) + y * math.sin(spec.coma_angle_rad)
    waves = spec.spherical_waves * (squared**2 - squared)
    waves = waves + spec.coma_waves * (3 * squared - 2) * along
    if spec.pupil == "paraxial":
        path = spec.na**2 * squared / 2
    else:
        path = 1 - torch.sqrt(1 - spec.na**2 * squared)
    return passed, waves, path
