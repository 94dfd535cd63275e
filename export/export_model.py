"""From a checkpoint to files that an engine can trust: trace, check, write, in order.

Nothing is written before the graph has passed the gate against PyTorch, and the
manifest comes last: a folder without one that fits holds nothing that a loader takes.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from bifocus import __version__
from bifocus.engine_manifest import (
    SUFFIX,
    EngineManifest,
    ParityReport,
    Precision,
    TensorSpec,
    manifest_path,
    write_manifest,
)
from bifocus.errors import ConfigError, EngineError
from bifocus.export.export_graph import GraphRequest, MadeGraph, make_graph
from bifocus.export.onnx_probe import count_not_finite
from bifocus.export.openvino_ir import convert_to_ir
from bifocus.export.parity import (
    TOLERANCES,
    Engine,
    Pictures,
    PictureSet,
    check_halo,
    measure_parity,
    require_parity,
)
from bifocus.export.parity_pictures import make_test_pair, pack_test_pair
from bifocus.export.pixel_graph import DEFAULT_OPSET, OUTPUT_NAME
from bifocus.export.quantise import Runtime
from bifocus.export.runtimes import (
    ONNXRUNTIME_NAME,
    TORCH_NAME,
    has_openvino,
    onnx_engine,
    openvino_engine,
    openvino_name,
    torch_engine,
)
from bifocus.export.trained_ranges import read_ranges
from bifocus.export.triton_repository import MODEL_FILE, make_config, next_version
from bifocus.model.checkpoint import LoadedNetwork, load_checkpoint
from bifocus.model.receptive import halo_px
from bifocus.whole_file import write_whole

logger = logging.getLogger(__name__)

GraphKind = Literal["onnx", "openvino", "triton"]
# What a device has yet to show, whatever was shown here.
_GPU, _SERVER = "any GPU", "a Triton server"
_RUNTIMES: dict[GraphKind, Runtime] = {
    "onnx": "onnxruntime",
    "triton": "onnxruntime",
    "openvino": "openvino",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """What to export, and to where.

    Attributes
    ----------
    source
        Checkpoint (.safetensors).
    folder
        Made if absent.
    kind, precision
        Format; fp16 has no use in OpenVINO on a CPU.
    size_px
        Rows and columns of the tiles; None for any size.
    runtime
        Who runs an INT8 graph; None for the one of `kind`. "tensorrt" also puts what
        is not INT8 in half precision.
    calibration
        Pictures for INT8; None for the best at hand.
    """

    source: Path
    folder: Path
    kind: GraphKind
    precision: Precision
    size_px: tuple[int, int] | None = None
    runtime: Runtime | None = None
    calibration: Sequence[Pictures] | None = None
    opset: int = DEFAULT_OPSET

    def __post_init__(self) -> None:
        """Refuse combinations that no runtime takes."""
        if self.kind == "openvino" and self.precision == "fp16":
            msg = (
                "OpenVINO computes float32 on processors whatever the file holds: take "
                "--precision fp32 or int8"
            )
            raise ConfigError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """Files that passed: where the manifest is, and what it says."""

    path: Path
    manifest: EngineManifest
    calibration: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Artefact:
    """The files of one format, and the engines that read just these bytes."""

    name: str
    files: dict[str, bytes]
    engines: dict[str, Engine]
    manifest: Path
    never_run_on: tuple[str, ...]


def export_model(request: ExportRequest) -> Exported:
    """Export a checkpoint, if what comes out gives the same pictures.

    Raises
    ------
    ConfigError
        If the request, or the checkpoint's network, cannot be exported.
    EngineError
        If the checkpoint is damaged, or the export fails its gate: nothing is written.
    SlideFileError
        If the disk refuses a file.
    """
    loaded = load_checkpoint(request.source)
    network = loaded.network
    sets = make_test_pair(torch_engine(network), network.inputs, request.size_px)
    runtime = request.runtime or _RUNTIMES[request.kind]
    graph = make_graph(
        network,
        GraphRequest(
            name=request.source.stem,
            precision=request.precision,
            size_px=request.size_px,
            runtime=runtime,
            opset=request.opset,
            calibration=request.calibration,
        ),
        facts=graph_facts(loaded),
    )
    artefact = _artefact(request, loaded, graph, runtime)
    reports = _pass_gate(artefact, graph, sets, request.precision, halo_px(network))
    pair_name = f"{artefact.name}.test.npz"
    artefact.files[pair_name] = pack_test_pair(sets)
    hashes = {
        name: hashlib.sha256(content).hexdigest()
        for name, content in artefact.files.items()
    }
    manifest = describe_network(request, loaded, graph, hashes, pair_name).model_copy(
        update={"parity": reports, "never_run_on": artefact.never_run_on}
    )
    _write(request.folder, artefact, manifest)
    return Exported(
        path=artefact.manifest, manifest=manifest, calibration=graph.calibration
    )


def _artefact(
    request: ExportRequest, loaded: LoadedNetwork, graph: MadeGraph, runtime: Runtime
) -> _Artefact:
    name, folder = _file_name(request, runtime), request.folder
    engines = {ONNXRUNTIME_NAME: onnx_engine(graph.content)}
    gpu = (_GPU,) if request.precision == "fp16" or runtime == "tensorrt" else ()
    if request.kind == "openvino":
        xml, weights = convert_to_ir(graph.content)
        return _Artefact(
            name=name,
            files={f"{name}.xml": xml, f"{name}.bin": weights},
            engines={**engines, openvino_name(): openvino_engine(xml, weights)},
            manifest=manifest_path(folder / f"{name}.xml"),
            never_run_on=gpu,
        )
    if not gpu and has_openvino():
        engines[openvino_name()] = openvino_engine(graph.content, b"")
    if request.kind == "onnx":
        return _Artefact(
            name=name,
            files={f"{name}.onnx": graph.content},
            engines=engines,
            manifest=manifest_path(folder / f"{name}.onnx"),
            never_run_on=gpu,
        )
    version = next_version(folder, name)
    config = make_config(
        name,
        _pictures(loaded.network.inputs),
        _pictures((OUTPUT_NAME,)),
        size_px=request.size_px,
        facts=graph_facts(loaded),
    )
    return _Artefact(
        name=name,
        files={
            f"{name}/{version}/{MODEL_FILE}": graph.content,
            f"{name}/config.pbtxt": config.encode(),
        },
        engines=engines,
        manifest=folder / f"{name}{SUFFIX}",
        never_run_on=(*gpu, _SERVER),
    )


def _pass_gate(
    artefact: _Artefact,
    graph: MadeGraph,
    sets: list[PictureSet],
    precision: Precision,
    halo: int,
) -> tuple[ParityReport, ...]:
    """Return the reports of all engines on all pictures, or raise."""
    reports = tuple(
        measure_parity(
            engine,
            pictures,
            subject=subject,
            against=TORCH_NAME,
            device="CPU",
            tolerance=TOLERANCES[precision],
            count_nan=lambda given: count_not_finite(graph.model, given),
        )
        for subject, engine in artefact.engines.items()
        for pictures in sets
    )
    require_parity(reports, artefact.name)
    if sets[0].fused.shape[1] > halo + 16:
        for engine in artefact.engines.values():
            check_halo(engine, sets[0].pictures, halo_px=halo, name=artefact.name)
    else:
        logger.warning("%s: the tile is no larger than its halo", artefact.name)
    return reports


def describe_network(
    request: ExportRequest,
    loaded: LoadedNetwork,
    graph: MadeGraph,
    hashes: dict[str, str],
    pair_name: str,
) -> EngineManifest:
    """Return the manifest of a graph that has passed its gate, without the reports.

    Parameters
    ----------
    request, loaded, graph
        What was asked for, of what, and what came out.
    hashes
        SHA-256 by name of all files, the graph's first.
    pair_name
        The test pair among them.
    """
    network = loaded.network
    rows, columns = request.size_px or (None, None)
    return EngineManifest(
        files=hashes,
        network=loaded.name,
        config=json.dumps(asdict(network.config), sort_keys=True),
        kind=request.kind,
        precision=request.precision,
        inputs=_pictures(network.inputs),
        outputs=_pictures((OUTPUT_NAME,)),
        batch=None,
        height_px=rows,
        width_px=columns,
        stride_px=network.stride,
        halo_px=halo_px(network),
        physics="input" if "physics" in network.inputs else "none",
        int8_runtime=graph.int8_runtime,
        trained=read_ranges(loaded.training),
        source=request.source.name,
        source_sha256=_hash_file(request.source),
        data_hashes=_data_hashes(loaded),
        bifocus_version=__version__,
        opset=graph.opset,
        test_pair=pair_name,
        parity=(),
        verified=True,
        audit=graph.audit,
    )


def _write(folder: Path, artefact: _Artefact, manifest: EngineManifest) -> None:
    try:
        for name, content in artefact.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, content)
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigError(f"{error.filename}: a file is where a folder is to be") from (
            error
        )
    write_manifest(manifest, artefact.manifest)


def _file_name(request: ExportRequest, runtime: Runtime) -> str:
    parts = [request.source.stem]
    if request.precision != "fp32":
        parts.append(request.precision)
    if request.precision == "int8" and runtime != _RUNTIMES[request.kind]:
        parts.append(runtime)
    if request.size_px is not None:
        parts.append(f"{request.size_px[1]}x{request.size_px[0]}")
    # Triton's folder names go into URLs, where a point is legal and a pity.
    return ("-" if request.kind == "triton" else ".").join(parts)


def graph_facts(loaded: LoadedNetwork) -> dict[str, str]:
    """Return what the graph says of itself, for readers without the manifest."""
    network = loaded.network
    return {
        "bifocus_version": __version__,
        "network": loaded.name,
        "inputs": " ".join(network.inputs),
        "halo_px": str(halo_px(network)),
        "stride_px": str(network.stride),
        "data_hashes": " ".join(_data_hashes(loaded)),
    }


def _data_hashes(loaded: LoadedNetwork) -> tuple[str, ...]:
    """Return each once: stores of different pairs may share their tissue."""
    return tuple(dict.fromkeys(loaded.training.get("data_hashes", ())))


def _pictures(names: tuple[str, ...]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name=name, dtype="uint8", layout="NHWC") for name in names)


def _hash_file(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise EngineError(f"{path}: {error.strerror or error}") from error
