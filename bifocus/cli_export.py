"""`bifocus export`: a checkpoint becomes files for a runtime, and shows that they fit.

It needs the extra `train`; OpenVINO's format needs `openvino` as well. Torch is loaded
when the command runs, never before.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from bifocus.cli_output import (
    err_console,
    out_console,
    print_json,
    print_rows,
    show_progress,
)
from bifocus.engine_manifest import (
    EngineManifest,
    ParityReport,
    load_manifest,
    manifest_path,
)
from bifocus.errors import ConfigError, EngineError

if TYPE_CHECKING:
    from bifocus.export.export_files import Exported, GraphKind
    from bifocus.export.parity import Pictures

exports = typer.Typer()

Precision = Literal["fp32", "fp16", "int8"]
Target = Literal["onnx", "openvino", "tensorrt", "triton"]
Runtime = Literal["onnxruntime", "openvino", "tensorrt"]


@exports.command(
    epilog="Example: `bifocus export weights/base.safetensors -o engines --to openvino "
    "--precision int8`"
)
def export(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL",
            help="Checkpoint (.safetensors); for tensorrt also an exported .onnx.",
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the files.")],
    to: Annotated[Target, typer.Option("--to", help="Format.")] = "onnx",
    precision: Annotated[
        Precision, typer.Option(help="What the network computes in.")
    ] = "fp32",
    tile: Annotated[
        tuple[int, int] | None,
        typer.Option(metavar="H W", help="Rows and columns; default: any size."),
    ] = None,
    dynamic: Annotated[
        bool, typer.Option("--dynamic", help="Any size: the default without --tile.")
    ] = False,
    calibration: Annotated[
        Path | None,
        typer.Option(help="Folder of pairs for int8; default: training tissue."),
    ] = None,
    runtime: Annotated[
        Runtime | None,
        typer.Option(help="Who is to run an int8 graph; default: the format's own."),
    ] = None,
    whole: Annotated[
        bool,
        typer.Option(
            "--whole",
            help="With the physics inside: two shots of the size --tile go in.",
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document.")
    ] = False,
) -> None:
    """Export a network, and compare it with PyTorch before it is written."""
    if tile is not None and dynamic:
        msg = "--tile and --dynamic exclude each other"
        raise ConfigError(msg)
    if calibration is not None and precision != "int8":
        msg = f"--calibration is for --precision int8, not {precision}"
        raise ConfigError(msg)
    if runtime is not None and (precision != "int8" or to != "onnx"):
        msg = "--runtime is for --to onnx --precision int8: each fuses another form"
        raise ConfigError(msg)
    if whole and tile is None:
        raise ConfigError("--whole needs --tile H W, the size of the shots")
    graph = _Wish(precision, tile, runtime, calibration, whole)
    if to == "tensorrt":
        _export_engine(model, out, graph, as_json)
    else:
        done = _export_graph(model, out, to, graph)
        _show(done.path, done.manifest, done.calibration, as_json)


class _Wish(NamedTuple):
    """What kind of graph is wanted; fields as the options of `export`."""

    precision: Precision
    tile: tuple[int, int] | None
    runtime: Runtime | None
    calibration: Path | None
    whole: bool


def _export_engine(model: Path, out: Path, wish: _Wish, as_json: bool) -> None:
    """Build an engine of a graph; of a checkpoint, make the graph first."""
    from bifocus.engine_job import prepare_engine

    if wish.tile is None:
        msg = "an engine takes one size of tile: say --tile H W"
        raise ConfigError(msg)
    if model.suffix != ".onnx":
        # Physics inside takes one size; a network alone is given it by the build.
        free = wish._replace(tile=wish.tile if wish.whole else None, runtime="tensorrt")
        done = _export_graph(model, out, "onnx", free)
        model = out / done.manifest.main_file
    found = load_manifest(model)
    if found.precision != wish.precision:
        msg = (
            f"{model} is {found.precision}: say --precision {found.precision}, or "
            "export it anew"
        )
        raise ConfigError(msg)
    if wish.whole and found.physics != "inside":
        msg = f"{model}: --whole puts physics before a checkpoint (.safetensors)"
        raise ConfigError(msg)
    with show_progress("steps of the build") as report:
        made = prepare_engine(
            model, out, size_px=wish.tile, on_progress=_outermost(report)
        )
    err_console.print(made.reason, highlight=False, soft_wrap=True, markup=False)
    _show(manifest_path(made.path), made.manifest, None, as_json)


def _export_graph(model: Path, out: Path, kind: "GraphKind", wish: _Wish) -> "Exported":
    _need_exporter()
    from bifocus.export.export_files import ExportRequest
    from bifocus.export.export_model import export_model
    from bifocus.whole_job import export_whole

    given = wish.calibration
    request = ExportRequest(
        source=model,
        folder=out,
        kind=kind,
        precision=wish.precision,
        size_px=wish.tile,
        runtime=wish.runtime,
        calibration=None if given is None else _read_calibration(given, model),
        is_whole=wish.whole,
    )
    return export_whole(request) if wish.whole else export_model(request)


def _outermost(report: Callable[[int, int], None]) -> Callable[[str, int, int], None]:
    """Return what tells the steps of the build itself, and not those within a step."""
    phases: list[str] = []

    def step(phase: str, done: int, total: int) -> None:
        phases.append(phase)
        if phase == phases[0]:
            report(done, total)

    return step


def _read_calibration(folder: Path, model: Path) -> "list[Pictures]":
    """Return the pictures that an engine would get of a folder's pairs."""
    from bifocus.edge.network_inputs import pair_pictures
    from bifocus.edge.pairs_folder import (
        choose_tone_curve,
        find_pairs,
        read_description,
    )
    from bifocus.export.calibration import pictures_from
    from bifocus.export.pixel_network import picture_inputs
    from bifocus.model.checkpoint import load_checkpoint
    from bifocus.physics_fusion import fuse_measured, measure_pair

    description = read_description(folder / "pairs.json")
    pairs = find_pairs(folder)
    tone_curve = choose_tone_curve(description.tone_curve, pairs)
    optics = description.optics()
    inputs = picture_inputs(load_checkpoint(model).network)

    def pictures() -> Any:
        for pair in pairs:
            measured = measure_pair(*pair.read(), optics, tone_curve=tone_curve)
            physics = fuse_measured(measured, colours="together")
            yield pair_pictures(measured, physics, inputs)

    return pictures_from(pictures(), inputs)


