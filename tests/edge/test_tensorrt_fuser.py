"""TensorRT on a simulated GPU: every rule of CUDA is kept, every refusal explained.

Nothing here has run on a GPU; `bench/gpu_check.py` is for that.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="makes the graphs; in the test group")
pytest.importorskip("onnxruntime", reason="stands in for the kernels")

from bifocus.edge import cuda_bindings_memory, cuda_graph, pycuda_memory
from bifocus.edge.cuda_bindings_memory import CudaBindingsMemory
from bifocus.edge.cuda_graph import record_graph
from bifocus.edge.device_memory import DeviceMemory
from bifocus.edge.network_fuser import NetworkFuser
from bifocus.edge.network_inputs import pair_pictures
from bifocus.edge.network_windows import plan_windows
from bifocus.edge.pycuda_memory import PycudaMemory
from bifocus.edge.tensorrt_fuser import TensorrtEngine
from bifocus.edge.tensorrt_slots import SlotRing
from bifocus.errors import EngineError, EngineLostError
from bifocus.physics_fusion import fuse_measured
from bifocus.tensorrt_module import load_tensorrt
from tests.edge.cuda_doubles import FakePycuda, FakeRuntime
from tests.edge.network_files import (
    INPUTS,
    measured_pair,
    random_pictures,
    run_whole,
)
from tests.edge.simulated_gpu import MisuseError, SimulatedGpu
from tests.edge.simulated_tensorrt import GPU, SIZE_PX, SimulatedTensorRT, write_engine

ADAPTERS = ("pycuda", "cuda-bindings")
LOST = {
    "out of memory": "no memory left",
    "cudaErrorNoDevice": "the GPU is gone",
    "cudaErrorIllegalAddress": "only in a new process",
}


@dataclass
class Bench:
    """A simulated GPU with its libraries, and an engine's file."""

    gpu: SimulatedGpu
    trt: SimulatedTensorRT
    folder: Path
    pycuda: FakePycuda
    open_memory: Callable[[], DeviceMemory]

    def open(self, path: Path | None = None, **options: Any) -> TensorrtEngine:
        options = {
            "trt": self.trt,
            "device": GPU,
            "open_memory": self.open_memory,
            **options,
        }
        return TensorrtEngine(path or write_engine(self.folder, self.trt), **options)


def make_bench(
    folder: Path, monkeypatch: pytest.MonkeyPatch, adapter: str, **trt: Any
) -> Bench:
    gpu = SimulatedGpu()
    driver, runtime = FakePycuda(gpu), FakeRuntime(gpu)
    monkeypatch.setattr(pycuda_memory, "import_driver", lambda: driver)
    monkeypatch.setattr(pycuda_memory, "import_version", lambda: (2026, 1))
    monkeypatch.setattr(cuda_bindings_memory, "import_runtime", lambda: runtime)
    monkeypatch.setattr(cuda_graph, "import_runtime", lambda: runtime)
    openers: dict[str, Callable[[], DeviceMemory]] = {
        "pycuda": PycudaMemory,
        "cuda-bindings": CudaBindingsMemory,
    }
    opener = openers[adapter]
    return Bench(gpu, SimulatedTensorRT(gpu, **trt), folder, driver, opener)


@pytest.fixture(params=ADAPTERS)
def bench(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Bench:
    return make_bench(tmp_path, monkeypatch, request.param)


def windows(count: int) -> list[dict[str, Any]]:
    return [random_pictures(SIZE_PX, seed) for seed in range(count)]


@pytest.mark.parametrize(
    "version",
    [
        "tensorrt-10.3.0",
        "tensorrt-10.16.1.11",
        "tensorrt-11.4.0.106",
        "tensorrt_rtx-1.7.1.116",
    ],
)
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_every_version_gives_every_window_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, adapter: str
) -> None:
    bench = make_bench(tmp_path, monkeypatch, adapter, version=version)
    built_with = {}
    if "rtx" in version:
        built_with = {
            "tensorrt": "tensorrt_rtx 1.7.1.116",
            "device": "any RTX GPU",
            "compute_capability": "",
            "driver": "",
        }
    engine = bench.open(write_engine(tmp_path, bench.trt, built_with=built_with))
    given = windows(5)
    results = [pixels.copy() for pixels in engine.stream(given)]
    for pictures, pixels in zip(given, results, strict=True):
        np.testing.assert_array_equal(pixels, run_whole(bench.trt.graph, pictures))
    engine.close()
    engine.close()
    bench.gpu.check_closed()
    assert bench.pycuda.contexts == []


