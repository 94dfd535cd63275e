"""From an exported ONNX file to an engine on disk that knows what it was built for.

The engine lies beside its manifest; both names are those of the graph and the size. It
is built again only when the graph, TensorRT, the GPU, the driver, the size or the
options have changed, and the reason is said. The older engine is kept as `.old`.
"""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

from bifocus import __version__
from bifocus.cuda_device import CudaDevice, read_cuda_device
from bifocus.engine_key import EngineKey, differences, machine_facts
from bifocus.engine_manifest import (
    EngineManifest,
    ParityReport,
    check_files,
    load_manifest,
    manifest_path,
    read_checked,
    write_manifest,
)
from bifocus.errors import ConfigError, EngineError
from bifocus.export.tensorrt_audit import Claim
from bifocus.export.tensorrt_build import BuiltEngine, Progress
from bifocus.export.tensorrt_process import (
    BuildRequest,
    build_in_child,
    plan_workspace_bytes,
)
from bifocus.export.tensorrt_profile import BuildOptions
from bifocus.tensorrt_api import TensorRT
from bifocus.tensorrt_module import Flavour, full_name, is_rtx, load_tensorrt
from bifocus.whole_file import write_whole

_LOG = logging.getLogger(__name__)
_INT8 = "Conv int8"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineExport:
    """An engine on disk.

    Attributes
    ----------
    path
        The engine; its manifest lies beside it.
    manifest
        What the file says of itself; unverified until it has passed its parity check
        on its own device.
    was_built
        False if the one on disk fits.
    reason
        Why it was built, or why not, in one sentence.
    """

    path: Path
    manifest: EngineManifest
    was_built: bool
    reason: str


def export_engine(
    graph: Path,
    out: Path,
    *,
    height_px: int,
    width_px: int,
    batch: int = 1,
    flavour: Flavour | None = None,
    optimisation_level: int = 3,
    on_progress: Progress | None = None,
) -> EngineExport:
    """Make sure that `out` holds the engine of `graph` for this machine.

    Parameters
    ----------
    graph
        An exported ONNX file, its manifest beside it: fp32, fp16 or int8.
    out
        Folder for the engine.
    height_px, width_px, batch
        The one size that the engine will take.
    flavour
        None for TensorRT, and where that is not installed TensorRT for RTX.
    optimisation_level
        0 to 5.
    on_progress
        Told of each step of the build.

    Raises
    ------
    EngineError
        If TensorRT or the GPU is missing, or the build fails; an older engine is kept.
    ConfigError
        If the size does not fit the network's stride.
    SlideFileError
        If the disk refuses the file.
    """
    source = load_manifest(graph)
    if source.kind != "onnx":
        msg = f"{graph}: its manifest is of kind {source.kind}; an engine needs onnx"
        raise ConfigError(msg)
    content = read_checked(source, graph.parent, source.main_file)
    trt, name = _choose(flavour)
    device = None if is_rtx(trt) else read_cuda_device()
    options = BuildOptions(
        claim=_claim(source),
        batch=batch,
        height_px=height_px,
        width_px=width_px,
        stride_px=source.stride_px,
        optimisation_level=optimisation_level,
        workspace_bytes=plan_workspace_bytes(device),
        can_run=device is not None,
    )
    key = _key(content, trt, device, options)
    path = out / f"{graph.stem}.{width_px}x{height_px}.engine"
    stale = why_stale(path, key)
    if stale is None:
        kept = load_manifest(path)
        reason = f"{path.name} was built for this machine already"
        return EngineExport(path=path, manifest=kept, was_built=False, reason=reason)
    _LOG.info("%s; building with %s", stale, full_name(trt))
    out.mkdir(parents=True, exist_ok=True)
    timing = out / f"{name}-{key.machine_digest}.timing"
    request = BuildRequest(
        flavour=name,
        graph=content,
        options=options,
        timing_cache=timing.read_bytes() if timing.is_file() else b"",
    )
    built = build_in_child(request, on_progress=on_progress)
    files = {path.name: hashlib.sha256(built.plan).hexdigest()}
    files |= _copy_test_pair(source, graph.parent, out)
    manifest = _engine_manifest(source, key, options, built, files).model_copy(
        # The command that mends it needs the graph alone: a board has no checkpoint.
        update={"source": graph.name, "source_sha256": key.graph_sha256}
    )
    _replace(path, built.plan, manifest)
    if built.timing_cache:
        write_whole(timing, built.timing_cache, is_durable=False)
    return EngineExport(path=path, manifest=manifest, was_built=True, reason=stale)


