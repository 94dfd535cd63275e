"""`bifocus export --whole`: physics and network in one graph, held against the loop.

The reference is what the loop does without it: NumPy's physics, the shots on one grid,
and the network in PyTorch. Nothing is written before the graph has passed.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnx

from bifocus.edge.network_inputs import PICTURES, pair_pictures
from bifocus.engine_manifest import (
    EngineManifest,
    ParityReport,
    Precision,
    TensorSpec,
    manifest_path,
    write_manifest,
)
from bifocus.export.export_graph import GraphRequest, MadeGraph, make_graph
from bifocus.export.export_model import (
    Exported,
    ExportRequest,
    describe_network,
    graph_facts,
)
from bifocus.export.graph_audit import count_convolutions
from bifocus.export.parity import Engine, Pictures, require_parity
from bifocus.export.parity_pictures import TISSUE, fit_pictures, simulated_shots
from bifocus.export.pixel_graph import describe_graph
from bifocus.export.runtimes import ONNXRUNTIME_NAME, TORCH_NAME, torch_engine
from bifocus.export.whole_fusion import (
    NUMBERS,
    OPTICS,
    SHOTS,
    build_physics_parts,
    compose_whole_fusion,
)
from bifocus.export.whole_pair import (
    WholeSet,
    measure_whole,
    onnx_whole_run,
    pack_whole_pair,
)
from bifocus.focal_offset import PairOptics
from bifocus.model.checkpoint import LoadedNetwork, load_checkpoint
from bifocus.optics_inputs import table_shapes, transfer_inputs
from bifocus.pair_spectra import layout_for
from bifocus.physics_fusion import fuse_measured, measure_pair
from bifocus.records import UInt8Image
from bifocus.whole_file import write_whole

_AGAINST: Final = f"NumPy {np.__version__} physics and {TORCH_NAME}"
_GPU: Final = "any GPU"


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeRequest:
    """What to export, and to where.

    Attributes
    ----------
    source
        Checkpoint (.safetensors).
    folder
        Made if absent.
    precision
        Of the network; physics is float32 always. INT8 is in TensorRT's form, half
        precision elsewhere.
    size_px
        Rows and columns of the shots: the graph takes no other.
    calibration
        Pictures for INT8; None for those that come with the exporter.
    """

    source: Path
    folder: Path
    precision: Precision
    size_px: tuple[int, int]
    calibration: Sequence[Pictures] | None = None


def export_whole(request: WholeRequest) -> Exported:
    """Export a checkpoint with the physics before it, if it fuses as the loop does.

    Raises
    ------
    ConfigError
        If the request, or the checkpoint's network, cannot be exported.
    EngineError
        If the checkpoint is damaged, or the graph fails its gate: nothing is written.
    SlideFileError
        If the disk refuses a file.
    """
    loaded = load_checkpoint(request.source)
    inner = make_graph(
        loaded.network,
        GraphRequest(
            name=request.source.stem,
            precision=request.precision,
            size_px=request.size_px,
            runtime="tensorrt",
            calibration=request.calibration,
        ),
        facts={},
    )
    parts = build_physics_parts(request.size_px, opset=inner.opset)
    whole = compose_whole_fusion(inner.model, parts)
    facts = {**graph_facts(loaded), "precision": request.precision}
    content = describe_graph(whole, {**facts, "inputs": " ".join((*SHOTS, *OPTICS))})
    sets = make_whole_sets(
        torch_engine(loaded.network), loaded.network.inputs, request.size_px
    )
    name = _file_name(request)
    reports = tuple(
        measure_whole(
            onnx_whole_run(content),
            one,
            subject=ONNXRUNTIME_NAME,
            against=_AGAINST,
            device="CPU",
            precision=request.precision,
        )
        for one in sets
    )
    require_parity(reports, name)
    pair = f"{name.removesuffix('.onnx')}.test.npz"
    files = {name: content, pair: pack_whole_pair(sets)}
    manifest = _manifest(request, loaded, inner, files, reports, whole)
    request.folder.mkdir(parents=True, exist_ok=True)
    for file, data in files.items():
        write_whole(request.folder / file, data)
    path = manifest_path(request.folder / name)
    write_manifest(manifest, path)
    return Exported(path=path, manifest=manifest, calibration=inner.calibration)


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
    physics = fuse_measured(measured)
    pictures = pair_pictures(measured, physics.pixels, PICTURES)
    rows, columns = minus.shape[:2]
    return WholeSet(
        name=name,
        shots={"minus": minus[None], "plus": plus[None]},
        tables=transfer_inputs(measured.optics, layout_for((rows, columns)).block_px),
        fused=network({key: pictures[key][None] for key in inputs}),
        offset_um=physics.offset.offset_um,
    )


def _manifest(
    request: WholeRequest,
    loaded: LoadedNetwork,
    inner: MadeGraph,
    files: dict[str, bytes],
    reports: tuple[ParityReport, ...],
    whole: onnx.ModelProto,
) -> EngineManifest:
    """Return the network's manifest with what the physics inside changes."""
    alone = describe_network(
        ExportRequest(
            source=request.source,
            folder=request.folder,
            kind="onnx",
            precision=request.precision,
            size_px=request.size_px,
        ),
        loaded,
        inner,
        {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
        [*files][1],
    )
    return alone.model_copy(
        update={
            "inputs": (*_shots(SHOTS), *_tables(request.size_px)),
            "outputs": (*_shots(("fused",)), *_numbers()),
            "batch": 1,
            "physics": "inside",
            "parity": reports,
            "audit": count_convolutions(whole),
            "never_run_on": (_GPU,),
        }
    )


def _shots(names: tuple[str, ...]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name=name, dtype="uint8", layout="NHWC") for name in names)


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


def _file_name(request: WholeRequest) -> str:
    rows, columns = request.size_px
    half = "" if request.precision == "fp32" else f".{request.precision}"
    return f"{request.source.stem}.whole{half}.{columns}x{rows}.onnx"
