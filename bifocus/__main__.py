"""The command line. Every command shows an example with `bifocus COMMAND --help`.

Exit codes: 0 done, 1 the work failed, 2 bad usage, input or configuration.
"""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from bifocus import __version__
from bifocus.bench import PARTS, run_benchmarks
from bifocus.cli_calibration import calibration
from bifocus.cli_devices import devices
from bifocus.cli_export import exports
from bifocus.cli_firmware import firmware
from bifocus.cli_fuse import fusion
from bifocus.cli_live import live_page
from bifocus.cli_networks import networks
from bifocus.cli_options import (
    InstrumentArgument,
    JsonOption,
    ModelOption,
    RegionOption,
    StrategyOption,
)
from bifocus.cli_output import (
    err_console,
    out_console,
    print_comparison,
    print_error,
    print_facts,
    print_json,
    print_line,
    print_rows,
    print_scan,
    set_up_logging,
    show_progress,
)
from bifocus.cli_scan import scans
from bifocus.cli_slides import slides
from bifocus.demo import run_demo
from bifocus.edge.estimate import estimate_scan
from bifocus.errors import BifocusError, ConfigError
from bifocus.instrument_text import CameraKind, StageKind, instrument_text
from bifocus.jobs import InstrumentFile
from bifocus.live_options import LiveOption, onlookers_of
from bifocus.report_page import format_duration
from bifocus.whole_file import write_whole


class _Commands(TyperGroup):
    """The commands; Ctrl-C ends each with one line and exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        # Typer would leave with code 130 and say nothing.
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            text = "stopped; what was written so far is kept"
            err_console.print(text, style="yellow")
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Two-shot virtual autofocus for slide scanners.",
)
app.add_typer(scans)
app.add_typer(networks)
app.add_typer(exports)
app.add_typer(slides)
app.add_typer(firmware)
app.add_typer(devices)
app.add_typer(calibration)
app.add_typer(live_page)
app.add_typer(fusion)


def main() -> None:
    """Run the command line; deliberate errors become one message and an exit code."""
    try:
        app()
    except BifocusError as error:
        print_error(str(error))
        sys.exit(error.exit_code)
    except OSError as error:
        print_error(f"{error.filename or 'output'}: {error.strerror or error}")
        sys.exit(1)


def _print_version(wanted: bool) -> None:
    if wanted:
        out_console.print(f"bifocus {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def options(
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log every tile to standard error.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version and leave.",
            callback=_print_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Set up logging."""
    set_up_logging(verbose=verbose)


@app.command(epilog="Example: `bifocus demo -o demo-out --tiles 9`")
def demo(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write.")] = Path(
        "demo-out"
    ),
    tiles: Annotated[
        int | None, typer.Option(min=1, help="About how many tiles; default: all.")
    ] = None,
    live: LiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Do the whole job on the virtual instrument with real tissue."""
    with show_progress("tiles") as progress:
        result = run_demo(
            out,
            n_tiles=tiles,
            say=print_line,
            progress=progress,
            onlookers=onlookers_of(live),
        )
    if as_json:
        print_json(result.report)
        return
    print_scan(result.report)
    print_comparison(result.comparison)
    folder = result.scan.folder
    for name, path in (
        ("slide", folder.slide),
        ("report", folder.root / "report.html"),
        ("picture", result.picture),
    ):
        out_console.print(f"{name}: {path}", highlight=False, soft_wrap=True)


@app.command(epilog="Example: `bifocus init scanner.yaml --stage grbl --camera opencv`")
def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File to write.")],
    stage: Annotated[StageKind, typer.Option(help="Kind of stage.")] = "virtual",
    camera: Annotated[CameraKind, typer.Option(help="Kind of camera.")] = "virtual",
) -> None:
    """Write a commented instrument file to start from."""
    text = instrument_text(stage, camera)
    if file.exists():
        msg = f"{file}: exists already; choose another name"
        raise ConfigError(msg)
    write_whole(file, text)
    following = f"next: bifocus plan {file}"
    if camera != "virtual":
        following = f"replace what FILL IN marks; next: bifocus doctor {file}"
    out_console.print(
        f"wrote {file}; {following}", markup=False, highlight=False, soft_wrap=True
    )


@app.command(epilog="Example: `bifocus plan examples/openflexure.yaml`")
def plan(
    instrument: InstrumentArgument,
    region: RegionOption = None,
    strategy: StrategyOption = "two-shot",
    as_json: JsonOption = False,
) -> None:
    """Show the tiles, time and disk of a scan without moving anything."""
    file = InstrumentFile.load(instrument)
    region_um = file.region_um(region)
    tiles = file.plan_dry(region_um)
    estimate = estimate_scan(tiles, file.config, strategy)
    facts: dict[str, Any] = {
        "tiles": len(tiles.visits),
        "rows": tiles.rows,
        "columns": tiles.columns,
        "step_um": list(tiles.step_um),
        "overlap_px": list(tiles.overlap_px),
        "strategy": strategy,
        **asdict(estimate),
    }
    if as_json:
        print_json(facts)
        return
    shown = {
        "tiles": f"{len(tiles.visits)} ({tiles.rows} rows, {tiles.columns} columns)",
        "step": "{:.1f} um across, {:.1f} um down".format(*tiles.step_um),
        "overlap": "{:.0f} px across, {:.0f} px down".format(*tiles.overlap_px),
        "strategy": f"{strategy}, {estimate.shots} shots",
        "time": f"{format_duration(estimate.seconds)}, "
        f"{format_duration(estimate.seconds_per_tile)} a tile",
        "disk": f"about {estimate.raw_mb:.0f} MB of shots, "
        f"{estimate.slide_mb:.0f} MB of slide; {estimate.fused_mb:.0f} MB more until "
        "it is finished",
    }
    print_facts(f"plan of {instrument}", shown)


@app.command(epilog="Example: `bifocus bench fuse --model weights/base.onnx --json`")
def bench(
    parts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PART]...", help=f"Any of {', '.join(PARTS)}."),
    ] = None,
    model: ModelOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Measure speed and memory of the parts on this machine."""
    rows = [asdict(row) for row in run_benchmarks(parts or [], model)]
    if as_json:
        print_json({"rows": rows})
    else:
        print_rows("benchmarks", rows)


if __name__ == "__main__":
    main()
