"""The options of every command that lets somebody look on at a scan."""

from typing import Annotated

import typer

from bifocus.cli_output import print_line
from bifocus.edge.live_page import LiveAddress, Onlookers, parse_address

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
