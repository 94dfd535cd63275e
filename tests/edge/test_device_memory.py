"""Both memory adapters speak the words that the real libraries have, and no others."""

import ast
import inspect
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bifocus.edge import cuda_bindings_memory, cuda_graph, pycuda_memory
from bifocus.edge.cuda_bindings_memory import CudaBindingsMemory, error_name
from bifocus.edge.device_memory import DeviceMemory, lost, open_first
from bifocus.edge.pycuda_memory import PycudaMemory
from bifocus.errors import EngineError
from tests.edge.cuda_doubles import PYCUDA_NAMES, FakePycuda, FakeRuntime
from tests.edge.simulated_gpu import SimulatedGpu

FUNCTIONS = sorted(name for name in vars(FakeRuntime) if name.startswith("cuda"))
CALLS = [name for name in FUNCTIONS if callable(getattr(FakeRuntime, name))]


@pytest.fixture(scope="module")
def runtime() -> Any:
    return pytest.importorskip(
        "cuda.bindings.runtime",
        reason="cuda-bindings has wheels for x86-64 and aarch64",
    )


def accesses(module: Any, *roots: str) -> set[str]:
    """Return X of each `cuda.X` or `self._cuda.X` in a module's source."""
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in roots
    }


def texts(module: Any) -> set[str]:
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"cuda[A-Z]\w+", node.value)
    }


def test_the_adapters_use_only_what_the_doubles_have() -> None:
    used = texts(cuda_bindings_memory) | texts(cuda_graph)
    for module in (cuda_bindings_memory, cuda_graph):
        used |= accesses(module, "runtime", "self._runtime")
    assert len(used) > 15
    assert used <= set(FUNCTIONS)
    used = accesses(pycuda_memory, "cuda", "self._cuda")
    known = {name.partition(".")[0] for name in PYCUDA_NAMES}
    assert len(used) > 8
    assert used <= known


def test_a_context_is_never_made_behind_the_scenes() -> None:
    source = Path(pycuda_memory.__file__).read_text(encoding="utf-8")
    tree = ast.parse(source)
    imported = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    ]
    assert not [name for name in imported if "autoinit" in name]
    assert "retain_primary_context" in source


@pytest.mark.parametrize("name", CALLS)
def test_the_double_has_the_parameters_of_the_real_runtime(
    runtime: Any, name: str
) -> None:
    signature = re.search(r"\((.*)\)", getattr(runtime, name).__doc__.splitlines()[0])
    assert signature is not None
    real = [part for part in signature[1].split(",") if part.strip()]
    double = list(inspect.signature(getattr(FakeRuntime, name)).parameters)[1:]
    names = [part.partition(":")[0].split()[-1] for part in real]
    assert double == names


@pytest.mark.parametrize("name", ["cudaMemcpyKind", "cudaStreamCaptureMode"])
def test_the_doubles_enumerations_are_the_real_ones(runtime: Any, name: str) -> None:
    for key, value in vars(getattr(FakeRuntime, name)).items():
        assert int(getattr(getattr(runtime, name), key)) == value


def test_the_real_runtime_takes_our_kinds_of_arguments(runtime: Any) -> None:
    """Without a driver each call says so; a wrong type would raise instead."""
    if int(runtime.cudaSetDevice(0)[0]) == 0:
        pytest.skip("there is a GPU here; bench/gpu_check.py does this for real")
    event, graph = runtime.cudaEvent_t(), runtime.cudaGraphExec_t()
    up = runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
    mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    calls: dict[str, tuple[Any, ...]] = {
        "cudaHostAlloc": (64, 2),
        "cudaHostGetDevicePointer": (4096, 0),
        "cudaFreeHost": (4096,),
        "cudaMalloc": (64,),
        "cudaFree": (4096,),
        "cudaStreamCreateWithFlags": (1,),
        "cudaStreamDestroy": (runtime.cudaStream_t(),),
        "cudaStreamWaitEvent": (4096, event, 0),
        "cudaEventCreateWithFlags": (2,),
        "cudaEventRecord": (event, 4096),
        "cudaEventSynchronize": (event,),
        "cudaEventDestroy": (event,),
        "cudaMemcpyAsync": (4096, 8192, 64, up, 4096),
        "cudaStreamBeginCapture": (4096, mode),
        "cudaStreamEndCapture": (4096,),
        "cudaGraphLaunch": (graph, 4096),
        "cudaGraphExecDestroy": (graph,),
    }
    for name, arguments in calls.items():
        error = getattr(runtime, name)(*arguments)[0]
        assert "cudaErrorInsufficientDriver" in error_name(runtime, error), name


