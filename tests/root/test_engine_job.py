"""An engine is verified by its pictures on its own device, or stays unverified."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="makes the graphs; in the test group")
pytest.importorskip("onnxruntime", reason="the reference")

from bifocus import engine_job
from bifocus.engine_job import prepare_engine
from bifocus.engine_manifest import (
    load_manifest,
    manifest_path,
    write_manifest,
)
from bifocus.errors import EngineError
from bifocus.export import tensorrt_engine
from bifocus.export.parity import PictureSet
from bifocus.export.parity_pictures import pack_test_pair
from tests.edge.simulated_tensorrt import write_engine
from tests.edge.test_tensorrt_fuser import make_bench
from tests.export.test_tensorrt_engine import Bench

SIZE_PX = (64, 96)


class Device:
    """An engine that is the graph itself, with a fault if it is told so."""

    def __init__(self, graph: Path, fault: str) -> None:
        import onnxruntime

        self.session = onnxruntime.InferenceSession(
            graph.read_bytes(), providers=["CPUExecutionProvider"]
        )
        self.fault, self.is_closed = fault, False
        self.name = "tensorrt 10.3.0, NVIDIA Orin"
        self.form = SimpleNamespace()

    def stream(self, windows: Iterable[dict[str, Any]]) -> Iterator[Any]:
        buffer = np.zeros((*SIZE_PX, 3), np.uint8)
        for window in windows:
            feeds = {name: window[name][None] for name in ("minus", "plus")}
            if self.fault == "swapped inputs":
                feeds = {"minus": feeds["plus"], "plus": feeds["minus"]}
            fused = self.session.run(None, feeds)[0][0]
            if self.fault == "channel order":
                fused = fused[..., ::-1]
            buffer[...] = fused
            yield buffer
            buffer[...] = 0xDB  # it is the engine's own again

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench(tmp_path)
    random = np.random.default_rng(0)
    pictures = {
        name: random.integers(0, 256, (1, 40, 50, 3), dtype=np.uint8)
        for name in ("minus", "plus", "fused")
    }
    pair = PictureSet(name="test pair", fused=pictures.pop("fused"), pictures=pictures)
    content = pack_test_pair([pair])
    (tmp_path / "pair.npz").write_bytes(content)
    manifest = load_manifest(made.graph)
    files = {**manifest.files, "pair.npz": hashlib.sha256(content).hexdigest()}
    fresh = manifest.model_copy(update={"files": files})
    write_manifest(fresh, manifest_path(made.graph))
    monkeypatch.setattr(tensorrt_engine, "load_tensorrt", lambda _flavour: made.trt)
    monkeypatch.setattr(tensorrt_engine, "read_cuda_device", lambda: made.device)
    monkeypatch.setattr(tensorrt_engine, "build_in_child", made.build)
    monkeypatch.setattr(engine_job, "read_cuda_device", lambda: made.device)
    return made


def prepare(bench: Bench, fault: str = "") -> Any:
    opened: list[Device] = []

    def open_trial(path: Path) -> Any:
        assert not load_manifest(path).verified
        opened.append(Device(bench.graph, fault))
        return opened[-1]

    try:
        return prepare_engine(
            bench.graph, bench.out, size_px=SIZE_PX, open_trial=open_trial
        )
    finally:
        assert all(device.is_closed for device in opened)


def test_an_engine_with_the_graphs_pictures_is_verified_once(bench: Bench) -> None:
    made = prepare(bench)
    assert made.was_built
    assert made.manifest.verified
    (report,) = made.manifest.parity
    assert (report.max, report.differing, report.pictures) == (0, 0, "test pair")
    assert report.device == "tensorrt 10.3.0, NVIDIA Orin"
    assert load_manifest(made.path) == made.manifest
    assert made.manifest.export_command == (
        "bifocus export base.fp16.onnx -o DIR --to tensorrt --precision fp16 "
        "--tile 64 96"
    )
    again = prepare(bench, fault="channel order")  # it is not asked again
    assert not again.was_built
    assert again.manifest.verified


@pytest.mark.parametrize("fault", ["channel order", "swapped inputs"])
def test_an_engine_with_other_pictures_is_refused_and_stays_unverified(
    bench: Bench, fault: str
) -> None:
    with pytest.raises(EngineError, match=r"differs from ONNX Runtime .* the graph"):
        prepare(bench, fault)
    manifest = load_manifest(bench.out / "base.fp16.96x64.engine")
    assert not manifest.verified
    assert not manifest.parity[0].passed
    assert prepare(bench).manifest.verified  # the next try checks again, and builds not
    assert len(bench.requests) == 1


def test_without_a_gpu_the_engine_stays_unverified(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> None:
        raise EngineError("no NVIDIA driver here")

    monkeypatch.setattr(engine_job, "read_cuda_device", none)
    assert not prepare(bench).manifest.verified


def test_a_graph_without_test_pair_cannot_verify_an_engine(bench: Bench) -> None:
    manifest = load_manifest(bench.graph)
    files = {bench.graph.name: manifest.files[bench.graph.name]}
    write_manifest(
        manifest.model_copy(update={"files": files, "test_pair": None}),
        manifest_path(bench.graph),
    )
    with pytest.raises(EngineError, match="no test pair"):
        prepare(bench)


def test_the_loop_refuses_what_only_a_trial_may_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulated = make_bench(tmp_path, monkeypatch, "pycuda")
    path = write_engine(tmp_path, simulated.trt, verified=False)
    with pytest.raises(EngineError, match="unverified"):
        simulated.open(path)
    engine = simulated.open(path, is_trial=True)
    assert "tensorrt" in engine.name
    engine.close()