def test_the_context_goes_before_the_gpu_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What TensorRT frees after the CUDA context has gone crashes the process."""
    bench = make_bench(tmp_path, monkeypatch, "pycuda")
    engine = bench.open()
    list(engine.stream(windows(1)))
    engine.close()
    assert bench.gpu.calls[-2:] == ["context gone", "detach"]


def test_a_pair_comes_out_as_from_the_graph(bench: Bench) -> None:
    measured = measured_pair()
    pictures = pair_pictures(
        measured, fuse_measured(measured, colours="together"), INPUTS
    )
    fuser = NetworkFuser(bench.open())
    assert fuser.engine.startswith("tensorrt 10.3.0, Simulated, ")
    tile = fuser.fuse(measured)
    fuser.close()
    np.testing.assert_array_equal(tile.pixels, run_whole(bench.trt.graph, pictures))
    assert bench.gpu.launches > 10
    bench.gpu.check_closed()


def test_a_shared_memory_is_not_copied(bench: Bench) -> None:
    engine = bench.open(device=replace(GPU, is_integrated=True))
    given = windows(4)
    for pictures, pixels in zip(given, engine.stream(given), strict=True):
        np.testing.assert_array_equal(pixels, run_whole(bench.trt.graph, pictures))
    assert "copy" not in bench.gpu.calls
    assert "allocate device" not in bench.gpu.calls
    assert "zero-copy" in engine.name
    engine.close()
    bench.gpu.check_closed()


def test_the_loop_replays_a_graph_and_allocates_nothing(bench: Bench) -> None:
    engine = bench.open()
    assert engine.name.endswith("CUDA graph")
    bench.gpu.calls.clear()
    list(engine.stream(windows(6)))
    assert bench.gpu.calls.count("launch graph") == 6
    assert "launch" not in bench.gpu.calls
    assert not [call for call in bench.gpu.calls if call.startswith("allocate")]
    engine.close()


def test_without_graphs_the_pixels_are_the_same(bench: Bench) -> None:
    engine = bench.open(record=lambda _handle, _work: None)
    given = windows(3)
    for pictures, pixels in zip(given, engine.stream(given), strict=True):
        np.testing.assert_array_equal(pixels, run_whole(bench.trt.graph, pictures))
    assert "CUDA graph" not in engine.name
    engine.close()
    bench.gpu.check_closed()


def test_work_that_cannot_be_recorded_is_queued_anew(bench: Bench) -> None:
    """The recording is ended and its error cleared; the engine runs without."""

    def record(handle: int, work: Callable[[], None]) -> Any:
        def fails() -> None:
            bench.trt.refuses_to_queue = True
            work()

        try:
            return record_graph(handle, fails)
        finally:
            bench.trt.refuses_to_queue = False

    engine = bench.open(record=record)
    assert "CUDA graph" not in engine.name
    (pixels,) = engine.stream(windows(1))
    np.testing.assert_array_equal(pixels, run_whole(bench.trt.graph, windows(1)[0]))
    engine.close()
    bench.gpu.check_closed()


def test_uploads_run_beside_the_other_slot(bench: Bench) -> None:
    """Both slots are in flight before the first result is waited for."""
    engine = bench.open()
    bench.gpu.calls.clear()
    results = engine.stream(windows(3))
    next(results)
    first = bench.gpu.calls[: bench.gpu.calls.index("synchronize")]
    assert first.count("launch graph") == 2
    results.close()  # type: ignore[attr-defined]
    engine.close()
    bench.gpu.check_closed()


def test_a_stream_left_half_way_leaves_no_slot_in_flight(bench: Bench) -> None:
    engine = bench.open()

    def interrupted() -> Iterator[dict[str, Any]]:
        yield from windows(2)
        raise RuntimeError("the caller failed")

    with pytest.raises(RuntimeError, match="caller"):
        list(engine.stream(interrupted()))
    given = windows(2)
    for pictures, pixels in zip(given, engine.stream(given), strict=True):
        np.testing.assert_array_equal(pixels, run_whole(bench.trt.graph, pictures))
    engine.close()
    bench.gpu.check_closed()


def test_callers_may_be_any_thread(bench: Bench) -> None:
    engine = bench.open()
    done: list[Any] = []
    caller = threading.Thread(
        target=lambda: done.extend(
            pixels.copy() for pixels in engine.stream(windows(2))
        )
    )
    caller.start()
    caller.join()
    assert len(done) == 2
    engine.close()
    bench.gpu.check_closed()


@pytest.mark.parametrize(("error", "reason"), LOST.items())
@pytest.mark.parametrize("call", ["copy", "synchronize"])
def test_a_gpu_that_fails_at_work_is_lost_for_good(
    bench: Bench, call: str, error: str, reason: str
) -> None:
    engine = bench.open()
    bench.gpu.failures[call] = (bench.gpu.calls.count(call) + 2, error)
    with pytest.raises(EngineLostError, match=reason):
        list(engine.stream(windows(4)))
    calls = len(bench.gpu.calls)
    with pytest.raises(EngineLostError, match=reason):
        list(engine.stream(windows(1)))
    assert len(bench.gpu.calls) == calls, "a dead GPU was asked again"
    engine.close()


@pytest.mark.parametrize("nth", range(1, 9))
def test_no_memory_at_the_start_leaves_nothing(bench: Bench, nth: int) -> None:
    kind = "allocate host" if nth % 2 else "allocate device"
    bench.gpu.failures[kind] = ((nth + 1) // 2, "out of memory")
    with pytest.raises(EngineLostError, match="no memory left"):
        bench.open()
    bench.gpu.check_closed()
    assert bench.pycuda.contexts == []


def test_no_memory_for_the_context(bench: Bench) -> None:
    bench.trt.has_context = False
    with pytest.raises(EngineLostError, match="no memory on the GPU for its context"):
        bench.open()
    bench.gpu.check_closed()


def test_no_gpu_says_so(bench: Bench) -> None:
    bench.gpu.failures = {"init": (1, "no device"), "set device": (1, "no device")}
    with pytest.raises(EngineError, match=r"cannot use GPU 0: .*no device"):
        bench.open()


@pytest.mark.parametrize(
    ("built_with", "reason"),
    [
        ({"tensorrt": "tensorrt 10.16.1"}, "TensorRT was tensorrt 10.16.1 and is"),
        ({"compute_capability": "8.6"}, "its compute capability was 8.6 and is 8.7"),
        ({"device": "Orin"}, "the GPU was Orin and is Simulated"),
        ({"driver": "CUDA 12.2"}, "the driver was CUDA 12.2 and is CUDA 12.6"),
    ],
)
def test_an_engine_of_another_machine_is_not_touched(
    bench: Bench, built_with: dict[str, str], reason: str
) -> None:
    path = write_engine(bench.folder, bench.trt, built_with=built_with)
    with pytest.raises(EngineError, match=reason) as caught:
        bench.open(path)
    assert "Mend: bifocus export tiny.safetensors -o DIR --to tensorrt" in str(
        caught.value
    )
    assert bench.gpu.calls == []
    assert bench.trt.calls == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"verified": False}, "unverified"),
        ({"batch": 4}, "a batch other than 1"),
        ({"trained": None, "physics": "none", "halo_px": 7}, "no multiple"),
    ],
)
def test_what_its_manifest_says_counts(
    bench: Bench, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(EngineError, match=reason):
        bench.open(write_engine(bench.folder, bench.trt, **changes))
    assert bench.gpu.calls == []


def test_a_changed_byte_is_never_loaded(bench: Bench) -> None:
    path = write_engine(bench.folder, bench.trt)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(EngineError, match="changed or cut short"):
        bench.open(path)
    assert bench.gpu.calls == []


def test_a_refused_engine_gives_tensorrts_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deserialising gives None and raises nothing."""
    bench = make_bench(
        tmp_path, monkeypatch, "pycuda", fails="load", says="magicTag mismatch"
    )
    with pytest.raises(EngineError, match=r"refuses the engine: magicTag.*Mend: bifoc"):
        bench.open()
    bench.gpu.check_closed()