def record_parity(path: Path, reports: tuple[ParityReport, ...]) -> EngineManifest:
    """Write into an engine's manifest how it did on its own device.

    Parameters
    ----------
    path
        The engine.
    reports
        At least one; it is verified if all of them passed.

    Raises
    ------
    EngineError
        If there is no such engine, or its file has changed since.
    """
    kept = load_manifest(path)
    check_files(kept, path.parent)
    verified = bool(reports) and all(report.passed for report in reports)
    fresh = kept.model_copy(
        update={"parity": reports, "verified": verified, "never_run_on": ()}
    )
    write_manifest(fresh, manifest_path(path))
    return fresh


def why_stale(path: Path, key: EngineKey) -> str | None:
    """Return why the engine at `path` is not the one of `key`; None if it is.

    Unlike the loop, which refuses, this is where an engine may be replaced.
    """
    if not path.is_file():
        return f"{path.name} is not there yet"
    try:
        manifest = load_manifest(path)
        check_files(manifest, path.parent)
    except EngineError as error:
        return str(error)
    if manifest.built_from_sha256 != key.graph_sha256:
        return f"{path.name} was built from another graph"
    found = differences(manifest.built_with, key.built_with())
    return f"{path.name}: {'; '.join(found)}" if found else None


def _choose(flavour: Flavour | None) -> tuple[TensorRT, Flavour]:
    if flavour is not None:
        return load_tensorrt(flavour), flavour
    try:
        return load_tensorrt("tensorrt"), "tensorrt"
    except EngineError as first:
        try:
            return load_tensorrt("tensorrt_rtx"), "tensorrt_rtx"
        except EngineError:
            raise first from None


def _claim(source: EngineManifest) -> Claim:
    tensors = (*source.inputs, *source.outputs)
    # Where 8 bits would cost too much, an int8 network stays wider, by its own audit.
    # Physics inside a graph has products, and no convolution.
    wide = sum(count for kind, count in source.audit.items() if kind != _INT8)
    return Claim(
        precision=source.precision,
        n_other=wide if source.precision == "int8" else 0,
        images=tuple(tensor.name for tensor in tensors if tensor.dtype == "uint8"),
    )


def _key(
    content: bytes, trt: TensorRT, device: CudaDevice | None, options: BuildOptions
) -> EngineKey:
    size = f"{options.batch}x{options.height_px}x{options.width_px}"
    return EngineKey(
        graph_sha256=hashlib.sha256(content).hexdigest(),
        profile=size,
        options=f"{options.claim.precision}, level {options.optimisation_level}",
        **machine_facts(trt, device),
    )


def _copy_test_pair(source: EngineManifest, folder: Path, out: Path) -> dict[str, str]:
    """Bring the test pair along, so that the engine can be checked where it lies."""
    name = source.test_pair
    if name is None:
        return {}
    content = read_checked(source, folder, name)
    if out.resolve() != folder.resolve():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        write_whole(out / name, content)
    return {name: source.files[name]}


def _engine_manifest(
    source: EngineManifest,
    key: EngineKey,
    options: BuildOptions,
    built: BuiltEngine,
    files: dict[str, str],
) -> EngineManifest:
    return source.model_copy(
        update={
            "files": files,
            "kind": "tensorrt",
            "batch": options.batch,
            "height_px": options.height_px,
            "width_px": options.width_px,
            "parity": (),
            "verified": False,
            "audit": built.audit,
            "built_with": {**key.built_with(), "seconds": f"{built.seconds:.1f}"},
            "built_from_sha256": key.graph_sha256,
            "bifocus_version": __version__,
            "never_run_on": () if options.can_run else ("any GPU",),
        }
    )


def _replace(path: Path, plan: bytes, manifest: EngineManifest) -> None:
    """Put the engine in its place, the older one aside.

    A crash in between leaves an engine that its manifest's hash refuses, never one
    that runs unchecked.
    """
    fresh = path.with_name(path.name + ".new")
    write_whole(fresh, plan)
    if path.is_file():
        old = path.with_name(path.name + ".old")
        path.replace(old)
        if manifest_path(path).is_file():
            manifest_path(path).replace(manifest_path(old))
    fresh.replace(path)
    write_manifest(manifest, manifest_path(path))
