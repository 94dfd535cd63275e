"""The optics against quadrature, closed forms, and a sampled pupil's FFT."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.integrate import quad
from scipy.special import j0, j1

from bifocus.errors import ConfigError
from bifocus.optics import (
    Objective,
    depth_of_field_um,
    frequency_grid_per_um,
    otf_grid,
    otf_radial,
    psf_radial,
    pupil_phase,
)
from tests.imaging import Scope, otf_by_pupil_fft

Float64 = npt.NDArray[np.float64]

GREEN_UM = 0.53
GREEN = Objective(na=0.75, wavelength_um=GREEN_UM)
EXACT = Objective(na=0.75, wavelength_um=GREEN_UM, pupil="exact")
ABERRATED = Objective(na=0.75, wavelength_um=GREEN_UM, spherical_waves=0.25)


def evenly(start: float, stop: float, count: int) -> Float64:
    return np.linspace(start, stop, count, dtype=np.float64)


RADIUS_UM = evenly(0.0, 5.0, 41)


def eq_1_by_quad(radius_um: float, z_um: float) -> float:
    """Born & Wolf's integral exactly as the paper prints it, by adaptive quadrature."""
    wave_number = 2 * np.pi / GREEN_UM

    def amplitude(rho: float) -> float:
        return 2 * rho * float(j0(wave_number * 0.75 * radius_um * rho))

    def angle(rho: float) -> float:
        return wave_number * 0.75**2 * z_um * rho**2 / 2

    real = quad(lambda rho: amplitude(rho) * np.cos(angle(rho)), 0, 1, limit=200)[0]
    imaginary = quad(lambda rho: amplitude(rho) * np.sin(angle(rho)), 0, 1, limit=200)[
        0
    ]
    return float(real**2 + imaginary**2)


def jinc_squared(v: Float64) -> Float64:
    safe = np.where(v == 0, 1.0, v)
    result: Float64 = np.where(v == 0, 1.0, (2 * j1(safe) / safe) ** 2)
    return result


@pytest.mark.parametrize("z_um", [0.0, 0.5, 1.0, 3.0])
def test_psf_is_the_papers_integral(z_um: float) -> None:
    expected = [eq_1_by_quad(radius_um, z_um) for radius_um in RADIUS_UM]
    actual = psf_radial(GREEN, RADIUS_UM, z_um)
    np.testing.assert_allclose(actual, expected, atol=1e-3 * max(expected))


def test_psf_in_focus_is_the_airy_pattern() -> None:
    v = 2 * np.pi * 0.75 * RADIUS_UM / GREEN_UM
    airy = jinc_squared(v)
    np.testing.assert_allclose(psf_radial(GREEN, RADIUS_UM, 0.0), airy, atol=1e-10)
    first_dark_um = 0.61 * GREEN_UM / 0.75  # Rayleigh's 0.61 is 1.21967 / 2
    assert psf_radial(GREEN, np.array([first_dark_um]), 0.0)[0] < 1e-5


def test_axial_psf_is_a_squared_sinc() -> None:
    # Born & Wolf 8.8.2: I(u, 0) = [sin(u/4) / (u/4)]^2 with u = 2 pi NA^2 z / lambda.
    for z_um in evenly(-4, 4, 33):
        quarter_u = 2 * np.pi * 0.75**2 * z_um / GREEN_UM / 4
        axis = psf_radial(GREEN, np.zeros(1), float(z_um))[0]
        assert axis == pytest.approx(np.sinc(quarter_u / np.pi) ** 2, abs=1e-9)


@pytest.mark.parametrize("objective", [GREEN, EXACT, ABERRATED])
@pytest.mark.parametrize("z_um", [0.0, 0.5, -1.0, 3.0])
def test_psf_is_the_fourier_transform_of_the_pupil(
    objective: Objective, z_um: float
) -> None:
    """Sum plane waves over a Cartesian grid of the pupil, at radii along one axis."""
    axis = (np.arange(400) + 0.5) / 200 - 1
    down, right = np.meshgrid(axis, axis, indexing="ij")
    rho = np.hypot(down, right)
    inside = np.clip((1 - rho) * 200 + 0.5, 0, 1)  # rim softened over one sample
    phase = pupil_by_hand(objective, np.minimum(rho, 1), z_um)
    columns = (inside * np.exp(-1j * phase)).sum(axis=0) / inside.sum()
    waves = np.outer(RADIUS_UM, axis) * objective.na / objective.wavelength_um
    expected = np.abs(np.exp(2j * np.pi * waves) @ columns) ** 2
    actual = psf_radial(objective, RADIUS_UM, z_um)
    # the stair of the rim leaves a few 1e-5
    np.testing.assert_allclose(actual, expected, atol=2e-4)


