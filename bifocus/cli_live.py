"""The command that serves a scan's live page."""

import threading
from pathlib import Path
from typing import Annotated

import typer

from bifocus.cli_output import out_console, print_json
from bifocus.edge.live_page import LiveAddress
from bifocus.live_options import ADDRESS_HELP

live_page = typer.Typer()


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
