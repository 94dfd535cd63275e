"""The ISO 230-2-style table against one worked out by hand, and invariants."""

import math

import numpy as np
import pytest

from bifocus.calib.axis_report import report_axis
from bifocus.errors import CalibrationError

ROOT2 = math.sqrt(2)
TARGETS = np.array([10.0, 20.0])
UP = np.array([[1.0, 3.0], [0.0, 0.0]])
DOWN = np.array([[5.0, 5.0], [1.0, 3.0]])


def test_a_table_by_hand() -> None:
    """Target 1: up 2 (s root 2), down 5 (s 0); target 2: up 0 (0), down 2 (root 2)."""
    report = report_axis(TARGETS, UP, DOWN)
    first, second = report.rows
    assert (first.mean_up_um, first.mean_down_um) == pytest.approx((2.0, 5.0))
    assert (first.s_up_um, first.s_down_um) == pytest.approx((ROOT2, 0.0))
    assert (first.reversal_um, second.reversal_um) == pytest.approx((-3.0, -2.0))
    assert first.repeatability_up_um == pytest.approx(4 * ROOT2)
    # 2 s + |B| = 5.83 is more than 4 s = 5.66; at the second, 4.83 is less.
    assert first.repeatability_um == pytest.approx(2 * ROOT2 + 3)
    assert second.repeatability_um == pytest.approx(4 * ROOT2)
    assert report.reversal_um == pytest.approx(3.0)
    assert report.mean_reversal_um == pytest.approx(-2.5)
    assert report.repeatability_um == pytest.approx(2 * ROOT2 + 3)
    assert report.systematic_up_um == pytest.approx(2.0)
    assert report.systematic_down_um == pytest.approx(3.0)
    assert report.systematic_um == pytest.approx(5.0)
    assert report.mean_range_um == pytest.approx(3.5 - 1.0)
    # Highest 5 (first, down), lowest 2 - 2 root 2 (first, up and second, down).
    assert report.accuracy_um == pytest.approx(3 + 2 * ROOT2)
    assert report.accuracy_up_um == pytest.approx(4 * ROOT2)
    assert report.accuracy_down_um == pytest.approx(3 + 2 * ROOT2)


def test_a_constant_does_not_matter_and_a_slope_does() -> None:
    report, shifted = (report_axis(TARGETS, UP + c, DOWN + c) for c in (0.0, 7.0))
    assert shifted.accuracy_um == pytest.approx(report.accuracy_um)
    assert shifted.rows[0].repeatability_um == pytest.approx(
        report.rows[0].repeatability_um
    )
    flat = np.zeros((2, 5))
    sloped = report_axis(TARGETS, flat + 0.05 * TARGETS[:, None], flat)
    assert sloped.systematic_up_um == pytest.approx(0.5)
    assert sloped.repeatability_um == pytest.approx(1.0)  # the largest reversal


def test_stated_repeatability_agrees_with_its_scatter() -> None:
    """One target, 5 runs, normal scatter: 400 repeats of the whole report."""
    rng = np.random.default_rng(0)
    values, stated = [], []
    for _ in range(400):
        up, down = rng.normal(0, 1, (2, 1, 5))
        report = report_axis(np.array([0.0]), up, down + 20.0)
        values.append(report.repeatability_um)
        stated.append(report.u_repeatability_um)
    assert np.mean(stated) == pytest.approx(np.std(values), rel=0.15)


def test_shapes_must_fit() -> None:
    with pytest.raises(CalibrationError, match="2 targets"):
        report_axis(TARGETS, UP, DOWN[:1])


def test_facts_are_plain() -> None:
    facts = report_axis(TARGETS, UP, DOWN).as_facts()
    assert facts["accuracy_um"] == pytest.approx(3 + 2 * ROOT2)
    targets = facts["targets"]
    assert isinstance(targets, tuple)
    assert targets[0]["reversal_um"] == pytest.approx(-3.0)
