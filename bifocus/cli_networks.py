"""The commands that train, judge and export networks; each loads torch when it runs.

They need the extra `train`: `pip install bifocus[train]`. The other commands never
import anything from here at run time.
"""

import json
import logging
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from bifocus.cli_options import JsonOption
from bifocus.cli_output import out_console, print_json
from bifocus.errors import EngineError

networks = typer.Typer()

ModelsOption = Annotated[
    list[Path] | None,
    typer.Option("--model", help="Checkpoint (.safetensors); may be repeated."),
]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="Folder of data; default: simulated.")
]
FormatOption = Annotated[
    Literal["images", "zstack", "jiang"],
    typer.Option("--format", help="What the folder holds."),
]
OutOption = Annotated[
    Path | None,
    typer.Option("-o", "--out", help="Folder for JSON, CSV and HTML."),
]
QuickOption = Annotated[
    bool, typer.Option("--quick", help="A small frozen set, within 5 CPU-minutes.")
]


@networks.command(epilog="Example: `bifocus train examples/training/base.yaml -o runs`")
def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="Training file.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the run.")],
) -> None:
    """Train a network, or go on where a run was interrupted."""
    _need_torch()
    from bifocus.model.train import run_training
    from bifocus.model.train_config import load_train_config

    logging.getLogger("bifocus.model").setLevel(logging.INFO)
    result = run_training(load_train_config(config), out)
    out_console.print(
        f"best {result.best_db:+.2f} dB at step {result.best_step}: {result.best_path}",
        highlight=False,
        soft_wrap=True,
    )


@networks.command(epilog="Example: `bifocus evaluate --quick -o results`")
def evaluate(
    models: ModelsOption = None,
    data: DataOption = None,
    data_format: FormatOption = "images",
    out: OutOption = None,
    quick: QuickOption = False,
    baselines: Annotated[
        bool, typer.Option(help="Run the classical baselines too.")
    ] = True,
    grid: Annotated[
        bool, typer.Option(help="Add the grid over offset and half-spacing.")
    ] = False,
    strict: Annotated[bool, typer.Option(help="An unusable file is an error.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Judge physics, baselines and networks on pairs with a known truth."""
    from bifocus.model.evaluation_run import (
        EvaluationRequest,
        run_evaluate,
        text_report,
    )

    request = EvaluationRequest(
        models=_load_models(models or []),
        data=data,
        data_format=data_format,
        is_quick=quick,
        has_baselines=baselines,
        has_grid=grid,
        is_strict=strict,
    )
    document = run_evaluate(request, out)
    _print_document(document, text_report(document), as_json)


@networks.command(epilog="Example: `bifocus compare --quick --model a.safetensors`")
def compare(
    models: ModelsOption = None,
    data: DataOption = None,
    data_format: FormatOption = "images",
    out: OutOption = None,
    quick: QuickOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show quality beside cost: parameters, multiply-adds, seconds, memory."""
    from bifocus.model.evaluation_run import EvaluationRequest, run_compare, text_report

    request = EvaluationRequest(
        models=_load_models(models or []),
        data=data,
        data_format=data_format,
        is_quick=quick,
    )
    document = run_compare(request, out)
    _print_document(document, text_report(document), as_json)


def _load_models(paths: list[Path]) -> dict[str, Any]:
    """Return the networks by name; by file name where two share one."""
    if not paths:
        return {}
    _need_torch()
    from bifocus.model.network_method import load_network_method

    loaded = [(path, load_network_method(path)) for path in paths]
    names = [method.name for _, method in loaded]
    return {
        path.stem if names.count(method.name) > 1 else method.name: method
        for path, method in loaded
    }


def _print_document(document: dict[str, Any], text: str, as_json: bool) -> None:
    if as_json:
        print_json(json.loads(json.dumps(document, default=str)))
    else:
        out_console.print(text, highlight=False, soft_wrap=True, markup=False)


def _need_torch() -> None:
    try:
        import torch  # noqa: F401
    except ImportError as error:
        msg = "networks need torch: pip install 'bifocus[train]'"
        raise EngineError(msg) from error
