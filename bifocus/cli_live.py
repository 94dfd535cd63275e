"""The command that serves a scan's live page."""

import threading
from pathlib import Path
from typing import Annotated

import typer

from bifocus.cli_output import out_console, print_json, print_line
from bifocus.edge.live_page import LiveAddress, Onlookers, parse_address

live_page = typer.Typer()

ADDRESS_HELP = (
    "PORT or HOST:PORT of the page; 0 takes a free port. Other than on loopback, "
    "the token opens the page too; BIFOCUS_LIVE_TOKEN sets it."
)
LiveOption = Annotated[
    str | None, typer.Option("--live", metavar="[HOST:]PORT", help=ADDRESS_HELP)
]
MetricsOption = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        metavar="[HOST:]PORT",
        help="Where Prometheus reads the loop's counters; needs bifocus[metrics].",
    ),
]


def onlookers_of(live: str | None, metrics: str | None = None) -> Onlookers:
    """Return who may look on, from the options of a command; raises ConfigError."""
    return Onlookers(
        live=None if live is None else LiveAddress.parse(live),
        metrics=None if metrics is None else parse_address(metrics),
        say=print_line,
    )


@live_page.command("live", epilog="Example: `bifocus live demo-out/scan`")
def show(
    scan: Annotated[Path, typer.Argument(metavar="SCAN", help="Scan folder.")],
    address: Annotated[
        str, typer.Option("--address", metavar="[HOST:]PORT", help=ADDRESS_HELP)
    ] = "8765",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document with the address.")
    ] = False,
) -> None:
    """Show a scan in the browser, finished or still growing; Ctrl-C ends it."""
    from bifocus.live_job import serve_folder

    with serve_folder(scan, LiveAddress.parse(address)) as server:
        if as_json:
            print_json({"url": server.url})
        else:
            out_console.print(
                f"live page: {server.url}", highlight=False, soft_wrap=True
            )
        threading.Event().wait()
