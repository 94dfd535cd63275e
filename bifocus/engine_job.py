"""An engine for this machine: built, held against its graph here, only then verified.

The graph was compared with PyTorch where it was made. Here, where there is no PyTorch,
the engine is compared with that graph in ONNX Runtime, on the pictures that came along.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from bifocus.cuda_device import read_cuda_device
from bifocus.edge.network_fuser import NetworkEngine
from bifocus.edge.network_inputs import holds_physics
from bifocus.edge.tensorrt_fuser import TensorrtEngine
from bifocus.edge.whole_fuser import WholeEngine
from bifocus.engine_manifest import (
    EngineManifest,
    ParityReport,
    Precision,
    load_manifest,
    read_checked,
)
from bifocus.errors import EngineError
from bifocus.export.parity import (
    TOLERANCES,
    Engine,
    Pictures,
    PictureSet,
    UInt8Batch,
    measure_parity,
    require_parity,
)
from bifocus.export.parity_pictures import fit_pictures, unpack_test_pair
from bifocus.export.tensorrt_build import Progress
from bifocus.export.tensorrt_engine import EngineExport, export_engine, record_parity
from bifocus.export.whole_pair import (
    Feeds,
    Float32,
    WholeRun,
    fused_again,
    measure_whole,
    onnx_whole_run,
    unpack_whole_pair,
)
from bifocus.tensorrt_module import Flavour


class TrialEngine(NetworkEngine, WholeEngine, Protocol):
    """Runs a network on windows, or a whole fusion on pairs: its form says which."""


class OpenTrial(Protocol):
    """Opens an engine that is not verified yet."""

    def __call__(self, path: Path) -> TrialEngine:
        """Return it, ready."""
        ...


def _open_trial(path: Path) -> TrialEngine:
    return TensorrtEngine(path, is_trial=True, is_whole=holds_physics(path))


def prepare_engine(
    graph: Path,
    out: Path,
    *,
    size_px: tuple[int, int],
    flavour: Flavour | None = None,
    on_progress: Progress | None = None,
    open_trial: OpenTrial = _open_trial,
) -> EngineExport:
    """Build the engine if it is not there, and verify it if that can be done here.

    Parameters
    ----------
    graph
        An exported ONNX file, its manifest beside it.
    out
        Folder for the engine.
    size_px
        Rows and columns of the tiles.
    flavour, on_progress
        As `bifocus.export.tensorrt_engine.export_engine`.
    open_trial
        Opens the engine.

    Returns
    -------
    EngineExport
        Unverified where there is no GPU to run it (TensorRT for RTX builds without).

    Raises
    ------
    EngineError
        As `export_engine`; or if the engine's pictures are not those of the graph: it
        stays on disk, unverified, with the report in its manifest.
    """
    rows, columns = size_px
    made = export_engine(
        graph,
        out,
        height_px=rows,
        width_px=columns,
        flavour=flavour,
        on_progress=on_progress,
    )
    if made.manifest.verified or not _has_gpu():
        return made
    manifest = check_engine(graph, made.path, open_trial)
    require_parity(manifest.parity, made.path.name)
    return EngineExport(
        path=made.path,
        manifest=manifest,
        was_built=made.was_built,
        reason=made.reason,
    )


def check_engine(graph: Path, path: Path, open_trial: OpenTrial) -> EngineManifest:
    """Run an engine beside its graph, and write what was found into its manifest."""
    manifest = load_manifest(path)
    content = read_checked(load_manifest(graph), graph.parent, graph.name)
    if manifest.physics == "inside":
        reports = _check_whole(manifest, path, content, open_trial)
    else:
        reports = _check_network(manifest, path, content, open_trial)
    return record_parity(path, reports)


def _check_network(
    manifest: EngineManifest, path: Path, content: bytes, open_trial: OpenTrial
) -> tuple[ParityReport, ...]:
    sets = _picture_sets(manifest, path.parent, _onnx_run(content))
    engine = open_trial(path)
    try:
        return tuple(_report(engine, pictures, manifest.precision) for pictures in sets)
    finally:
        engine.close()


def _check_whole(
    manifest: EngineManifest, path: Path, content: bytes, open_trial: OpenTrial
) -> tuple[ParityReport, ...]:
    """Return the reports on the pairs that came along; the reference is the graph."""
    import onnxruntime

    name = manifest.test_pair
    if name is None:
        msg = f"{manifest.main_file}: no test pair came with its graph; export it again"
        raise EngineError(msg)
    reference = onnx_whole_run(content)
    pairs = unpack_whole_pair(read_checked(manifest, path.parent, name), name)
    expected = [fused_again(pair, reference) for pair in pairs]
    engine = open_trial(path)
    try:
        return tuple(
            measure_whole(
                _whole_run(engine),
                pair,
                subject=engine.name,
                against=f"ONNX Runtime {onnxruntime.__version__}, the graph it was "
                "built from",
                device=engine.name,
                precision=manifest.precision,
            )
            for pair in expected
        )
    finally:
        engine.close()


def _whole_run(engine: WholeEngine) -> WholeRun:
    def run(feeds: Feeds) -> tuple[UInt8Batch, Mapping[str, Float32]]:
        engine.set_tables({spec.name: feeds[spec.name] for spec in engine.form.tables})
        shots = {name: feeds[name][0] for name in engine.form.inputs}
        fused, numbers = engine.fuse_pair(shots)
        return fused[None], numbers

    return run


def _report(
    engine: NetworkEngine, pictures: PictureSet, precision: Precision
) -> ParityReport:
    import onnxruntime

    return measure_parity(
        _engine_run(engine),
        pictures,
        subject=engine.name,
        against=f"ONNX Runtime {onnxruntime.__version__}, the graph it was built from",
        device=engine.name,
        tolerance=TOLERANCES[precision],
    )


def _picture_sets(
    manifest: EngineManifest, folder: Path, reference: Engine
) -> list[PictureSet]:
    """Return the pictures that came along, at the engine's size, fused by the graph."""
    name = manifest.test_pair
    if name is None or manifest.height_px is None or manifest.width_px is None:
        msg = f"{manifest.main_file}: no test pair came with its graph; export it again"
        raise EngineError(msg)
    size_px = (manifest.height_px, manifest.width_px)
    sets = unpack_test_pair(read_checked(manifest, folder, name), name)
    fitted = [(one.name, fit_pictures(one.pictures, size_px)) for one in sets]
    return [
        PictureSet(name=kind, pictures=pictures, fused=reference(pictures))
        for kind, pictures in fitted
    ]


def _onnx_run(content: bytes) -> Engine:
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(
            content, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime raises its own, unexported kinds
        msg = f"ONNX Runtime cannot load the graph to compare with: {error}"
        raise EngineError(msg) from error
    names = [node.name for node in session.get_inputs()]

    def run(pictures: Pictures) -> UInt8Batch:
        fused = session.run(None, {name: pictures[name] for name in names})[0]
        return np.asarray(fused, dtype=np.uint8)

    return run


def _engine_run(engine: NetworkEngine) -> Engine:
    def run(pictures: Pictures) -> UInt8Batch:
        window = {name: batch[0] for name, batch in pictures.items()}
        # What is yielded is the engine's own until it is asked again.
        return np.stack([fused.copy() for fused in engine.stream([window])])

    return run


def _has_gpu() -> bool:
    try:
        read_cuda_device()
    except EngineError:
        return False
    return True
