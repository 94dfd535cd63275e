"""A plain pair record and texture for the tests of image formation."""

import dataclasses
from typing import Any

import numpy as np

from bifocus.focal_offset import PairOptics
from bifocus.model.pair_spec import PairSpec
from bifocus.records import FloatImage


def plain_spec(**changes: Any) -> PairSpec:
    spec = PairSpec(
        nominal=PairOptics(na=0.75, pixel_um=0.25, half_spacing_um=0.75),
        imaging="incoherent",
        offset_kind="normal",
        offset_um=0.0,
        half_spacing_um=0.75,
        na=0.75,
        pixel_um=0.25,
        wavelengths_um=(0.62, 0.53, 0.46),
        pupil="paraxial",
        spherical_waves=0.0,
        coma_waves=0.0,
        coma_angle_rad=0.0,
        condenser_sigma=0.6,
        phase_rad=0.0,
        n_sources=7,
        relief_um=0.0,
        layer_spacing_um=0.25,
        shift_px=(0.0, 0.0),
        gain=1.0,
        tilt=(0.0, 0.0),
        full_well_e=2e4,
        read_noise_e=8.0,
        white_level=0.92,
        jpeg_quality=0,
        texture_scale=1.0,
        stain_gain=(1.0, 1.0, 1.0),
        stain_turn_rad=0.0,
        tone_curve="linear",
        seed=5,
    )
    return dataclasses.replace(spec, **changes)


def random_texture(side_px: int = 64, seed: int = 0) -> FloatImage:
    """Smooth random transmission, 0.2 to 1, periodic."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft2(rng.normal(size=(side_px, side_px, 3)), axes=(0, 1))
    rows = np.fft.fftfreq(side_px)[:, None, None]
    columns = np.fft.rfftfreq(side_px)[None, :, None]
    spectrum *= np.exp(-(rows**2 + columns**2) / (2 * 0.15**2))
    smooth = np.fft.irfft2(spectrum, (side_px, side_px), axes=(0, 1))
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    texture: FloatImage = (0.2 + 0.8 * smooth).astype(np.float32)
    return texture