def test_the_double_of_pycuda_has_only_real_names() -> None:
    members = {name for name in vars(FakePycuda) if not name.startswith("_")}
    known = {name.partition(".")[0] for name in PYCUDA_NAMES}
    assert members <= known
    for name in ("pagelocked_empty", "memcpy_htod_async", "Stream", "Event", "init"):
        signature = str(inspect.signature(getattr(FakePycuda, name)))
        double = re.sub(r": [^,=)]+", "", signature.partition(" ->")[0])
        plain = double.replace("(self, ", "").rstrip(")").replace("= ", "=")
        assert plain == PYCUDA_NAMES[name], name


def make(adapter: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, SimulatedGpu]:
    gpu = SimulatedGpu()
    driver, runtime = FakePycuda(gpu), FakeRuntime(gpu)
    monkeypatch.setattr(pycuda_memory, "import_driver", lambda: driver)
    monkeypatch.setattr(pycuda_memory, "import_version", lambda: (2026, 1))
    monkeypatch.setattr(cuda_bindings_memory, "import_runtime", lambda: runtime)
    opener = {"pycuda": PycudaMemory, "cuda-bindings": CudaBindingsMemory}[adapter]
    return opener(0), gpu


@pytest.mark.parametrize("adapter", ["pycuda", "cuda-bindings"])
def test_bytes_go_up_and_down(adapter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    memory, gpu = make(adapter, monkeypatch)
    up, down = memory.pinned((4, 8, 3)), memory.pinned((4, 8, 3))
    block, stream, event = memory.device(96), memory.stream(), memory.event()
    up.array[...] = np.arange(96, dtype=np.uint8).reshape(4, 8, 3)
    memory.copy(block, up, stream)
    memory.copy(down, block, stream)
    stream.record(event)
    event.synchronize()
    np.testing.assert_array_equal(down.array, up.array)
    assert (up.device_address, down.array.flags.c_contiguous) == (0, True)
    for thing in (event, stream, block, down, up):
        thing.free()
        thing.free()
    memory.close()
    memory.close()
    gpu.check_closed()


@pytest.mark.parametrize("adapter", ["pycuda", "cuda-bindings"])
def test_mapped_memory_has_an_address_for_the_gpu(
    adapter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, _ = make(adapter, monkeypatch)
    mapped = memory.pinned((16,), is_mapped=True)
    assert mapped.device_address == mapped.array.ctypes.data
    with pytest.raises(TypeError, match="one pinned array and one device block"):
        memory.copy(mapped, mapped, memory.stream())
    mapped.free()
    memory.close()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("cudaErrorMemoryAllocation out of memory", "no memory left"),
        ("MemoryError cuMemAlloc failed: out of memory", "no memory left"),
        ("cudaErrorDevicesUnavailable", "the GPU is gone"),
        ("LogicError cuCtxSynchronize failed: no device", "the GPU is gone"),
        ("cudaErrorIllegalAddress", "only in a new process"),
        ("LaunchError cuEventSynchronize failed: unspecified", "only in a new process"),
    ],
)
def test_each_kind_of_failure_has_its_advice(error: str, reason: str) -> None:
    assert reason in str(lost("cudaMalloc", error))
    assert "cudaMalloc" in str(lost("cudaMalloc", error))


def test_the_first_adapter_that_opens_is_taken(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    def absent(_ordinal: int) -> DeviceMemory:
        raise EngineError("pycuda cannot be used: not installed")

    memory, _ = make("cuda-bindings", monkeypatch)
    assert open_first((absent, lambda _: memory), 0) is memory
    assert "pycuda cannot be used" in caplog.text
    with pytest.raises(EngineError, match="not installed; pycuda cannot"):
        open_first((absent, absent), 0)


def test_here_the_real_libraries_say_what_is_missing(runtime: Any) -> None:
    if int(runtime.cudaSetDevice(0)[0]) == 0:
        pytest.skip("there is a GPU here")
    with pytest.raises(EngineError, match="cannot use GPU 0: cudaErrorInsufficientDr"):
        CudaBindingsMemory()
    with pytest.raises(EngineError, match=r"pycuda cannot (be used|use GPU 0)"):
        PycudaMemory()
