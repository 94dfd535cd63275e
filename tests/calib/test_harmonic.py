"""The harmonic of a motor's turn against sines of known amplitude and phase."""

import math

import numpy as np
import pytest

from bifocus.calib.harmonic import fit_periodic
from bifocus.calib.magnitude import debiased_length
from bifocus.errors import CalibrationError

PLACES_UM = np.asarray(1000.0 + 9.0 * np.arange(24), np.float64)  # 2.3 turns of 90 um
TURN_UM = 90.0


@pytest.mark.parametrize("phase", [-2.5, 0.0, 1.0])
def test_amplitude_and_phase_beside_a_slope(phase: float) -> None:
    wave = 0.7 * np.sin(2 * math.pi * PLACES_UM / TURN_UM + phase)
    found = fit_periodic(
        PLACES_UM, wave + 3.0 - 0.04 * PLACES_UM, turn_um=TURN_UM, link_um=0.0
    )
    assert found.amplitude_um == pytest.approx(0.7)
    assert math.remainder(found.phase_rad - phase, 2 * math.pi) == pytest.approx(
        0.0, abs=1e-6
    )
    assert found.residual_um < 1e-9
    assert found.turns == pytest.approx(2.3)


@pytest.mark.parametrize("amplitude_um", [0.0, 0.05, 0.1, 0.3])
@pytest.mark.parametrize("noise", ["scatter", "walk"])
def test_stated_amplitudes_cover_the_truth(amplitude_um: float, noise: str) -> None:
    """300 surveys: 95 % less 4 binomial standard deviations of 1.3 %, or more."""
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(300):
        phase = rng.uniform(0, 2 * math.pi)
        wave = amplitude_um * np.sin(2 * math.pi * PLACES_UM / TURN_UM + phase)
        drawn = rng.normal(0, 0.1 if noise == "scatter" else 0.02, PLACES_UM.size)
        wave += drawn if noise == "scatter" else np.cumsum(drawn)
        link_um = 0.0 if noise == "scatter" else 0.02
        found = fit_periodic(PLACES_UM, wave, turn_um=TURN_UM, link_um=link_um)
        hits += abs(found.amplitude_um - amplitude_um) <= 2 * found.u_um
    assert hits / 300 >= 0.90


def test_less_than_a_turn_is_refused() -> None:
    with pytest.raises(CalibrationError, match=r"0\.69 motor turns"):
        fit_periodic(PLACES_UM, PLACES_UM, turn_um=300.0, link_um=0.0)


def test_too_few_places_a_turn_are_refused() -> None:
    with pytest.raises(CalibrationError, match="at least one turn with 5 places"):
        fit_periodic(PLACES_UM, PLACES_UM, turn_um=30.0, link_um=0.0)


@pytest.mark.parametrize("true_length", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_lengths_of_noisy_vectors_cover_the_truth(true_length: float) -> None:
    rng = np.random.default_rng(4)
    u = (1.0, 0.7)
    found = [
        debiased_length((np.array([true_length, 0.0]) + rng.normal(0, u)).tolist(), u)
        for _ in range(2000)
    ]
    hits = np.mean([abs(length - true_length) <= 2 * sd for length, sd in found])
    assert 0.90 <= hits <= 0.995
    # Without the correction the mean of 0 would be 1.1.
    if true_length == 0:
        assert np.mean([length for length, _ in found]) < 0.7
