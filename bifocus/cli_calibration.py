"""The commands that measure an instrument: `calibrate`, and `verify` day by day."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from bifocus.cli_options import InstrumentArgument, JsonOption, RegionOption
from bifocus.cli_output import err_console, out_console, print_json, print_rows
from bifocus.cli_signals import sigterm_interrupts
from bifocus.errors import ConfigError
from bifocus.report_page import format_duration

if TYPE_CHECKING:
    from bifocus.calib.procedure import OnStep, StepEvent
    from bifocus.calib.verify import Verification
    from bifocus.calib.verify_judge import Check
    from bifocus.config import Instrument
    from bifocus.jobs import CalibratedInstrument

calibration = typer.Typer()


@calibration.command(epilog="Example: `bifocus calibrate scanner.yaml -o calibration`")
def calibrate(
    instrument: InstrumentArgument,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder of profile.yaml and steps/.")
    ] = Path("calibration"),
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="STEP", help="Renew only this step; may be repeated."),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start anew, also after an interruption.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show steps and time; move nothing.")
    ] = False,
    region: RegionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the instrument step by step and write its profile; rerun to go on."""
    from bifocus.jobs import InstrumentFile, calibrate_instrument

    if only and fresh:
        msg = "--only renews steps of a finished calibration, --fresh forgets it"
        raise ConfigError(msg)
    file = InstrumentFile.load(instrument)
    region_um = file.region_um(region)
    if dry_run:
        file.plan_dry(region_um)
        _print_plan(file.config, only or [], as_json=as_json)
        return
    with sigterm_interrupts(), _show_steps() as on_step:
        made = calibrate_instrument(
            file,
            region_um,
            out,
            only=only or [],
            is_fresh=fresh,
            on_step=on_step,
        )
    if as_json:
        print_json(_as_document(made))
    else:
        _print_values(made)


@calibration.command(
    epilog="Example: `bifocus verify scanner.yaml --profile calibration/profile.yaml`"
)
def verify(
    instrument: InstrumentArgument,
    profile: Annotated[Path, typer.Option(help="profile.yaml of this instrument.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", help="Folder of verify.jsonl, verify.html; the profile's."
        ),
    ] = None,
    region: RegionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the essentials again in a minute; say what to recalibrate, and when."""
    from bifocus.calib.profile_file import read_profile
    from bifocus.jobs import InstrumentFile, verify_instrument

    file = InstrumentFile.load(instrument)
    region_um = file.region_um(region)
    known = read_profile(profile)
    with sigterm_interrupts():
        found = verify_instrument(file, known, region_um, out or profile.parent)
    if as_json:
        print_json(_verdict_document(found))
    else:
        _print_verdict(found)
    if found.verdict == "out":
        raise typer.Exit(1)


@contextmanager
def _show_steps() -> Iterator["OnStep"]:
    """Yield what prints each step: a line when it ends, a bar on a terminal."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    terminal = err_console.is_terminal
    with Progress(*columns, console=err_console, disable=not terminal) as bar:
        task = bar.add_task("calibration", total=None)

        def show(event: "StepEvent") -> None:
            ended = event.number - (event.state == "begins")
            text = f"{event.entry.name}: {event.entry.what}"
            bar.update(task, description=text, completed=ended, total=event.total)
            if event.state != "begins" or not terminal:
                _print_step(event)

        yield show


def _print_step(event: "StepEvent") -> None:
    texts = {
        "begins": f"{event.entry.what} ...",
        "kept": "measured before",
        "done": _in_short(event),
        "skipped": f"left out: {event.text}",
    }
    line = f"[{event.number}/{event.total}] {event.entry.name}: {texts[event.state]}"
    err_console.print(
        line, markup=False, highlight=False, soft_wrap=not err_console.is_terminal
    )


def _in_short(event: "StepEvent") -> str:
    values = event.result.values if event.result else {}
    return ", ".join(f"{key} {value.text}" for key, value in values.items()) or "done"


def _print_plan(config: "Instrument", only: list[str], *, as_json: bool) -> None:
    """Print what a calibration would do; no device is opened."""
    from bifocus.calib.dry_run import estimate_steps

    estimates = estimate_steps(config, only)
    seconds = sum(estimate.seconds for estimate in estimates)
    rows = [asdict(estimate) for estimate in estimates]
    if as_json:
        print_json({"steps": rows, "seconds": seconds})
        return
    shown = [{**row, "seconds": format_duration(row["seconds"])} for row in rows]
    print_rows(f"about {format_duration(seconds)} of the instrument's time", shown)


def _as_document(made: "CalibratedInstrument") -> dict[str, Any]:
    """Return what `--json` prints: every value also at the top, under its key."""
    from bifocus.calib.step_files import measured_document

    profile = made.profile
    values = {key: measured_document(m) for key, m in profile.values.items()}
    truth = {} if made.truth is None else {"truth": made.truth}
    return {
        **values,
        "profile": str(made.path),
        "report": str(made.report) if made.report else None,
        "simulated": profile.simulated,
        "values": values,
        "skipped": profile.skipped,
        "warnings": list(profile.warnings),
        **truth,
    }


def _print_values(made: "CalibratedInstrument") -> None:
    profile = made.profile
    truth = made.truth or {}
    rows = [
        {
            "value": key,
            "measured": measured.text,
            "truth": truth.get(key),
            "how it was got": measured.method,
        }
        for key, measured in profile.values.items()
    ]
    title = f"{made.path}{' (SIMULATED instrument)' if profile.simulated else ''}"
    print_rows(title, rows)
    notes = [f"left out: {name}: {why}" for name, why in profile.skipped.items()]
    notes += [f"warning: {text}" for text in profile.warnings]
    notes += [f"report: {made.report}"] if made.report else []
    for note in notes:
        out_console.print(note, markup=False, highlight=False, soft_wrap=True)


def _verdict_document(found: "Verification") -> dict[str, Any]:
    return {
        "verdict": found.verdict,
        "recalibrate": list(found.steps),
        "seconds": found.seconds,
        "page": str(found.page),
        "history": str(found.history),
        "values": {check.control.key: _check_document(check) for check in found.checks},
    }


def _check_document(check: "Check") -> dict[str, Any]:
    from bifocus.calib.step_files import measured_document

    today = check.measured
    measured = measured_document(today) if today else {"value": None, "u": None}
    return {
        **measured,
        "profile": measured_document(check.expected),
        "limit": check.limit,
        "state": check.state,
        "reason": check.reason,
        "step": check.control.step,
        "runs": len(check.points),
        "drifts_out_utc": check.drifts_out.isoformat() if check.drifts_out else None,
    }


def _print_verdict(found: "Verification") -> None:
    verdicts = {
        "pass": "pass: the instrument agrees with its profile",
        "watch": "watch: within its limits, but leaning to one side; verify again",
        "out": f"out: recalibrate {', '.join(found.steps)}",
    }
    rows = [
        {
            "value": check.control.key,
            "profile": check.expected.value,
            "today": check.measured.value if check.measured else None,
            "u": check.measured.standard_uncertainty if check.measured else None,
            "limit": check.limit,
            "state": check.state,
            "drifts out": f"{check.drifts_out:%Y-%m-%d}" if check.drifts_out else None,
        }
        for check in found.checks
    ]
    took = format_duration(found.seconds)
    print_rows(f"{verdicts[found.verdict]} ({took} of the instrument's time)", rows)
    notes = [f"{c.control.key}: {c.reason}" for c in found.checks if c.reason]
    for note in (*notes, f"charts: {found.page}"):
        out_console.print(note, markup=False, highlight=False, soft_wrap=True)
