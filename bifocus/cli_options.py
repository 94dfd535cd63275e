"""Arguments and options that several commands share, each worded once."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from bifocus.config import EngineName

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
StrategyOption = Annotated[
    Literal["two-shot", "stack", "focus-map"],
    typer.Option("--strategy", help="How each tile is brought into focus."),
]
ModelOption = Annotated[
    str, typer.Option("--model", help="Fusion model; auto is the best one present.")
]
EngineOption = Annotated[
    EngineName | None,
    typer.Option(
        "--engine", help="What runs a network; default: scan.engine, which is auto."
    ),
]
LogOption = Annotated[
    Path | None, typer.Option("--log-json", help="File for the log as JSON lines.")
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output.")
]
