"""Partially coherent imaging against a direct sum, and its two limits."""

import numpy as np
import pytest
import torch

from bifocus.model import coherent, incoherent
from tests.model.imaging_specs import plain_spec, random_texture


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_source_points_fill_the_condenser_evenly() -> None:
    points = np.array(coherent.compute_source_points(0.6, 400))
    radius = np.hypot(*points.T)
    assert radius.max() < 0.6
    # A uniform disc: mean square radius is half the square of its radius.
    assert np.mean(radius**2) == pytest.approx(0.18, rel=0.01)
    np.testing.assert_allclose(points.mean(axis=0), 0, atol=0.01)


def test_equals_a_direct_sum_of_plane_waves() -> None:
    """Each plane wave of the object is taken through the pupil by itself, in double."""
    side, z_um = 16, 0.6
    spec = plain_spec(
        imaging="coherent",
        pupil="exact",
        spherical_waves=0.1,
        coma_waves=0.05,
        coma_angle_rad=0.4,
        phase_rad=0.2,
        n_sources=3,
    )
    texture = random_texture(side)
    image = coherent.render_depths(texture, spec, [z_um])[0].numpy()
    transmission = texture[..., 2].astype(np.float64)
    wave = np.sqrt(transmission) * np.exp(2j * 0.2 * (1 - transmission))
    edge = spec.na / spec.wavelengths_um[2]
    y, x = np.mgrid[:side, :side]
    expected = np.zeros((side, side))
    for source_y, source_x in coherent.compute_source_points(0.6, 3):
        field = np.zeros((side, side), dtype=np.complex128)
        for i, j in np.ndindex(side, side):
            row, column = np.fft.fftfreq(side)[i], np.fft.fftfreq(side)[j]
            mode = np.exp(2j * np.pi * (row * y + column * x))
            amplitude = (wave * mode.conj()).mean()
            pupil_y = row / spec.pixel_um / edge + source_y
            pupil_x = column / spec.pixel_um / edge + source_x
            rho = np.hypot(pupil_y, pupil_x)
            if rho > 1:
                continue
            angle = np.arctan2(pupil_y, pupil_x)
            waves = 0.1 * (rho**4 - rho**2)
            waves += 0.05 * (3 * rho**3 - 2 * rho) * np.cos(angle - 0.4)
            cosine = np.sqrt(1 - (spec.na * rho) ** 2)
            waves += z_um * (1 - cosine) / spec.wavelengths_um[2]
            field += amplitude * np.exp(2j * np.pi * waves) * mode
        expected += np.abs(field) ** 2 / 3
    np.testing.assert_allclose(image[2], expected, atol=2e-5)


def test_shot_in_focus_is_the_truth() -> None:
    spec = plain_spec(imaging="coherent", offset_um=-0.75, phase_rad=0.2)
    rendered = coherent.render(random_texture(), spec)
    np.testing.assert_allclose(rendered.minus, rendered.truth, atol=1e-6)
    assert np.abs(rendered.plus - rendered.truth).max() > 0.05


def test_absorbers_look_alike_on_both_sides_of_focus_and_phase_does_not() -> None:
    texture = random_texture()
    # A condenser point and its mirror image: pairs make the source symmetric.
    absorbing = coherent.render(texture, plain_spec(n_sources=1, phase_rad=0.0))
    np.testing.assert_allclose(absorbing.minus, absorbing.plus, atol=1e-5)
    delaying = coherent.render(texture, plain_spec(n_sources=1, phase_rad=0.3))
    assert np.abs(delaying.minus - delaying.plus).max() > 0.01


def test_clear_glass_stays_clear() -> None:
    glass = np.ones((48, 48, 3), dtype=np.float32)
    rendered = coherent.render(glass, plain_spec(relief_um=0.3, offset_um=0.5))
    for image in (rendered.minus, rendered.plus, rendered.truth):
        np.testing.assert_allclose(image, 1, atol=1e-5)


def test_weak_absorber_under_a_full_condenser_is_incoherent() -> None:
    """With the condenser as wide as the objective, weak contrast passes as the OTF.

    Hopkins 1953: for sigma = 1 the transfer of weak amplitude contrast equals the
    incoherent OTF.
    """
    texture = 1 - 0.02 * (1 - random_texture())
    spec = plain_spec(condenser_sigma=1.0, n_sources=300, offset_um=0.3)
    one = coherent.render(texture, spec)
    other = incoherent.render(texture, spec)
    contrast = float(other.plus.std())
    # 300 points sample the disc to some per cent.
    assert float((one.plus - other.plus).std()) < 0.06 * contrast


def test_flat_relief_equals_no_relief() -> None:
    texture = random_texture()
    flat = coherent.render(texture, plain_spec(offset_um=0.2))
    relief = coherent.render(texture, plain_spec(offset_um=0.2, relief_um=1e-4))
    np.testing.assert_allclose(flat.plus, relief.plus, atol=1e-3)
