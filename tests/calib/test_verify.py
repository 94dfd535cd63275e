"""`verify`: silent on an unchanged instrument, loud on one that has changed."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bifocus.calib.procedure import calibrate_into
from bifocus.calib.step_table import STEPS
from bifocus.calib.verify import Verification, verify
from bifocus.calib.verify_judge import Check, Point, find_crossing, judge
from bifocus.calib.verify_measure import measure_again
from bifocus.config import Instrument
from bifocus.errors import CalibrationError, ConfigError
from bifocus.hal.open_instrument import OpenInstrument
from bifocus.records import InstrumentProfile
from tests.calib.fake_steps import bench_on
from tests.calib.faulty_bench import ChangedCamera, StuckStage, lamp_off
from tests.scanner import open_scanner, scanner_config

NOW = datetime(2026, 3, 1, 8, tzinfo=timezone.utc)
pytestmark = pytest.mark.slow

NEEDED = ("focus", "z", "xy", "spacing")


def small_config(
    changes: Mapping[str, Mapping[str, Any]] | None = None,
) -> Instrument:
    """A quick instrument, with some of its hidden truth changed."""
    sections: dict[str, Any] = {
        "camera": {"width_px": 160, "height_px": 160},
        "virtual_slide": {"tissue": "procedural:512x640"},
        "virtual_optics": {},
    }
    for name, change in (changes or {}).items():
        sections[name] = {**sections.get(name, {}), **change}
    return scanner_config(**sections)


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> InstrumentProfile:
    entries = [entry for entry in STEPS if entry.name in NEEDED]
    with open_scanner(small_config()) as instrument:
        return calibrate_into(
            bench_on(instrument), tmp_path_factory.mktemp("c"), entries=entries
        ).profile


def draw_noise(instrument: OpenInstrument, seed: int) -> None:
    """Draw other noise and scatter for the same instrument."""
    stage: Any = instrument.stage
    stage.motion._rng = np.random.default_rng([seed, 1])
    camera: Any = instrument.camera
    camera._seed = 1000 + seed


def verify_changed(
    profile: InstrumentProfile,
    out: Path,
    *,
    seed: int = 0,
    now: datetime = NOW,
    changes: Mapping[str, Mapping[str, Any]] | None = None,
) -> Verification:
    """Verify an instrument that differs by `changes`; the seed draws its noise."""
    with open_scanner(small_config(changes)) as instrument:
        draw_noise(instrument, seed)
        return verify(bench_on(instrument), profile, out, now)


def measure_often(
    profile: InstrumentProfile,
    times: int,
    changes: Mapping[str, Mapping[str, Any]] | None = None,
) -> Iterator[dict[str, Check]]:
    """Measure and judge, without history and page, each time with other noise."""
    with open_scanner(small_config(changes)) as instrument:
        for seed in range(times):
            draw_noise(instrument, seed)
            found = measure_again(bench_on(instrument), profile)
            checks = judge(profile, found.values, found.refused, {}, NOW)
            yield {check.control.key: check for check in checks}


def test_an_unchanged_instrument_raises_no_alarm(profile: InstrumentProfile) -> None:
    """At least 95 % are asked for; of these all must pass."""
    for checks in measure_often(profile, 12):
        assert set(checks) == {
            *("focus_um", "focus_width_um", "backlash_z_um", "light_level"),
            *("scale_x", "scale_y", "rotation_mrad"),
        }
        assert {check.state for check in checks.values()} == {"pass"}, checks


MORE_BACKLASH: dict[str, Any] = {
    "mechanics": {
        "backlash_um": (5.0, 5.0, 3.0 * 1.2),
        "repeatability_um": (0.1, 0.1, 0.02),
    }
}


@pytest.mark.parametrize(
    ("changes", "key", "step"),
    [
        ({"virtual_slide": {"focus_um": 150.3}}, "focus_um", "focus"),
        ({"virtual_slide": {"focus_um": 149.7}}, "focus_um", "focus"),
        ({"stage": MORE_BACKLASH}, "backlash_z_um", "z"),
        ({"virtual_optics": {"na": 0.5}}, "focus_width_um", "optics"),
        ({"virtual_optics": {"pixel_um": 0.5}}, "scale_x", "xy"),
        ({"virtual_optics": {"rotation_mrad": 25.0}}, "rotation_mrad", "xy"),
        ({"camera": {"white_level": 0.75}}, "light_level", "illumination"),
    ],
    ids=["up", "down", "backlash", "na", "magnification", "turned", "dimmer"],
)
def test_a_changed_instrument_is_told_what_to_recalibrate(
    profile: InstrumentProfile,
    changes: dict[str, dict[str, Any]],
    key: str,
    step: str,
) -> None:
    for checks in measure_often(profile, 2, changes):
        assert checks[key].state == "out"
        assert checks[key].control.step == step
        reason = checks[key].reason
        assert f"calibrate --only {step}" in reason or "could not" in reason


def test_the_history_is_kept_and_foresees(
    profile: InstrumentProfile, tmp_path: Path
) -> None:
    """The focus creeps by 0.02 um a day: it will cross its limit, and says when."""
    for day in range(4):
        focus_um = 150.0 + 0.02 * day
        found = verify_changed(
            profile,
            tmp_path,
            seed=7,
            now=NOW + timedelta(days=day),
            changes={"virtual_slide": {"focus_um": focus_um}},
        )
    assert found.verdict == "pass"
    check = found.checks[0]
    assert [point.utc for point in check.points] == [
        NOW + timedelta(days=day) for day in range(4)
    ]
    assert check.drifts_out is not None
    left_um = check.limit - (check.points[-1].value - check.expected.value)
    left_days = (check.drifts_out - check.points[-1].utc) / timedelta(days=1)
    assert left_days == pytest.approx(left_um / 0.02, rel=0.25)
    lines = (tmp_path / "verify.jsonl").read_text().splitlines()
    assert [json.loads(line)["verdict"] for line in lines] == ["pass"] * 4
    page = found.page.read_text()
    assert "Pass:" in page
    assert "SIMULATED" in page
    assert check.drifts_out.date().isoformat() in page
    assert page.count("data:image/svg+xml;base64,") == 1
    for tag in ("<script", "http://", "https://"):
        assert tag not in page.replace("http://www.w3.org", "")


def test_a_creeping_value_is_watched_before_it_is_out(
    profile: InstrumentProfile, tmp_path: Path
) -> None:
    focus_um = 150.0 + 0.85 * 0.1  # near the tenth of a micrometre that matters
    verdicts = [
        verify_changed(
            profile,
            tmp_path,
            seed=seed,
            changes={"virtual_slide": {"focus_um": focus_um}},
        ).verdict
        for seed in range(2)
    ]
    assert verdicts == ["pass", "watch"]


def test_a_damaged_line_is_left_out_and_said(
    profile: InstrumentProfile, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    verify_changed(profile, tmp_path)
    path = tmp_path / "verify.jsonl"
    whole = path.read_text()
    path.write_text(whole + whole[: len(whole) // 2])  # cut by a power failure
    found = verify_changed(profile, tmp_path)
    assert "line 2 is damaged" in caplog.text
    assert len(found.checks[0].points) == 2
    assert path.read_text().startswith(whole)
    again = verify_changed(profile, tmp_path)
    assert len(again.checks[0].points) == 3


def test_runs_against_another_profile_do_not_count(
    profile: InstrumentProfile, tmp_path: Path
) -> None:
    verify_changed(profile, tmp_path)
    other = replace(profile, created_utc="2026-04-01T00:00:00+00:00")
    assert len(verify_changed(other, tmp_path).checks[0].points) == 1


def test_what_cannot_be_measured_is_out_with_its_reason(
    profile: InstrumentProfile, tmp_path: Path
) -> None:
    """Another slide: the focus is 6 um away from where the profile has it."""
    found = verify_changed(
        profile, tmp_path, changes={"virtual_slide": {"focus_um": 156.0}}
    )
    assert found.verdict == "out"
    check = found.checks[0]
    assert check.measured is None
    assert "the focus is not between" in check.reason
    assert "another slide or place" in check.reason
    assert "could not be measured" in found.page.read_text()


def test_dark_and_foreign_instruments_are_refused(
    profile: InstrumentProfile, tmp_path: Path
) -> None:
    with open_scanner(small_config()) as instrument:
        dark = bench_on(instrument, camera=ChangedCamera(instrument.camera, lamp_off))
        with pytest.raises(CalibrationError, match="dark frame"):
            verify(dark, profile, tmp_path, NOW)
        foreign = replace(profile, identity={**profile.identity, "camera": "other"})
        with pytest.raises(ConfigError, match="camera: profile 'other'"):
            verify(bench_on(instrument), foreign, tmp_path, NOW)
        assert not list(tmp_path.iterdir())
        stuck = bench_on(instrument, stage=StuckStage(instrument.stage, "z"))
        assert verify(stuck, profile, tmp_path, NOW).verdict == "out"


@pytest.mark.parametrize("slope", [0.1, -0.1])
def test_a_line_crosses_where_algebra_says(slope: float) -> None:
    points = [
        Point(utc=NOW + timedelta(days=day), value=5 + slope * day, u=0.1)
        for day in range(5)
    ]
    crossing = find_crossing(5.0, 1.0, points)
    assert crossing is not None
    assert (crossing - NOW) / timedelta(days=1) == pytest.approx(10.0)
    assert find_crossing(5.0, 1.0, points[:3]) is None
    assert find_crossing(5.0, 40.0, points) is None  # more than a year ahead
    flat = [replace(point, value=5 + 0.1 * (n % 2)) for n, point in enumerate(points)]
    assert find_crossing(5.0, 1.0, flat) is None
