"""An engine is built once for a machine, and again only when something has changed."""

import dataclasses
import hashlib
import resource
import signal
from pathlib import Path
from typing import Any

import pytest

from bifocus.cuda_device import CudaDevice
from bifocus.engine_key import check_built_here
from bifocus.engine_manifest import (
    EngineManifest,
    ParityReport,
    ParityTolerance,
    check_verified,
    load_manifest,
    manifest_path,
    write_manifest,
)
from bifocus.errors import ConfigError, EngineError, SlideFileError
from bifocus.export import tensorrt_engine
from bifocus.export.tensorrt_build import BuiltEngine
from bifocus.export.tensorrt_engine import EngineExport, export_engine, record_parity
from bifocus.export.tensorrt_process import BuildRequest
from tests.export.real_tensorrt import need_tensorrt_rtx
from tests.export.tensorrt_double import VERSIONS, FakeTensorRT
from tests.export.uint8_graphs import IMAGES, two_shot_graph

ORIN = CudaDevice(
    name="NVIDIA Orin",
    compute_capability="8.7",
    driver="CUDA 12.6",
    is_integrated=True,
    total_bytes=8 << 30,
    free_bytes=6 << 30,
)


class Bench:
    """A machine: its TensorRT, its GPU, and the builds it was asked for."""

    def __init__(self, folder: Path) -> None:
        self.trt: Any = FakeTensorRT(VERSIONS[0])
        self.device = ORIN
        self.requests: list[BuildRequest] = []
        self.graph = folder / "base.fp16.onnx"
        self.out = folder / "engines"
        self.write_graph(two_shot_graph())

    def write_graph(self, content: bytes) -> None:
        self.graph.write_bytes(content)
        pair = self.graph.with_name("pair.npz")
        pair.write_bytes(b"a pair")
        write_manifest(_manifest(self.graph, pair), manifest_path(self.graph))

    def build(self, request: BuildRequest, **_: Any) -> BuiltEngine:
        self.requests.append(request)
        return BuiltEngine(
            plan=b"engine %d" % len(self.requests),
            audit={"CONVOLUTION float16": 2},
            timing_cache=b"timings %d" % len(self.requests),
            seconds=12.5,
        )

    def export(self, **changes: Any) -> EngineExport:
        size = {"height_px": 64, "width_px": 96}
        return export_engine(self.graph, self.out, **{**size, **changes})


def _manifest(graph: Path, pair: Path) -> EngineManifest:
    def tensor(name: str) -> dict[str, str]:
        return {"name": name, "dtype": "uint8", "layout": "NHWC"}

    hashes = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (graph, pair)
    }
    return EngineManifest.model_validate(
        {
            "files": hashes,
            "network": "base",
            "config": "{}",
            "kind": "onnx",
            "precision": "fp16",
            "inputs": [tensor(name) for name in IMAGES[:2]],
            "outputs": [tensor(IMAGES[2])],
            "batch": None,
            "height_px": None,
            "width_px": None,
            "stride_px": 8,
            "halo_px": 72,
            "physics": "none",
            "trained": None,
            "source": "base.safetensors",
            "source_sha256": "0" * 64,
            "data_hashes": [],
            "bifocus_version": "0",
            "opset": 18,
            "test_pair": pair.name,
            "parity": [],
            "verified": True,
        }
    )


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench(tmp_path)
    monkeypatch.setattr(tensorrt_engine, "load_tensorrt", lambda _flavour: made.trt)
    monkeypatch.setattr(tensorrt_engine, "read_cuda_device", lambda: made.device)
    monkeypatch.setattr(tensorrt_engine, "build_in_child", made.build)
    return made


def test_the_first_export_builds_and_the_second_finds_it(bench: Bench) -> None:
    first = bench.export()
    assert (first.was_built, first.path.name) == (True, "base.fp16.96x64.engine")
    assert "not there yet" in first.reason
    manifest = load_manifest(first.path)
    assert manifest == first.manifest
    assert manifest.kind == "tensorrt"
    assert (manifest.batch, manifest.height_px, manifest.width_px) == (1, 64, 96)
    assert manifest.files == {
        first.path.name: hashlib.sha256(b"engine 1").hexdigest(),
        "pair.npz": hashlib.sha256(b"a pair").hexdigest(),
    }
    assert (bench.out / "pair.npz").read_bytes() == b"a pair"
    assert manifest.built_with["device"] == "NVIDIA Orin"
    assert manifest.built_with["profile"] == "1x64x96"
    assert manifest.audit == {"CONVOLUTION float16": 2}
    check_built_here(manifest, bench.trt, ORIN)
    second = bench.export()
    assert not second.was_built
    assert second.manifest == manifest
    assert len(bench.requests) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("driver", "the driver was CUDA 12.6 and is CUDA 13.0"),
        ("version", "TensorRT was tensorrt 10.3.0 and is tensorrt 11.4.0.106"),
        ("graph", "built from another graph"),
        ("level", "options was fp16, level 3 and is fp16, level 5"),
        ("batch", "profile was 1x64x96 and is 4x64x96"),
        ("damage", "SHA-256"),
        ("manifest", "no such manifest"),
    ],
)
def test_each_change_builds_again_and_keeps_the_old_engine_aside(
    bench: Bench, change: str, words: str
) -> None:
    path = bench.export().path
    options: dict[str, int] = {}
    if change == "driver":
        bench.device = dataclasses.replace(ORIN, driver="CUDA 13.0")
    elif change == "version":
        bench.trt = FakeTensorRT(VERSIONS[2])
    elif change == "graph":
        bench.write_graph(two_shot_graph("float32"))
    elif change == "level":
        options = {"optimisation_level": 5}
    elif change == "batch":
        options = {"batch": 4}
    elif change == "damage":
        path.write_bytes(b"engine cut sh")
    else:
        manifest_path(path).unlink()
    kept = path.read_bytes()
    again = bench.export(**options)
    assert again.was_built
    assert words in again.reason
    assert path.read_bytes() == b"engine 2"
    assert path.with_name(path.name + ".old").read_bytes() == kept
    assert load_manifest(path) == again.manifest


