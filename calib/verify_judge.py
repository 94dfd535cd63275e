"""Does what was measured today still agree with the profile? Pure statistics.

A Shewhart chart for each value: centre line is the profile's, control limits are three
combined standard uncertainties, of the profile and of today, but no tighter than what
matters to a scan. Beyond a limit: recalibrate. Two of the last three runs beyond two
thirds of it on one side (one of the Western Electric rules): watch. A line through the
runs tells when it would cross the limit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import numpy as np

from bifocus.calib.uncertainty import fit_linear, root_sum_square
from bifocus.records import InstrumentProfile, Measured

State = Literal["pass", "watch", "out"]

_LIMIT_SIGMAS = 3.0
_WATCH_SHARE = 2 / 3
# A trend needs so many runs, and to differ from none by two of its uncertainties.
_LEAST_RUNS = 4
# Relative uncertainty of what calibration notes beside its values.
_FACT_U = 0.01
_FORESEEN = timedelta(days=365)


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """How one value is watched.

    Attributes
    ----------
    step
        What to calibrate again when it is out.
    floor, floor_share
        Changes smaller than this, or than this share of the profile's value, do not
        matter to a scan; the larger counts.
    """

    key: str
    step: str
    floor: float = 0.0
    floor_share: float = 0.0


CONTROLS = (
    # A tenth of a micrometre is what a pair tells anyhow.
    Control(key="focus_um", step="focus", floor=0.1),
    # The width follows 1 / NA^2: 12 % is 6 % of NA, more than a label is off.
    Control(key="focus_width_um", step="optics", floor_share=0.12),
    Control(key="backlash_z_um", step="z", floor=0.05),
    # One per cent of a field is a tenth of the stitching's overlap.
    Control(key="scale_x", step="xy", floor=0.01),
    Control(key="scale_y", step="xy", floor=0.01),
    Control(key="rotation_mrad", step="xy", floor=5.0),
    Control(key="light_level", step="illumination", floor_share=0.1),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One verification's value on a chart, and when it was measured."""

    utc: datetime
    value: float
    u: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One value of one verification.

    Attributes
    ----------
    expected, measured
        The profile's, and today's; None where it could not be measured, for `reason`.
    limit
        The value passes within `expected` +- `limit`.
    points
        All runs against this profile, today's last.
    drifts_out
        When the trend would cross the limit; None without a trend within a year.
    """

    control: Control
    unit: str
    expected: Measured
    measured: Measured | None
    limit: float
    state: State
    reason: str
    points: tuple[Point, ...]
    drifts_out: datetime | None


def judge(
    profile: InstrumentProfile,
    values: Mapping[str, Measured],
    refused: Mapping[str, str],
    history: Mapping[str, Sequence[Point]],
    now: datetime,
) -> tuple[Check, ...]:
    """Compare a verification with the profile.

    Parameters
    ----------
    values, refused
        What was measured, and why the rest could not be.
    history
        By key, the earlier runs against the same profile, oldest first.
    now
        Time of this run, with its zone.
    """
    expected = expected_values(profile)
    checks = []
    for control in CONTROLS:
        known, found = expected.get(control.key), values.get(control.key)
        if known is None or (found is None and control.key not in refused):
            continue
        points = list(history.get(control.key, ()))
        if found is None:
            reason = refused[control.key]
            checks.append(_unmeasured(control, known, reason, tuple(points)))
            continue
        points.append(Point(utc=now, value=found.value, u=found.standard_uncertainty))
        checks.append(_check(control, known, found, tuple(points)))
    return tuple(checks)


def expected_values(profile: InstrumentProfile) -> dict[str, Measured]:
    """Return what a verification compares with, from values and facts of a profile."""
    facts = profile.facts.get("focus", {})
    known = dict(profile.values)
    for key, fact, unit in (
        ("focus_width_um", "width_um", "um"),
        ("light_level", "light_level", "levels"),
    ):
        if fact in facts:
            value = float(facts[fact])
            known[key] = Measured(
                value=value,
                standard_uncertainty=_FACT_U * value,
                method="seen by calibration at the same place",
                unit=unit,
            )
    return known


def _check(
    control: Control, known: Measured, found: Measured, points: tuple[Point, ...]
) -> Check:
    limit = _limit(control, known, found)
    off = found.value - known.value
    state: State = "pass"
    reason = ""
    if abs(off) > limit:
        state = "out"
        reason = (
            f"{off:+.3g} {found.unit} from the profile, at most {limit:.3g} is "
            f"expected: `bifocus calibrate --only {control.step}`"
        )
    elif _leans(known.value, limit, points):
        state = "watch"
        reason = "two of the last three runs lie near the same limit: verify again"
    return Check(
        control=control,
        unit=found.unit,
        expected=known,
        measured=found,
        limit=limit,
        state=state,
        reason=reason,
        points=points,
        drifts_out=find_crossing(known.value, limit, points),
    )


def _unmeasured(
    control: Control, known: Measured, reason: str, points: tuple[Point, ...]
) -> Check:
    return Check(
        control=control,
        unit=known.unit,
        expected=known,
        measured=None,
        limit=_limit(control, known, known),
        state="out",
        reason=f"could not be measured: {reason}",
        points=points,
        drifts_out=None,
    )


def _limit(control: Control, known: Measured, found: Measured) -> float:
    u = root_sum_square([known.standard_uncertainty, found.standard_uncertainty])
    floor = max(control.floor, control.floor_share * abs(known.value))
    return max(_LIMIT_SIGMAS * u, floor)


def _leans(centre: float, limit: float, points: Sequence[Point]) -> bool:
    """Return whether two of the last three points lie near one and the same limit."""
    last = [point.value - centre for point in points[-3:]]
    near = _WATCH_SHARE * limit
    return sum(off > near for off in last) >= 2 or sum(off < -near for off in last) >= 2


def find_crossing(
    centre: float, limit: float, points: Sequence[Point]
) -> datetime | None:
    """Return when a line through the points crosses a limit, if it is foreseen.

    None while there are fewer than four runs, where the slope may as well be none, or
    where the crossing is more than a year away.
    """
    if len(points) < _LEAST_RUNS:
        return None
    now = points[-1].utc
    days = np.array([(point.utc - now).total_seconds() / 86400 for point in points])
    if np.ptp(days) <= 0:
        return None
    values = np.array([point.value for point in points])
    fit = fit_linear(np.stack([np.ones(days.size), days], axis=1), values)
    today, slope = (float(value) for value in fit.coefficients)
    if abs(slope) <= 2 * float(fit.u[1]):
        return None
    ahead_days = (centre + (limit if slope > 0 else -limit) - today) / slope
    if not 0 < ahead_days <= _FORESEEN.days:
        return None
    return now + timedelta(days=ahead_days)
