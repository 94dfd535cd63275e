"""The commands around a scan: `scan`, `resume` where one broke off, `reprocess`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bifocus.cli_options import (
    EngineOption,
    InstrumentArgument,
    JsonOption,
    LogOption,
    ModelOption,
    RegionOption,
    StrategyOption,
)
from bifocus.cli_output import (
    err_console,
    out_console,
    print_json,
    print_scan,
    show_progress,
)
from bifocus.cli_signals import sigterm_interrupts
from bifocus.errors import BifocusError, BlankSlideError
from bifocus.json_log import json_log
from bifocus.live_options import LiveOption, MetricsOption, onlookers_of

if TYPE_CHECKING:
    from bifocus.edge.scan_result import ScanResult

scans = typer.Typer()


@scans.command(epilog="Example: `bifocus scan scanner.yaml -o scan1 --profile p.yaml`")
def scan(
    instrument: InstrumentArgument,
    out: Annotated[Path, typer.Option("-o", "--out", help="Scan folder to make.")],
    region: RegionOption = None,
    strategy: StrategyOption = "two-shot",
    profile: Annotated[
        Path | None,
        typer.Option(help="profile.yaml; without it, calibration runs first."),
    ] = None,
    model: ModelOption = "auto",
    engine: EngineOption = None,
    record: Annotated[
        Path | None,
        typer.Option(help="Folder for a recording of the wire and the frames."),
    ] = None,
    live: LiveOption = None,
    metrics: MetricsOption = None,
    log_json: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Scan a region into a pyramidal slide with its report."""
    from bifocus.jobs import InstrumentFile, scan_instrument

    file = InstrumentFile.load(instrument)
    with json_log(log_json), _can_go_on(out), show_progress("tiles") as progress:
        result = scan_instrument(
            file,
            out,
            region_um=file.region_um(region),
            strategy=strategy,
            model=model,
            engine=engine,
            profile=profile,
            record=record,
            onlookers=onlookers_of(live, metrics),
            progress=progress,
        )
    _report(result, as_json=as_json)


@scans.command(epilog="Example: `bifocus resume scan1`")
def resume(
    scan_folder: Annotated[Path, typer.Argument(metavar="SCAN", help="Scan folder.")],
    engine: EngineOption = None,
    live: LiveOption = None,
    metrics: MetricsOption = None,
    log_json: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with a scan that broke off; nothing that was captured is shot again."""
    from bifocus.scan_jobs import resume_scan

    with (
        json_log(log_json),
        _can_go_on(scan_folder),
        show_progress("tiles") as progress,
    ):
        result = resume_scan(
            scan_folder,
            engine=engine,
            onlookers=onlookers_of(live, metrics),
            progress=progress,
        )
    if result is not None:
        _report(result, as_json=as_json)
    elif as_json:
        print_json({"finished_before": True})
    else:
        text = f"{scan_folder}: this scan is finished; there is nothing to go on with"
        out_console.print(text, markup=False, highlight=False, soft_wrap=True)


@scans.command(epilog="Example: `bifocus reprocess scan1 scan2 --model fast.onnx`")
def reprocess(
    scan_folders: Annotated[
        list[Path], typer.Argument(metavar="SCAN...", help="Scan folders.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder; default: beside each scan."),
    ] = None,
    model: ModelOption = "auto",
    engine: EngineOption = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes of this machine that fuse.")
    ] = 1,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Dask scheduler whose workers fuse, such as tcp://box:8786.",
        ),
    ] = None,
    log_json: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fuse and stitch the captures of scans anew; the scans are not changed."""
    from bifocus.edge.scan_report import write_reports
    from bifocus.scan_jobs import Helpers, reprocess_scans

    with json_log(log_json), show_progress("tiles") as progress:
        results = reprocess_scans(
            scan_folders,
            out,
            model=model,
            engine=engine,
            helpers=Helpers(workers=workers, cluster=cluster),
            progress=progress,
        )
    reports = {str(one.folder.root): write_reports(one) for one in results}
    if as_json:
        print_json({"scans": reports})
        return
    for one in results:
        text = f"slide: {one.folder.slide}"
        out_console.print(text, highlight=False, soft_wrap=True)


def _report(result: "ScanResult", *, as_json: bool) -> None:
    from bifocus.edge.scan_report import write_reports

    report = write_reports(result)
    if as_json:
        print_json(report)
        return
    print_scan(report)
    out_console.print(f"slide: {result.folder.slide}", highlight=False, soft_wrap=True)


@contextmanager
def _can_go_on(folder: Path) -> Iterator[None]:
    """Let SIGTERM end a scan as Ctrl-C does, and say how to go on with it."""
    with sigterm_interrupts():
        try:
            yield
        except BlankSlideError:
            raise
        except (BifocusError, KeyboardInterrupt):
            if _is_open(folder):
                text = f"what was captured is kept; go on: bifocus resume {folder}"
                err_console.print(text, markup=False, highlight=False, soft_wrap=True)
            raise


def _is_open(folder: Path) -> bool:
    """Whether a scan has begun there and still has its working files."""
    return (folder / "scan.sqlite").exists() and (folder / "fused").is_dir()
