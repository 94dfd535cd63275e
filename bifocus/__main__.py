"""The command line. Every command shows an example with `bifocus COMMAND --help`.

Exit codes: 0 done, 1 the work failed, 2 bad usage, input or configuration.
"""

import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from bifocus import __version__
from bifocus.bench import PARTS, run_benchmarks
from bifocus.cli_calibration import calibration
from bifocus.cli_devices import devices
from bifocus.cli_export import exports
from bifocus.cli_firmware import firmware
from bifocus.cli_live import live_page
from bifocus.cli_networks import networks
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
from bifocus.config import EngineName
from bifocus.config_model import parse_model
from bifocus.demo import run_demo
from bifocus.edge.engine_choice import EngineWish, choose_fuser
from bifocus.edge.estimate import estimate_scan
from bifocus.edge.pairs_folder import (
    NamedPair,
    PairsDescription,
    fuse_files,
    fuse_folder,
)
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
ModelOption = Annotated[
    str, typer.Option("--model", help="Fusion model; auto is the best one present.")
]
ServerOption = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Model server of --engine server (gRPC)."),
]
EngineOption = Annotated[
    EngineName | None,
    typer.Option(
        "--engine", help="What runs a network; default: scan.engine, which is auto."
    ),
]
StrategyOption = Annotated[
    Literal["two-shot", "stack", "focus-map"],
    typer.Option("--strategy", help="How each tile is brought into focus."),
]


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
        f"{estimate.slide_mb:.0f} MB of slide",
    }
    print_facts(f"plan of {instrument}", shown)


@app.command(
    epilog="Example: `bifocus fuse A.png B.png -o C.png --na 0.5 --half-spacing-um 1`"
    "\n\nExample: `bifocus fuse --pairs DIR -o OUTDIR`"
)
def fuse(
    out: Annotated[Path, typer.Option("-o", "--out", help="Picture, or folder.")],
    shots: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[A B]", help="Pictures at F-dD and F+dD."),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(help="Folder of NAME_a.png, NAME_b.png and pairs.json."),
    ] = None,
    model: ModelOption = "auto",
    engine: Annotated[EngineName, typer.Option(help="What runs a network.")] = "auto",
    server: ServerOption = None,
    na: Annotated[float, typer.Option(help="Numerical aperture.")] = 0.75,
    pixel_um: Annotated[float, typer.Option(help="Pixel on the glass, um.")] = 0.25,
    half_spacing_um: Annotated[float, typer.Option(help="dD in um.")] = 0.75,
    wavelengths_um: Annotated[
        tuple[float, float, float], typer.Option(help="Of red, green and blue, um.")
    ] = (0.62, 0.53, 0.46),
    tone_curve: Annotated[
        Literal["auto", "linear", "srgb"],
        typer.Option(help="What the stored values mean; auto tries both."),
    ] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Fuse image pairs into in-focus images."""
    if (pairs is None) == (not shots):
        msg = "give two pictures A B, or --pairs DIR"
        raise ConfigError(msg)
    wish = EngineWish(engine=engine, server=server)
    if pairs is not None:
        with (
            closing(choose_fuser(model, wish)) as fuser,
            show_progress("pairs") as progress,
        ):
            report = fuse_folder(pairs, out, fuser, progress)
        summary = f"fused {len(report['pairs'])} pairs into {out}"
    else:
        if shots is None or len(shots) != 2:
            msg = f"expected two pictures A B, got {len(shots or ())}"
            raise ConfigError(msg)
        values = {
            "na": na,
            "pixel_um": pixel_um,
            "half_spacing_um": half_spacing_um,
            "wavelengths_um": wavelengths_um,
            "tone_curve": tone_curve,
        }
        description = parse_model(PairsDescription, values, source="options")
        err_console.print(
            f"optics: NA {na:g}, {pixel_um:g} um/px, dD {half_spacing_um:g} um",
            highlight=False,
        )
        pair = NamedPair(name=out.stem, minus=shots[0], plus=shots[1])
        with closing(choose_fuser(model, wish)) as fuser:
            report = fuse_files(pair, out, description, fuser)
        summary = (
            f"fused into {out}; best focus at F {report['offset_um']:+.2f} um, "
            f"quality {report['quality']:.2f}"
        )
    if as_json:
        print_json(report)
    else:
        out_console.print(summary, highlight=False, soft_wrap=True)


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