def pupil_by_hand(objective: Objective, rho: Float64, z_um: float) -> Float64:
    waves = objective.spherical_waves * (rho**4 - rho**2)
    if objective.pupil == "exact":
        axial = np.cos(np.arcsin(objective.na * rho))
        waves = waves + z_um * (1 - axial) / objective.wavelength_um
    else:
        waves = waves + z_um * (objective.na * rho) ** 2 / 2 / objective.wavelength_um
    result: Float64 = 2 * np.pi * waves
    return result


def test_otf_in_focus_is_the_closed_form() -> None:
    s = evenly(0, 1, 101)
    expected = 2 / np.pi * (np.arccos(s) - s * np.sqrt(1 - s**2))
    actual = otf_radial(GREEN, s * GREEN.cutoff_per_um, 0.0)
    np.testing.assert_allclose(actual, expected, atol=1e-4)


@pytest.mark.parametrize("objective", [GREEN, ABERRATED])
@pytest.mark.parametrize("z_um", [0.0, 0.5, 1.0, 3.0])
def test_psf_is_the_hankel_transform_of_the_otf(
    objective: Objective, z_um: float
) -> None:
    # This direction is finite: the OTF ends at the cutoff, a PSF never does. The energy
    # of |U|^2 with U(0) = 1 in focus is 1 / (area of the pupil in frequency).
    frequency = evenly(0, objective.cutoff_per_um, 4001)
    kernel = j0(2 * np.pi * np.outer(RADIUS_UM, frequency))
    otf = otf_radial(objective, frequency, z_um)
    area = np.pi * (objective.na / objective.wavelength_um) ** 2
    values = 2 * np.pi * kernel * (otf * frequency) / area
    step = frequency[1]
    expected = step * (values.sum(axis=1) - values[:, [0, -1]].sum(axis=1) / 2)
    actual = psf_radial(objective, RADIUS_UM, z_um)
    np.testing.assert_allclose(actual, expected, atol=2e-4)


@pytest.mark.parametrize(
    ("scope", "objective"),
    [
        (Scope(paraxial=True), GREEN),
        (Scope(), EXACT),
        (Scope(paraxial=True, spherical_waves=0.25), ABERRATED),
    ],
)
@pytest.mark.parametrize("z_um", [0.0, 0.5, -1.0, 3.0])
def test_otf_grid_is_the_pupils_autocorrelation(
    scope: Scope, objective: Objective, z_um: float
) -> None:
    shape = (200, 173)
    expected = otf_by_pupil_fft(shape, scope, GREEN_UM, z_um)
    actual = otf_grid(objective, shape, scope.pixel_um, z_um)
    assert actual.dtype == np.float32
    assert np.abs(expected.imag).max() < 1e-5
    # a pupil of 70 samples' radius is known to a few 1e-3
    np.testing.assert_allclose(actual, expected.real, atol=5e-3)


@pytest.mark.parametrize("objective", [GREEN, EXACT, ABERRATED])
@pytest.mark.parametrize("z_um", [0.0, 0.7, -2.0, 5.0])
def test_otf_keeps_energy_and_never_exceeds_focus(
    objective: Objective, z_um: float
) -> None:
    frequency = evenly(0, 1.5 * GREEN.cutoff_per_um, 300)
    otf = otf_radial(objective, frequency, z_um)
    assert otf[0] == pytest.approx(1, abs=1e-5)
    assert np.all(otf[frequency >= GREEN.cutoff_per_um] == 0)
    focus = otf_radial(GREEN, frequency, 0.0)  # Schwarz: no phase can raise the overlap
    assert np.all(np.abs(otf) <= focus + 1e-4)


def test_far_defocus_at_low_frequency_is_the_geometric_disc() -> None:
    # Hopkins 1955: far from focus the OTF tends to 2 J1(a)/a, a = 2 pi f NA z.
    z_um = 20.0
    frequency = evenly(1e-6, 0.06, 30)
    a = 2 * np.pi * frequency * 0.75 * z_um
    actual = otf_radial(GREEN, frequency, z_um)
    np.testing.assert_allclose(actual, 2 * j1(a) / a, atol=0.02)


