"""Incoherent imaging against the radial integral of `bifocus.optics` and plain sums."""

import dataclasses

import numpy as np
import pytest
import torch

from bifocus.model import incoherent
from bifocus.model.pair_spec import compute_layer_shares, compute_relief_um
from bifocus.optics import Objective, Pupil, otf_grid
from tests.model.imaging_specs import plain_spec, random_texture


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("pupil", ["paraxial", "exact"])
@pytest.mark.parametrize("z_um", [0.0, -0.5, 1.5, 3.0])
def test_transfer_equals_the_overlap_integral(pupil: Pupil, z_um: float) -> None:
    spec = plain_spec(pupil=pupil)
    transfer = incoherent.compute_transfer(spec, (128, 128), z_um).numpy()
    for colour, wavelength_um in enumerate(spec.wavelengths_um):
        objective = Objective(na=0.75, wavelength_um=wavelength_um, pupil=pupil)
        expected = otf_grid(objective, (128, 128), 0.25, z_um)
        # What the 64 px field wraps around: under 2 % (its rings carry 1 % of energy).
        assert np.abs(transfer[colour] - expected).max() < 0.02


def test_spherical_aberration_matches_too() -> None:
    spec = plain_spec(spherical_waves=0.2)
    transfer = incoherent.compute_transfer(spec, (128, 128), 0.7).numpy()
    objective = Objective(na=0.75, wavelength_um=0.53, spherical_waves=0.2)
    expected = otf_grid(objective, (128, 128), 0.25, 0.7)
    assert np.abs(transfer[1] - expected).max() < 0.02


def test_render_is_a_sum_of_convolutions() -> None:
    """Layer by layer, in real space, with the PSF rolled to each pixel."""
    side = 32
    spec = plain_spec(offset_um=0.3, relief_um=0.4, coma_waves=0.05)
    texture = random_texture(side)
    rendered = incoherent.render(texture, spec)
    height = compute_relief_um(spec, (side, side))
    heights_um, shares = compute_layer_shares(height, spec.layer_spacing_um)
    expected = np.ones((side, side))
    for layer_um, share in zip(heights_um, shares, strict=True):
        z_um = layer_um - spec.half_spacing_um
        transfer = incoherent.compute_transfer(spec, (side, side), z_um)[1]
        psf = torch.fft.irfft2(transfer, (side, side)).numpy()
        missing = (1 - texture[..., 1]) * share
        for row, column in np.ndindex(side, side):
            expected -= missing[row, column] * np.roll(psf, (row, column), (0, 1))
    np.testing.assert_allclose(rendered.plus[..., 1], expected, atol=2e-5)


def test_shot_in_focus_is_the_truth() -> None:
    rendered = incoherent.render(random_texture(), plain_spec(offset_um=0.75))
    np.testing.assert_allclose(rendered.plus, rendered.truth, atol=1e-5)
    assert np.abs(rendered.minus - rendered.truth).max() > 0.05


def test_light_is_kept() -> None:
    texture = random_texture()
    rendered = incoherent.render(texture, plain_spec(offset_um=0.2, relief_um=0.3))
    for image in (rendered.minus, rendered.plus, rendered.truth):
        np.testing.assert_allclose(
            image.mean(axis=(0, 1)), texture.mean(axis=(0, 1)), atol=1e-5
        )


def test_even_aberrations_make_symmetric_shots() -> None:
    rendered = incoherent.render(random_texture(), plain_spec())
    np.testing.assert_allclose(rendered.minus, rendered.plus, atol=1e-5)


def test_spherical_aberration_breaks_the_symmetry() -> None:
    rendered = incoherent.render(random_texture(), plain_spec(spherical_waves=0.2))
    assert np.abs(rendered.minus - rendered.plus).max() > 0.01


def test_coma_turns_with_its_angle() -> None:
    """Coma along y on a transposed texture is coma along x, transposed."""
    texture = random_texture()
    turned = np.ascontiguousarray(texture.transpose(1, 0, 2))
    across = incoherent.render(texture, plain_spec(coma_waves=0.2))
    down = incoherent.render(
        turned, plain_spec(coma_waves=0.2, coma_angle_rad=float(np.pi / 2))
    )
    np.testing.assert_allclose(across.plus, down.plus.transpose(1, 0, 2), atol=1e-5)


def test_clear_glass_stays_clear() -> None:
    glass = np.ones((64, 64, 3), dtype=np.float32)
    spec = dataclasses.replace(plain_spec(), relief_um=0.2)
    rendered = incoherent.render(glass, spec)
    np.testing.assert_allclose(rendered.minus, 1, atol=1e-6)
