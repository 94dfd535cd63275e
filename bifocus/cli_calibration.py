"""The commands that measure an instrument: `calibrate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bifocus.cli_output import err_console, out_console, print_json, print_rows
from bifocus.errors import ConfigError

if TYPE_CHECKING:
    from bifocus.calib.procedure import StepEvent
    from bifocus.jobs import CalibratedInstrument
    from bifocus.records import Measured

calibration = typer.Typer()

InstrumentArgument = Annotated[
    Path, typer.Argument(metavar="INSTRUMENT", help="Instrument file (YAML).")
]
RegionOption = Annotated[
    tuple[float, float, float, float] | None,
    typer.Option(
        "--region",
        metavar="X Y WIDTH HEIGHT",
        help="Region in stage um; default: the file's scan.region_um.",
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output.")
]


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
    region: RegionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the instrument step by step and write its profile; rerun to go on."""
    from bifocus.jobs import InstrumentFile, calibrate_instrument

    if only and fresh:
        msg = "--only renews steps of a finished calibration, --fresh forgets it"
        raise ConfigError(msg)
    file = InstrumentFile.load(instrument)
    made = calibrate_instrument(
        file,
        file.region_um(region),
        out,
        only=only or [],
        is_fresh=fresh,
        on_step=_print_step,
    )
    if as_json:
        print_json(_as_document(made))
    else:
        _print_values(made)


def _print_step(event: "StepEvent") -> None:
    texts = {
        "begins": f"{event.entry.what} ...",
        "kept": "measured before the interruption",
        "done": _in_short(event),
        "skipped": f"left out: {event.text}",
    }
    line = f"[{event.number}/{event.total}] {event.entry.name}: {texts[event.state]}"
    err_console.print(line, markup=False, highlight=False, soft_wrap=True)


def _in_short(event: "StepEvent") -> str:
    values = event.result.values if event.result else {}
    return ", ".join(f"{key} {value.text}" for key, value in values.items()) or "done"


def _as_document(made: "CalibratedInstrument") -> dict[str, Any]:
    """Return what `--json` prints: every value also at the top, under its key."""
    from bifocus.calib.step_files import measured_document

    profile = made.profile
    values = {key: measured_document(m) for key, m in profile.values.items()}
    return {
        **values,
        "profile": str(made.path),
        "simulated": profile.simulated,
        "values": values,
        "skipped": profile.skipped,
        "warnings": list(profile.warnings),
    }


def _print_values(made: "CalibratedInstrument") -> None:
    profile = made.profile
    rows = [_row(key, measured) for key, measured in profile.values.items()]
    title = f"{made.path}{' (SIMULATED instrument)' if profile.simulated else ''}"
    print_rows(title, rows)
    for name, reason in profile.skipped.items():
        out_console.print(f"left out: {name}: {reason}", markup=False, highlight=False)
    for warning in profile.warnings:
        out_console.print(f"warning: {warning}", markup=False, highlight=False)


def _row(key: str, measured: "Measured") -> dict[str, Any]:
    return {
        "value": key,
        "measured": measured.text,
        "how it was got": measured.method,
    }