def test_cutoff_is_twice_na_over_wavelength() -> None:
    assert pytest.approx(2.830, abs=1e-3) == GREEN.cutoff_per_um
    just_below = np.array([0.98 * GREEN.cutoff_per_um])
    assert 0 < otf_radial(GREEN, just_below, 0.0)[0] < 0.01


@pytest.mark.parametrize("objective", [GREEN, EXACT])
def test_focus_is_symmetric_without_aberration(objective: Objective) -> None:
    frequency = evenly(0, 2.5, 60)
    above, below = (otf_radial(objective, frequency, z_um) for z_um in (1.3, -1.3))
    np.testing.assert_allclose(above, below, atol=1e-12)
    above, below = (psf_radial(objective, RADIUS_UM, z_um) for z_um in (1.3, -1.3))
    np.testing.assert_allclose(above, below, atol=1e-12)


def test_spherical_aberration_tells_above_from_below() -> None:
    frequency = evenly(0, 2.5, 60)
    above, below = (otf_radial(ABERRATED, frequency, z_um) for z_um in (1.0, -1.0))
    assert np.abs(above - below).max() > 0.02


def test_exact_pupil_tends_to_paraxial_for_small_na() -> None:
    paraxial = Objective(na=0.1, wavelength_um=GREEN_UM)
    exact = Objective(na=0.1, wavelength_um=GREEN_UM, pupil="exact")
    z_um = 50.0  # one n lambda / NA^2
    # the next term of the square root's series is NA^2 / 4 of the paraxial phase
    edge = pupil_phase(paraxial, np.ones(1), z_um)[0]
    assert pupil_phase(exact, np.ones(1), z_um)[0] == pytest.approx(
        edge * (1 + 0.1**2 / 4), rel=1e-4
    )
    frequency = evenly(0, paraxial.cutoff_per_um, 50)
    np.testing.assert_allclose(
        otf_radial(exact, frequency, z_um),
        otf_radial(paraxial, frequency, z_um),
        atol=0.005,
    )


def test_exact_pupil_differs_at_high_na_by_the_sine_condition() -> None:
    ratio = pupil_phase(EXACT, np.ones(1), 1.0) / pupil_phase(GREEN, np.ones(1), 1.0)
    assert ratio[0] == pytest.approx((1 - np.cos(np.arcsin(0.75))) / (0.75**2 / 2))


def test_immersion_scales_defocus_by_the_index() -> None:
    oil = Objective(na=0.75, wavelength_um=GREEN_UM, refractive_index=1.5)
    np.testing.assert_allclose(
        psf_radial(oil, RADIUS_UM, 1.5), psf_radial(GREEN, RADIUS_UM, 1.0), atol=1e-9
    )


def test_frequency_grid_is_that_of_rfft2() -> None:
    grid = frequency_grid_per_um((6, 5), 0.5)
    assert grid.shape == np.fft.rfft2(np.zeros((6, 5))).shape
    assert grid[0, 1] == pytest.approx(1 / (5 * 0.5))
    assert grid[3, 0] == pytest.approx(1.0)  # Nyquist of 0.5 um pixels
    assert grid[1, 2] == pytest.approx(np.hypot(1 / 3, 2 / 2.5))


def test_depth_of_field_is_inoues_formula() -> None:
    # 0.53 / 0.75^2 = 0.942; a 0.25 um pixel adds 0.25 / 0.75 = 0.333.
    assert depth_of_field_um(GREEN) == pytest.approx(0.9422, abs=1e-4)
    assert depth_of_field_um(GREEN, 0.25) == pytest.approx(1.2756, abs=1e-4)
    oil = Objective(na=1.3, wavelength_um=0.55, refractive_index=1.515)
    assert depth_of_field_um(oil) == pytest.approx(1.515 * 0.55 / 1.69)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("na", [0.0, -0.75, 1.0, 1.4, np.nan, np.inf]),
        ("wavelength_um", [0.0, -0.5, np.nan, np.inf]),
        ("refractive_index", [0.0, 0.75, -1.0, np.nan, np.inf]),
        ("spherical_waves", [np.nan, np.inf]),
    ],
)
def test_optics_that_do_not_exist_are_refused(field: str, values: list[float]) -> None:
    for value in values:
        change: dict[str, Any] = {field: value}
        with pytest.raises(ConfigError):
            replace(GREEN, **change)
