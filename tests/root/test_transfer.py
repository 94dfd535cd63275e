"""The transfer of partially coherent light against sums over the condenser's disc."""

import numpy as np
import numpy.typing as npt
import pytest

from bifocus.errors import ConfigError
from bifocus.optics import Objective, Pupil, compute_otf
from bifocus.transfer import Light, compute_transfer

Float64 = npt.NDArray[np.float64]
GREEN = Objective(na=0.75, wavelength_um=0.53)
RADIUS_PER_UM = 0.75 / 0.53


def sum_over_condenser(light: Light, s: float, z_um: float) -> complex:
    """Add up both waves on a grid: no quadrature rule, no table."""
    side = np.linspace(-light.condenser, light.condenser, 1501)
    x, y = np.meshgrid(side, side)
    lit = np.hypot(x, y) <= light.condenser
    passed = lit & (np.hypot(x + s, y) <= 1)

    def waves(rho: Float64) -> Float64:
        rho = np.minimum(rho, 1.0)
        if light.pupil == "paraxial":
            path = z_um * (0.75 * rho) ** 2 / 2 / 0.53
        else:
            path = z_um * (1 - np.sqrt(1 - (0.75 * rho) ** 2)) / 0.53
        return np.asarray(path + light.spherical_waves * (rho**4 - rho**2))

    turn = 2j * np.pi * (waves(np.hypot(x + s, y)) - waves(np.hypot(x, y)))
    return complex((np.exp(turn) * passed).sum() / lit.sum())


@pytest.mark.parametrize("pupil", ["paraxial", "exact"])
@pytest.mark.parametrize("condenser", [0.45, 0.7])
@pytest.mark.parametrize("z_um", [-1.6, 0.0, 0.8])
def test_it_is_the_sum_of_both_waves_over_the_condenser(
    pupil: Pupil, condenser: float, z_um: float
) -> None:
    light = Light(condenser=condenser, spherical_waves=0.1, pupil=pupil)
    phase = Light(
        condenser=condenser, phase_ratio=1.0, spherical_waves=0.1, pupil=pupil
    )
    s = np.array([0.1, 0.5, 0.9, 1.3])
    expected = [sum_over_condenser(light, float(radius), z_um) for radius in s]
    z = np.array([z_um])
    absorption = compute_transfer(GREEN, light, s * RADIUS_PER_UM, z)[0]
    both = compute_transfer(GREEN, phase, s * RADIUS_PER_UM, z)[0]
    np.testing.assert_allclose(absorption, np.real(expected), atol=5e-3)
    np.testing.assert_allclose(both - absorption, np.imag(expected), atol=5e-3)


@pytest.mark.parametrize("pupil", ["paraxial", "exact"])
@pytest.mark.parametrize("na", [0.42, 0.75])
def test_a_full_condenser_gives_the_incoherent_otf(pupil: Pupil, na: float) -> None:
    objective = Objective(na=na, wavelength_um=0.53, pupil=pupil)
    frequency = np.asarray(np.linspace(0, 2.1 * na / 0.53, 60), dtype=np.float64)
    z_um = np.array([-2.5, -0.7, 0.0, 1.2])
    transfer = compute_transfer(objective, Light(pupil=pupil), frequency, z_um)
    expected = [compute_otf(objective, frequency, float(z)) for z in z_um]
    np.testing.assert_allclose(transfer, expected, atol=3e-3)


def test_without_aberration_phase_turns_its_sign_with_defocus() -> None:
    frequency = np.asarray(np.linspace(0, 1.6 * RADIUS_PER_UM, 30), dtype=np.float64)
    z_um = np.array([-1.0, 1.0])
    plain = compute_transfer(GREEN, Light(condenser=0.6), frequency, z_um)
    with_phase = Light(condenser=0.6, phase_ratio=0.5)
    below, above = compute_transfer(GREEN, with_phase, frequency, z_um) - plain
    np.testing.assert_allclose(above, -below, atol=1e-5)
    assert np.abs(above).max() > 0.05
    np.testing.assert_allclose(plain[0], plain[1], atol=1e-5)


def test_light_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match="condenser"):
        Light(condenser=1.4)
    with pytest.raises(ConfigError, match="finite"):
        Light(phase_ratio=float("nan"))
