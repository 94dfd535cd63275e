"""`bifocus export --whole`: physics and network in one graph, held against the loop.

The reference is what the loop does without it: NumPy's physics, the shots on one grid,
and the network in PyTorch. Nothing is written before the graph has passed.
"""

from typing import Final

import numpy as np

from bifocus.edge.network_inputs import pair_pictures
from bifocus.engine_manifest import ParityReport, TensorSpec
from bifocus.errors import ConfigError
from bifocus.export.export_files import (
    Exported,
    ExportFiles,
    ExportRequest,
    pack_graph,
    write_files,
)
from bifocus.export.export_graph import make_graph
from bifocus.export.export_model import (
    describe_network,
    graph_facts,
    graph_request,
    picture_specs,
)
from bifocus.export.graph_audit import count_convolutions
from bifocus.export.parity import Engine, require_parity
from bifocus.export.parity_pictures import TISSUE, fit_pictures, simulated_shots
from bifocus.export.pixel_graph import OUTPUT_NAME, describe_graph
from bifocus.export.pixel_network import picture_inputs
from bifocus.export.runtimes import (
    ONNXRUNTIME_NAME,
    TORCH_NAME,
    openvino_name,
    openvino_whole_run,
    torch_engine,
)
from bifocus.export.whole_fusion import (
    NUMBERS,
    OPTICS,
    SHOTS,
    build_physics_parts,
    compose_whole_fusion,
)
from bifocus.export.whole_pair import (
    WholeRun,
    WholeSet,
    measure_whole,
    onnx_whole_run,
    pack_whole_pair,
)
from bifocus.focal_offset import PairOptics
from bifocus.model.checkpoint import load_checkpoint
from bifocus.optics_inputs import table_shapes, transfer_inputs
from bifocus.pair_spectra import layout_for
from bifocus.physics_fusion import fuse_measured, measure_pair
from bifocus.records import UInt8Image

_AGAINST: Final = f"NumPy {np.__version__} physics and {TORCH_NAME}"


def export_whole(request: ExportRequest) -> Exported:
    """Export a checkpoint with the physics before it, if it fuses as the loop does.

    Physics is float32 always; the request's precision is the network's.

    Raises
    ------
    ConfigError
        If the request, or the checkpoint's network, cannot be exported.
    EngineError
        If the checkpoint is damaged, or the graph fails its gate: nothing is written.
    SlideFileError
        If the disk refuses a file.
    """
    if request.size_px is None:
        raise ConfigError("physics inside a graph takes shots of one size: state it")
    loaded = load_checkpoint(request.source)
    inner = make_graph(loaded.network, graph_request(request), facts={})
    parts = build_physics_parts(request.size_px, opset=inner.opset)
    whole = compose_whole_fusion(inner.model, parts)
    facts = {
        **graph_facts(loaded),
        "precision": request.precision,
        "inputs": " ".join((*SHOTS, *OPTICS)),
    }
    content = describe_graph(whole, facts)
    inputs = (*picture_specs(SHOTS), *_tables(request.size_px))
    outputs = (*picture_specs((OUTPUT_NAME,)), *_numbers())
    packed = pack_graph(request, content, inputs, outputs, facts)
    sets = make_whole_sets(
        torch_engine(loaded.network), picture_inputs(loaded.network), request.size_px
    )
    reports = _pass_gate(request, _runs(request, content, packed), sets)
    pair_name = packed.with_pair(pack_whole_pair(sets))
    alone = describe_network(request, loaded, inner, packed, pair_name, reports=reports)
    manifest = alone.model_copy(
        update={
            "inputs": inputs,
            "outputs": outputs,
            "batch": 1,
            "physics": "inside",
            "audit": count_convolutions(whole),
        }
    )
    write_files(request.folder, packed, manifest)
    return Exported(
        path=packed.manifest, manifest=manifest, calibration=inner.calibration
    )


def _runs(
    request: ExportRequest, content: bytes, packed: ExportFiles
) -> dict[str, WholeRun]:
    """Return the engines that read just these bytes, by name."""
    runs = {ONNXRUNTIME_NAME: onnx_whole_run(content)}
    if request.kind == "openvino":
        xml, weights = packed.files.values()
        runs[openvino_name()] = openvino_whole_run(xml, weights)
    return runs


def _pass_gate(
    request: ExportRequest, runs: dict[str, WholeRun], sets: list[WholeSet]
) -> tuple[ParityReport, ...]:
    reports = tuple(
        measure_whole(
            run,
            one,
            subject=subject,
            against=_AGAINST,
            device="CPU",
            precision=request.precision,
        )
        for subject, run in runs.items()
        for one in sets
    )
    require_parity(reports, request.name)
    return reports


def make_whole_sets(
    network: Engine, inputs: tuple[str, ...], size_px: tuple[int, int]
) -> list[WholeSet]:
    """Return a pair of simulated tissue, and its shots swapped, fused by the loop.

    Parameters
    ----------
    network
        The reference's network, on pictures by name.
    inputs
        The ones that it takes.
    size_px
        Rows and columns of the shots.
    """
    shots, optics = simulated_shots()
    fitted = fit_pictures({name: shot[None] for name, shot in shots.items()}, size_px)
    minus, plus = (fitted[name][0] for name in SHOTS)
    return [
        _fused_by_numpy(TISSUE, minus, plus, optics, network, inputs),
        _fused_by_numpy(f"{TISSUE}, swapped", plus, minus, optics, network, inputs),
    ]


def _fused_by_numpy(
    name: str,
    minus: UInt8Image,
    plus: UInt8Image,
    optics: PairOptics,
    network: Engine,
    inputs: tuple[str, ...],
) -> WholeSet:
    # The light is read from the pair here; the graph finds it in the tables.
    measured = measure_pair(minus, plus, optics)
    physics = fuse_measured(measured, colours="together")
    pictures = pair_pictures(measured, physics, inputs)
    rows, columns = minus.shape[:2]
    return WholeSet(
        name=name,
        shots={"minus": minus[None], "plus": plus[None]},
        tables=transfer_inputs(measured.optics, layout_for((rows, columns)).block_px),
        fused=network({key: picture[None] for key, picture in pictures.items()}),
        offset_um=physics.offset.offset_um,
    )


def _tables(size_px: tuple[int, int]) -> tuple[TensorSpec, ...]:
    _, optics = simulated_shots()
    shapes = table_shapes(optics, size_px)
    return tuple(
        TensorSpec(name=name, dtype="float32", layout="table", shape=shapes[name])
        for name in OPTICS
    )


def _numbers() -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            name=name,
            dtype="float32",
            layout="number",
            shape=(2,) if name == "shift_px" else (),
        )
        for name in NUMBERS
    )
