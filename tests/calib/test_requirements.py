"""What measured values prove about the scan's needs."""

import pytest

from bifocus.calib.requirements import Requirement, judge_all, list_requirements
from bifocus.optics import Objective, depth_of_field_um
from bifocus.records import Measured
from tests.scanner import scanner_config


def measured(value: float, u: float = 0.0) -> Measured:
    return Measured(value=value, standard_uncertainty=u, method="invented")


@pytest.mark.parametrize(
    ("value", "u", "verdict"),
    [
        (1.0, 0.4, "pass"),  # 0.2 .. 1.8 lies in 0 .. 2
        (1.0, 0.6, "not proven"),  # -0.2 .. 2.2 holds all of it
        (2.1, 0.1, "not proven"),
        (2.5, 0.1, "fail"),
        (-0.5, 0.1, "fail"),
    ],
)
def test_the_whole_interval_must_lie_within(
    value: float, u: float, verdict: str
) -> None:
    needed = Requirement(key="x", reason="", low=0.0, high=2.0)
    assert needed.judge(measured(value, u)) == verdict


def test_a_limit_of_the_uncertainty_takes_k_of_two() -> None:
    needed = Requirement(key="x", reason="", high=0.2, of="uncertainty")
    assert needed.judge(measured(99.0, 0.1)) == "pass"
    assert needed.judge(measured(99.0, 0.101)) == "fail"
    assert needed.judge(None) == "not measured"


def test_limits_follow_the_instrument_file() -> None:
    config = scanner_config(stage={"take_up_um": (6.0, 7.0, 4.0)})
    limits = {it.key: it for it in list_requirements(config) if it.of == "value"}
    assert [limits[f"backlash_{axis}_um"].high for axis in "xyz"] == [6.0, 7.0, 4.0]
    assert limits["settle_xy_s"].high == 0.1
    # One depth of field over 256 px of 0.25 um.
    dof_um = depth_of_field_um(Objective(na=0.75, wavelength_um=0.53), 0.25)
    assert limits["tilt_mrad"].high == pytest.approx(dof_um / 64 * 1e3)
    # 12 % overlap: a step is 88 % of the field; a quarter of the overlap is spare.
    assert limits["scale_x"].high == pytest.approx(1 + 0.03 / 0.88)


def test_every_requirement_says_why_and_is_judged_once() -> None:
    config = scanner_config()
    findings = judge_all({"backlash_z_um": measured(5.0, 0.1)}, {}, config)
    by_key = {(it.requirement.key, it.requirement.of): it for it in findings}
    assert len(by_key) == len(findings)
    assert by_key["backlash_z_um", "value"].verdict == "fail"  # 4 um are taken up
    assert all(it.requirement.reason for it in findings)
    others = [it for key, it in by_key.items() if key[0] != "backlash_z_um"]
    assert {it.verdict for it in others} == {"not measured"}


def test_a_spacing_outside_the_trained_range_fails() -> None:
    config = scanner_config()
    facts = {"spacing": {"inside_trained_range": False}}
    verdicts = [
        it.verdict
        for it in judge_all({"half_spacing_um": measured(9.0, 0.01)}, facts, config)
        if it.requirement.key == "half_spacing_um"
    ]
    assert verdicts == ["pass", "fail"]