def _show(
    path: Path, manifest: EngineManifest, calibration: str | None, as_json: bool
) -> None:
    files = [str(path.parent / name) for name in manifest.files]
    if as_json:
        print_json(
            {
                "files": files,
                "manifest": str(path),
                "parity": _worst(manifest),
                "reports": [report.model_dump() for report in manifest.parity],
                "audit": manifest.audit,
                "verified": manifest.verified,
                "calibration": calibration,
                "never_run_on": list(manifest.never_run_on),
            }
        )
        return
    if manifest.parity:
        print_rows("parity", [_row(report) for report in manifest.parity])
    lines = [
        f"audit: {', '.join(f'{n} {kind}' for kind, n in manifest.audit.items())}",
        *([f"calibrated with {calibration}"] if calibration else []),
        *(f"never run on {what}" for what in manifest.never_run_on),
        f"{'verified' if manifest.verified else 'UNVERIFIED'}: {files[0]}",
    ]
    for line in lines:
        out_console.print(line, highlight=False, soft_wrap=True, markup=False)


def _worst(manifest: EngineManifest) -> dict[str, float] | None:
    if not manifest.parity:
        return None
    worst = min(manifest.parity, key=lambda report: report.psnr_db)
    found = {
        "psnr_db": worst.psnr_db,
        "differing": worst.differing,
        "max": worst.max,
    }
    if worst.offset_um is not None:
        found["offset_um"] = worst.offset_um
    return found


def _row(report: ParityReport) -> dict[str, Any]:
    offset_um, at_most_um = report.offset_um, report.tolerance.offset_um
    has_offset = offset_um is not None
    return {
        "engine": report.subject,
        "pictures": report.pictures,
        "dB": report.psnr_db,
        "differing": f"{100 * report.differing:.3g} %",
        "largest": report.max,
        **({"offset um": f"{offset_um:.5f}"} if has_offset else {}),
        "allowed": (
            f">= {report.tolerance.psnr_db:g} dB, "
            f"<= {100 * report.tolerance.differing:g} %, {report.tolerance.max:g}"
            + (f", {at_most_um:g} um" if has_offset else "")
        ),
        "passed": "yes" if report.passed else "NO",
    }


def _need_exporter() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        msg = f"export needs {error.name}: pip install 'bifocus[train]'"
        raise EngineError(msg) from error