def test_an_engine_with_other_tensors_is_refused(bench: Bench) -> None:
    bench.trt.tensors = ("minus", "plus", "sharper", "fused")
    with pytest.raises(EngineError, match="it has sharper"):
        bench.open()
    bench.gpu.check_closed()


def test_a_window_of_another_size_is_refused_not_built(bench: Bench) -> None:
    engine = bench.open()
    with pytest.raises(EngineError, match=r"built for \(64, 48\), got \(32, 48\)"):
        list(engine.stream([random_pictures((32, 48))]))
    (pixels,) = engine.stream(windows(1))
    assert pixels.shape == (*SIZE_PX, 3)
    engine.close()


def test_the_fuser_cuts_any_picture_into_that_size(bench: Bench) -> None:
    engine = bench.open()
    pictures = random_pictures((150, 131))
    plan = plan_windows(engine.form, (150, 131))
    padded = {
        name: np.pad(part, ((0, 0), (0, 1), (0, 0)), mode="edge")
        for name, part in pictures.items()
    }
    np.testing.assert_array_equal(
        plan.join(engine.stream(plan.cut(pictures)), (150, 131)),
        run_whole(bench.trt.graph, padded)[:, :131],
    )
    engine.close()


class TestTheSimulationCatches:
    """Each mutation of the ring is a misuse that the simulated GPU names."""

    @pytest.fixture
    def bench(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
        return make_bench(tmp_path, monkeypatch, "cuda-bindings")

    def test_computing_before_the_upload(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        engine = bench.open()
        monkeypatch.setattr(cuda_bindings_memory._Stream, "wait_for", lambda *_: None)
        with pytest.raises(MisuseError, match="launch reads device memory before its"):
            list(engine.stream(windows(1)))
        engine._thread.shutdown()

    def test_results_before_their_event(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        engine = bench.open()
        monkeypatch.setattr(SlotRing, "wait", lambda *_: None)
        expected = [run_whole(bench.trt.graph, part) for part in windows(2)]
        results = [pixels.copy() for pixels in engine.stream(windows(2))]
        assert not any(map(np.array_equal, expected, results))
        assert {int(part.max()) for part in results} == {0xDB}
        engine._thread.shutdown()

    def test_a_slot_filled_while_in_flight(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        engine = bench.open()
        start = SlotRing.start

        def start_and_scribble(ring: SlotRing, number: int) -> None:
            start(ring, number)
            ring.fill(number, random_pictures(SIZE_PX, 99))

        monkeypatch.setattr(SlotRing, "start", start_and_scribble)
        with pytest.raises(MisuseError, match="written while copy had it"):
            list(engine.stream(windows(2)))
        engine._thread.shutdown()

    def test_a_leak(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        engine = bench.open()
        monkeypatch.setattr(cuda_bindings_memory._Block, "free", lambda _: None)
        engine.close()
        with pytest.raises(MisuseError, match=r"leaked: .*device"):
            bench.gpu.check_closed()

    def test_a_second_thread(self, bench: Bench) -> None:
        engine = bench.open()
        gpu = engine._gpu
        assert gpu is not None
        gpu.ring.fill(0, windows(1)[0])
        with pytest.raises(MisuseError, match="second thread"):
            gpu.ring.start(0)
        engine.close()

    def test_memory_freed_in_use(self, bench: Bench) -> None:
        engine = bench.open()
        gpu = engine._gpu
        assert gpu is not None
        gpu.ring.fill(0, windows(1)[0])
        engine._ask(partial(gpu.ring.start, 0))
        with pytest.raises(MisuseError, match="freed while"):
            engine.close()

    def test_one_output_slot_for_two(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The second result would land in the first before it was taken."""
        engine = bench.open()
        gpu = engine._gpu
        assert gpu is not None
        first, second = gpu.ring._slots
        second.output, second.output_block = first.output, first.output_block
        with pytest.raises(MisuseError, match="written while copy had it"):
            list(engine.stream(windows(2)))
        engine._thread.shutdown()


def test_the_driver_that_is_missing_is_named(tmp_path: Path) -> None:
    """No GPU here: the real libraries say so, each in a sentence."""
    gpu = SimulatedGpu()
    trt = SimulatedTensorRT(gpu)
    path = write_engine(tmp_path, trt)
    with pytest.raises(EngineError) as caught:
        TensorrtEngine(path, trt=trt, device=GPU)
    assert "bifocus[gpu]" in str(caught.value) or "cannot use GPU" in str(caught.value)


def test_without_tensorrt_the_text_says_where_it_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = __import__("sys").modules
    for name in ("tensorrt", "tensorrt_bindings"):
        monkeypatch.setitem(modules, name, None)
    path = write_engine(tmp_path, SimulatedTensorRT(SimulatedGpu()))
    with pytest.raises(EngineError, match="tensorrt is not installed"):
        TensorrtEngine(path, device=GPU)


def test_the_real_runtime_gives_none_and_its_own_words(
    bench: Bench, tmp_path: Path
) -> None:
    """TensorRT for RTX needs no GPU to refuse what is no engine."""
    try:
        trt = load_tensorrt("tensorrt_rtx")
    except EngineError as error:
        pytest.skip(f"needs the real library: {error}")
    built_with = {
        "tensorrt": f"tensorrt_rtx {trt.__version__}",
        "device": "any RTX GPU",
        "compute_capability": "",
        "driver": "",
    }
    path = write_engine(tmp_path, bench.trt, built_with=built_with)
    with pytest.raises(EngineError, match=r"refuses the engine: .*Error Code"):
        TensorrtEngine(path, trt=trt, device=GPU, open_memory=bench.open_memory)
    bench.gpu.check_closed()


def test_fakes_are_strict() -> None:
    """A member that pycuda does not have is an AttributeError here too."""
    assert isinstance(FakePycuda.host_alloc_flags, SimpleNamespace)
    with pytest.raises(AttributeError):
        _ = FakePycuda(SimulatedGpu()).Graph  # type: ignore[attr-defined]
