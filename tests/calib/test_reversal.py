"""Play from places found from both sides: closed forms, and chance itself."""

import numpy as np
import numpy.typing as npt
import pytest

from bifocus.calib.reversal import abba, estimate_reversal, estimate_spread
from bifocus.errors import CalibrationError


def seconds(count: int, apart_s: float = 1.0) -> npt.NDArray[np.float64]:
    return np.asarray(np.arange(count) * apart_s, dtype=np.float64)


def test_the_drift_of_a_series_hurts_neither_direction() -> None:
    """In ABBA order both directions have the same mean time, whatever the blocks."""
    order = np.array(abba(3))
    number = np.arange(order.size)
    assert number[order].mean() == number[~order].mean()


def test_play_and_drift_come_out_exactly() -> None:
    """Up at 10 um, down 5 um lower, creeping by 36 um an hour: nothing is left over."""
    is_down = np.array(abba(2))
    times_s = seconds(8, 10.0)
    places_um = 10.0 - 5.0 * is_down + 0.01 * (times_s - 35.0)
    found = estimate_reversal(places_um, times_s, is_down, motor_step_um=0.0)
    assert found.backlash_um == pytest.approx(5.0)
    assert found.up_um == pytest.approx(10.0)
    assert found.drift_um_per_hour == pytest.approx(36.0)
    assert found.u_um == pytest.approx(0.0, abs=1e-9)
    assert found.reference_s == 35.0


def test_the_uncertainty_is_that_of_a_difference_of_means() -> None:
    """Without drift u = s sqrt(1/n + 1/n), widened by t(5) / 2 = 1.2853."""
    is_down = np.array(abba(2))
    residual = np.array([1.0, 1.0, -1.0, -1.0, -1.0, -1.0, 1.0, 1.0]) * 0.01
    found = estimate_reversal(
        -5.0 * is_down + residual, seconds(8, 10.0), is_down, motor_step_um=0.0
    )
    sd_um = (8 * 0.01**2 / 5) ** 0.5
    assert found.backlash_um == pytest.approx(5.0)
    assert found.scatter_um == pytest.approx(sd_um)
    assert found.u_um == pytest.approx(sd_um * 0.5**0.5 * 2.5706 / 2, rel=1e-3)


def test_the_motor_step_is_part_of_the_uncertainty() -> None:
    is_down = np.array(abba(1))
    found = estimate_reversal(
        -5.0 * is_down, seconds(4, 10.0), is_down, motor_step_um=0.12
    )
    assert found.u_um == pytest.approx(0.12 / 12**0.5, rel=1e-6)


def test_three_approaches_are_too_few() -> None:
    with pytest.raises(CalibrationError, match="repeat more often"):
        estimate_reversal(
            np.zeros(3), seconds(3), np.array([False, True, True]), motor_step_um=0
        )


def test_spread_is_that_of_the_stage_and_not_of_the_looking() -> None:
    """2000 series of 12 returns: scatter 0.03 um, each look 0.02 um of noise more."""
    rng = np.random.default_rng(5)
    times_s = seconds(12)
    squares, inside = [], 0
    for _ in range(2000):
        stands_um = rng.normal(0.0, 0.03, 12) + 0.01 * times_s
        places_um = stands_um[:, None] + rng.normal(0.0, 0.02, (12, 2))
        spread_um, u_um = estimate_spread(places_um, times_s)
        squares.append(spread_um**2)
        inside += abs(spread_um - 0.03) <= 2 * u_um
    assert float(np.mean(squares)) ** 0.5 == pytest.approx(0.03, rel=0.02)
    assert inside / 2000 == pytest.approx(0.95, abs=0.03)