def test_timings_are_handed_on_to_builds_of_the_same_machine(bench: Bench) -> None:
    bench.export()
    bench.export(optimisation_level=4)
    bench.device = dataclasses.replace(ORIN, driver="CUDA 13.0")
    bench.export()
    caches = [request.timing_cache for request in bench.requests]
    assert caches == [b"", b"timings 1", b""]


def test_the_claim_names_the_bytes_and_allows_what_int8_left_wider(
    bench: Bench,
) -> None:
    bench.export()
    claim = bench.requests[0].options.claim
    assert (claim.precision, claim.n_other, claim.images) == ("fp16", 0, IMAGES)
    int8 = {"precision": "int8", "audit": {"Conv float16": 4, "Conv int8": 14}}
    manifest = load_manifest(bench.graph).model_copy(update=int8)
    write_manifest(manifest, manifest_path(bench.graph))
    bench.export()
    assert bench.requests[1].options.claim.n_other == 4


def test_an_engine_is_unverified_until_its_device_has_passed(bench: Bench) -> None:
    path = bench.export().path
    with pytest.raises(EngineError, match="unverified"):
        check_verified(load_manifest(path))

    def report(*, passed: bool) -> ParityReport:
        return ParityReport(
            subject="TensorRT",
            against="ONNX Runtime",
            pictures="test pair",
            device="NVIDIA Orin",
            psnr_db=70.0,
            differing=0.001,
            max=1,
            nan=0,
            tolerance=ParityTolerance(max=1, differing=0.01, psnr_db=65),
            passed=passed,
        )

    record_parity(path, (report(passed=True), report(passed=False)))
    with pytest.raises(EngineError, match="has failed in TensorRT"):
        check_verified(load_manifest(path))
    record_parity(path, (report(passed=True),))
    check_verified(load_manifest(path))
    assert bench.export().manifest.verified  # a hit keeps what was found
    bench.device = dataclasses.replace(ORIN, driver="CUDA 13.0")
    assert not bench.export().manifest.verified  # a fresh build starts anew


def test_a_failed_build_and_a_full_disk_leave_the_old_engine(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bench.export().path
    before = {p.name: p.read_bytes() for p in bench.out.iterdir()}

    def fail(_request: BuildRequest, **_: Any) -> BuiltEngine:
        raise EngineError("the build was killed")

    with monkeypatch.context() as patch:
        patch.setattr(tensorrt_engine, "build_in_child", fail)
        with pytest.raises(EngineError, match="killed"):
            bench.export(optimisation_level=5)
    assert {p.name: p.read_bytes() for p in bench.out.iterdir()} == before

    # The kernel itself refuses more: what a full disk does, at a size we can choose.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (7, limits[1]))
    try:
        with pytest.raises(SlideFileError, match=r"engine\.new: cannot write 8 bytes"):
            bench.export(optimisation_level=5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert {p.name: p.read_bytes() for p in bench.out.iterdir()} == before
    assert load_manifest(path).verified is False


def test_what_cannot_be_built_from_is_refused(bench: Bench) -> None:
    with pytest.raises(ConfigError, match="stride"):
        bench.export(height_px=63)
    bench.graph.write_bytes(b"changed since")
    with pytest.raises(EngineError, match="SHA-256"):
        bench.export()
    assert bench.requests == []
    path = bench.graph
    bench.write_graph(two_shot_graph())
    manifest = load_manifest(path).model_copy(update={"kind": "openvino"})
    write_manifest(manifest, manifest_path(path))
    with pytest.raises(ConfigError, match="kind openvino"):
        bench.export()


def test_without_a_gpu_rtx_builds_an_engine_that_says_it_never_ran(
    tmp_path: Path,
) -> None:
    need_tensorrt_rtx()
    graph = Bench(tmp_path).graph
    export = export_engine(
        graph, tmp_path / "out", height_px=64, width_px=96, flavour="tensorrt_rtx"
    )
    assert export.manifest.never_run_on == ("any GPU",)
    assert not export.manifest.verified
    assert export.manifest.audit == {"CONVOLUTION float16": 2}
    assert export.manifest.built_with["device"] == "any RTX GPU"
    assert export.path.stat().st_size > 10_000
    again = export_engine(
        graph, tmp_path / "out", height_px=64, width_px=96, flavour="tensorrt_rtx"
    )
    assert not again.was_built
