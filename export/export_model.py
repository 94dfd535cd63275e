"""From a checkpoint to files that an engine can trust: trace, check, write, in order.

Nothing is written before the graph has passed the gate against PyTorch.
"""

import hashlib
import json
import logging
from dataclasses import asdict
from pathlib import Path

from bifocus import __version__
from bifocus.engine_manifest import EngineManifest, ParityReport, TensorSpec
from bifocus.errors import EngineError
from bifocus.export.export_files import (
    Exported,
    ExportFiles,
    ExportRequest,
    pack_graph,
    write_files,
)
from bifocus.export.export_graph import GraphRequest, MadeGraph, make_graph
from bifocus.export.onnx_probe import count_not_finite
from bifocus.export.parity import (
    TOLERANCES,
    Engine,
    PictureSet,
    check_halo,
    measure_parity,
    require_parity,
)
from bifocus.export.parity_pictures import make_test_pair, pack_test_pair
from bifocus.export.pixel_graph import OUTPUT_NAME
from bifocus.export.pixel_network import PHYSICS, picture_inputs
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
from bifocus.model.checkpoint import LoadedNetwork, load_checkpoint
from bifocus.model.receptive import halo_px

logger = logging.getLogger(__name__)


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
    inputs = picture_inputs(network)
    sets = make_test_pair(torch_engine(network), inputs, request.size_px)
    facts = graph_facts(loaded)
    graph = make_graph(network, graph_request(request), facts=facts)
    packed = pack_graph(
        request,
        graph.content,
        picture_specs(inputs),
        picture_specs((OUTPUT_NAME,)),
        facts,
    )
    engines = _engines(request, graph, packed)
    reports = _pass_gate(request, engines, graph, sets, halo_px(network))
    pair_name = packed.with_pair(pack_test_pair(sets))
    manifest = describe_network(
        request, loaded, graph, packed, pair_name, reports=reports
    )
    write_files(request.folder, packed, manifest)
    return Exported(
        path=packed.manifest, manifest=manifest, calibration=graph.calibration
    )


def graph_request(request: ExportRequest) -> GraphRequest:
    """Return what kind of graph of the network alone is needed."""
    return GraphRequest(
        name=request.source.stem,
        precision=request.precision,
        size_px=request.size_px,
        runtime=request.int8_runtime,
        opset=request.opset,
        calibration=request.calibration,
    )


def _engines(
    request: ExportRequest, graph: MadeGraph, packed: ExportFiles
) -> dict[str, Engine]:
    """Return the engines that read just these bytes, by name."""
    engines = {ONNXRUNTIME_NAME: onnx_engine(graph.content)}
    if request.kind == "openvino":
        xml, weights = packed.files.values()
        return {**engines, openvino_name(): openvino_engine(xml, weights)}
    if not request.needs_gpu and has_openvino():
        engines[openvino_name()] = openvino_engine(graph.content, b"")
    return engines


def _pass_gate(
    request: ExportRequest,
    engines: dict[str, Engine],
    graph: MadeGraph,
    sets: list[PictureSet],
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
            tolerance=TOLERANCES[request.precision],
            count_nan=lambda given: count_not_finite(graph.model, given),
        )
        for subject, engine in engines.items()
        for pictures in sets
    )
    require_parity(reports, request.name)
    longest = max(sets, key=lambda one: max(one.fused.shape[1:3]))
    if max(longest.fused.shape[1:3]) > halo + 16:
        for engine in engines.values():
            check_halo(engine, longest.pictures, halo_px=halo, name=request.name)
    else:
        logger.warning("%s: the tile is no larger than its halo", request.name)
    return reports


def describe_network(
    request: ExportRequest,
    loaded: LoadedNetwork,
    graph: MadeGraph,
    packed: ExportFiles,
    pair_name: str,
    *,
    reports: tuple[ParityReport, ...],
) -> EngineManifest:
    """Return the manifest of a graph that has passed its gate.

    Parameters
    ----------
    request, loaded, graph
        What was asked for, of what, and what came out.
    packed, pair_name
        Its files, and the test pair among them.
    reports
        Of the gate.
    """
    network = loaded.network
    rows, columns = request.size_px or (None, None)
    return EngineManifest(
        files=packed.hashes,
        network=loaded.name,
        config=json.dumps(asdict(network.config), sort_keys=True),
        kind=request.kind,
        precision=request.precision,
        inputs=picture_specs(picture_inputs(network)),
        outputs=picture_specs((OUTPUT_NAME,)),
        batch=None,
        height_px=rows,
        width_px=columns,
        stride_px=network.stride,
        halo_px=halo_px(network),
        physics="input" if PHYSICS in network.inputs else "none",
        int8_runtime=graph.int8_runtime,
        trained=read_ranges(loaded.training),
        source=request.source.name,
        source_sha256=_hash_file(request.source),
        data_hashes=_data_hashes(loaded),
        bifocus_version=__version__,
        opset=graph.opset,
        test_pair=pair_name,
        parity=reports,
        never_run_on=packed.never_run_on,
        verified=True,
        audit=graph.audit,
    )


def graph_facts(loaded: LoadedNetwork) -> dict[str, str]:
    """Return what the graph says of itself, for readers without the manifest."""
    network = loaded.network
    return {
        "bifocus_version": __version__,
        "network": loaded.name,
        "inputs": " ".join(picture_inputs(network)),
        "halo_px": str(halo_px(network)),
        "stride_px": str(network.stride),
        "data_hashes": " ".join(_data_hashes(loaded)),
    }


def _data_hashes(loaded: LoadedNetwork) -> tuple[str, ...]:
    """Return each once: stores of different pairs may share their tissue."""
    return tuple(dict.fromkeys(loaded.training.get("data_hashes", ())))


def picture_specs(names: tuple[str, ...]) -> tuple[TensorSpec, ...]:
    """Return pictures as a manifest names them: bytes, uint8 NHWC."""
    return tuple(TensorSpec(name=name, dtype="uint8", layout="NHWC") for name in names)


def _hash_file(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise EngineError(f"{path}: {error.strerror or error}") from error
