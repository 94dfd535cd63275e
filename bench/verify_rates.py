"""How often `verify` finds a changed instrument, and alarms on an unchanged one.

Instruments are drawn as for the coverage of calibration (`bench/drawn_instruments.py`;
without drift, which is a moved focus), calibrated in the steps `focus`, `z` and
`spacing`, and verified: as they are, and each with one change. Run it with

    python -m bench.verify_rates [--instruments N] [--repeats N]

Printed: for each change, in which share of verifications the value it concerns was
out. Objectives are swapped for others of the same magnification, which only the width
of the focus curve can tell; another magnification shows in `scale_x` at once.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from bench.drawn_instruments import Change, draw_instrument
from bifocus.calib.procedure import calibrate_into
from bifocus.calib.step_result import Bench
from bifocus.calib.step_table import STEPS
from bifocus.calib.verify_judge import judge
from bifocus.calib.verify_measure import measure_again
from bifocus.records import InstrumentProfile

NA_PAIRS = ((0.4, 0.5), (0.5, 0.65), (0.65, 0.75), (0.75, 0.8), (0.8, 0.95))
_STEPS = ("focus", "z", "spacing")
_NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)
_REGION_UM = (-20.0, -20.0, 40.0, 40.0)
# Play below which a fifth more is less than what matters to a scan, with a margin.
_LEAST_PLAY_UM = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One change, the value that it concerns, and what is fixed of the instruments."""

    name: str
    key: str
    change: Change
    fixed: dict[str, Any]


def list_cases() -> tuple[Case, ...]:
    """Return the changes that are tried on drawn instruments."""
    moved = [
        Case(
            name=f"focus moved by {by_um:+.1f} um",
            key="focus_um",
            change=Change(focus_um=by_um),
            fixed={},
        )
        for by_um in (0.3, -0.3)
    ]
    worn = Case(
        name=f"play of {_LEAST_PLAY_UM:g} to 6 um grown by 20 %",
        key="backlash_z_um",
        change=Change(play=1.2),
        fixed={},
    )
    swapped = [
        Case(
            name=f"NA {true_na:g} for {file_na:g}",
            key="focus_width_um",
            change=Change(na=true_na),
            fixed={"na": file_na},
        )
        for pair in NA_PAIRS
        for file_na, true_na in (pair, pair[::-1])
    ]
    return (*moved, worn, *swapped)


def rate_unchanged(instruments: int, repeats: int) -> dict[str, float]:
    """Return the share of verifications in which each value was out, and any was."""
    counts: dict[str, int] = {}
    for seed in range(instruments):
        profile = _calibrate(seed, {})
        for repeat in range(repeats):
            states = _verify(seed, profile, Change(), repeat, {})
            for key, state in states.items():
                counts[key] = counts.get(key, 0) + (state == "out")
            counts["any"] = counts.get("any", 0) + ("out" in states.values())
    return {key: count / (instruments * repeats) for key, count in counts.items()}


def rate_case(case: Case, instruments: int, repeats: int) -> float:
    """Return the share of verifications that find the change."""
    found = [
        _verify(seed, profile, case.change, repeat, case.fixed)[case.key] == "out"
        for seed, profile in _calibrated(case, instruments)
        for repeat in range(repeats)
    ]
    return sum(found) / len(found)


def _calibrated(
    case: Case, instruments: int
) -> Iterator[tuple[int, InstrumentProfile]]:
    seed, made = -1, 0
    while made < instruments:
        seed += 1
        if case.change.play != 1.0:
            _, drawn = draw_instrument(seed, **case.fixed)
            if drawn.backlash_um < _LEAST_PLAY_UM:
                continue
        made += 1
        yield seed, _calibrate(seed, case.fixed)


def _calibrate(seed: int, fixed: dict[str, Any]) -> InstrumentProfile:
    bench = _open(seed, None, fixed)
    entries = [entry for entry in STEPS if entry.name in _STEPS]
    with tempfile.TemporaryDirectory() as folder:
        return calibrate_into(bench, Path(folder), entries=entries).profile


def _verify(
    seed: int,
    profile: InstrumentProfile,
    change: Change,
    repeat: int,
    fixed: dict[str, Any],
) -> dict[str, str]:
    """Return the state of each value of one verification; other noise each time."""
    noisy = replace(change, noise_seed=10_000 + 100 * seed + repeat)
    found = measure_again(_open(seed, noisy, fixed), profile)
    checks = judge(profile, found.values, found.refused, {}, _NOW)
    return {check.control.key: check.state for check in checks}


def _open(seed: int, change: Change | None, fixed: dict[str, Any]) -> Bench:
    known = {"drift_um_per_hour": 0.0, **fixed}
    quick, _ = draw_instrument(seed, change=change, **known)
    return replace(quick.bench, region_um=_REGION_UM)


def main(arguments: list[str] | None = None) -> int:
    """Print the rates as Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--instruments", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    count = options.instruments * options.repeats
    print(f"| change | out, of {count} verifications |\n|---|---|")
    for key, rate in rate_unchanged(options.instruments, options.repeats).items():
        print(f"| none: `{key}` | {rate:.1%} |", flush=True)
    for case in list_cases():
        rate = rate_case(case, options.instruments, options.repeats)
        print(f"| {case.name}: `{case.key}` | {rate:.1%} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
