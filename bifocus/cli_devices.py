"""The commands that look at the hardware: `doctor` from outside, `hal-check` inside."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bifocus.cli_options import InstrumentArgument, JsonOption
from bifocus.cli_output import (
    err_console,
    out_console,
    print_json,
    print_rows,
    show_progress,
)
from bifocus.errors import ConfigError

if TYPE_CHECKING:
    from bifocus.hal.conformance import ConformanceReport
    from bifocus.jobs import InstrumentFile

devices = typer.Typer()


@devices.command(epilog="Example: `bifocus doctor scanner.yaml --out /data/scans`")
def doctor(
    instrument: InstrumentArgument,
    out: Annotated[
        Path, typer.Option("--out", help="Folder that scans go to; it is written to.")
    ] = Path(),
    as_json: JsonOption = False,
) -> None:
    """Look at ports, cameras, engines, disk, clock; say what to do. Moves nothing."""
    from dataclasses import asdict

    from bifocus.doctor import examine
    from bifocus.jobs import InstrumentFile

    file = InstrumentFile.load(instrument)
    if not out.is_dir():
        msg = f"--out {out}: no such folder"
        raise ConfigError(msg)
    rows = examine(file.config, out, needed_mb=_scan_mb(file))
    failed = [row.name for row in rows if row.state == "fail"]
    if as_json:
        print_json({"ok": not failed, "rows": [asdict(row) for row in rows]})
    else:
        shown = sorted(rows, key=lambda row: row.topic)
        print_rows(
            f"{instrument}: {len(failed)} failed", [asdict(row) for row in shown]
        )
    if failed:
        raise typer.Exit(1)


@devices.command(
    "hal-check", epilog="Example: `bifocus hal-check scanner.yaml --report check.txt`"
)
def hal_check(
    instrument: InstrumentArgument,
    envelope: Annotated[
        tuple[float, float, float],
        typer.Option(
            metavar="X Y Z",
            help="How far the stage may go from its place, to both sides, um.",
        ),
    ] = (100.0, 100.0, 20.0),
    yes: Annotated[
        bool, typer.Option("--yes", help="Move a real stage without asking.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Write the report there, as text.")
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(help="Folder for recordings of the wire and the frames."),
    ] = None,
    stage_only: Annotated[
        bool, typer.Option("--stage-only", help="Leave the camera closed.")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="CHECK", help="Only this check; may be repeated."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Hold stage and camera against the rules that every driver keeps."""
    from bifocus.hal.conformance_bench import Bench
    from bifocus.hal.conformance_devices import Envelope
    from bifocus.hal.conformance_instrument import instrument_on_the_bench
    from bifocus.hal.conformance_run import choose_checks, run_checks
    from bifocus.hal.conformance_text import as_document, as_text, read_facts
    from bifocus.jobs import InstrumentFile
    from bifocus.whole_file import write_whole

    x_um, y_um, z_um = envelope
    room = Envelope(x_um=x_um, y_um=y_um, z_um=z_um)
    checks = choose_checks(only or [])
    file = InstrumentFile.load(instrument)
    if not file.config.stage.is_simulated and not yes:
        _ask_to_move(room.x_um, room.y_um, room.z_um)
    open_devices = instrument_on_the_bench(
        file.config,
        base_dir=instrument.parent,
        envelope=room,
        record=record,
        stage_only=stage_only,
    )
    with show_progress("checks") as progress, Bench(open_devices, envelope=room) as b:
        facts = read_facts(b, file.config)
        found = run_checks(b, checks, facts=facts, progress=progress)
    if as_json:
        print_json(as_document(found))
    else:
        _print_findings(f"{instrument}: {len(found.failed)} failed", found)
    if report is not None:
        write_whole(report, as_text(found))
        err_console.print(f"report: {report}", highlight=False, soft_wrap=True)
    if found.failed:
        raise typer.Exit(1)


def _print_findings(title: str, report: "ConformanceReport") -> None:
    rows = [
        {
            "": result.finding.outcome,
            "check": result.name,
            "measured": result.finding.measured,
            "expected": result.finding.expected or None,
            "next step": result.finding.next_step or None,
        }
        for result in report.results
    ]
    print_rows(title, rows)


def _ask_to_move(x_um: float, y_um: float, z_um: float) -> None:
    """Let a person agree before anything moves.

    Raises
    ------
    ConfigError
        If nobody is there to be asked.
    """
    if not sys.stdin.isatty():
        msg = "hal-check moves a real stage: nobody is there to be asked; give --yes"
        raise ConfigError(msg)
    out_console.print(
        f"The stage will go up to {x_um:g}, {y_um:g}, {z_um:g} um to both sides of its "
        "place in x, y and z, and below that for its take-up. Is there room?"
    )
    typer.confirm("Move it", abort=True)


def _scan_mb(file: "InstrumentFile") -> float | None:
    """Return what the file's own scan takes on the disk, if it names a region."""
    from bifocus.edge.estimate import estimate_scan

    region_um = file.config.scan.region_um
    if region_um is None:
        return None
    return estimate_scan(file.plan_dry(region_um), file.config, "two-shot").most_mb
