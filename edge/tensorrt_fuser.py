"""An exported network in TensorRT, or TensorRT for RTX, on an NVIDIA GPU.

One thread of its own has the device, its context, the streams and the engine; callers
fill page-locked slots and ask. An engine is never built here, and not one byte of it is
loaded before its manifest fits this machine.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from bifocus.cuda_device import CudaDevice, read_cuda_device
from bifocus.edge.cuda_graph import Recorder, record_graph
from bifocus.edge.device_memory import DeviceMemory, open_device_memory
from bifocus.edge.network_inputs import (
    NetworkForm,
    check_tensors,
    load_form,
    mend,
    read_file,
)
from bifocus.edge.tensorrt_slots import SlotRing
from bifocus.engine_key import check_built_here
from bifocus.engine_manifest import TensorSpec
from bifocus.errors import EngineError, EngineLostError
from bifocus.optics_inputs import Float32
from bifocus.records import UInt8Image
from bifocus.tensorrt_api import ICudaEngine, TensorRT
from bifocus.tensorrt_module import Flavour, load_tensorrt

_T = TypeVar("_T")
_MOST_MESSAGES = 5
_FIRST = 0  # the slot that a stream fills first
_WARNING = 2  # ILogger.Severity: internal error 0, error 1, warning 2


class TensorrtEngine:
    """A network from one `.engine` file, for the one tile size it was built for.

    Parameters
    ----------
    path
        The file; its manifest lies beside it.
    trt
        The module; by default the one that built the engine.
    device
        The GPU; by default the driver is asked.
    open_memory
        Opens the GPU's memory; called in the thread that will use it.
    record
        Records CUDA graphs.
    is_trial
        Take an unverified engine: for the check that is to verify it.
    is_whole
        Take an engine with physics inside; it is then a
        `bifocus.edge.whole_fuser.WholeEngine`, otherwise a `NetworkEngine`.

    Raises
    ------
    EngineError
        If TensorRT or a GPU is missing, or the engine is damaged, unverified, or built
        for another machine: what differs, and the command that mends it.
    """

    def __init__(
        self,
        path: Path,
        *,
        trt: TensorRT | None = None,
        device: CudaDevice | None = None,
        open_memory: Callable[[], DeviceMemory] = open_device_memory,
        record: Recorder = record_graph,
        is_trial: bool = False,
        is_whole: bool = False,
    ) -> None:
        self.form = load_form(path, is_trial=is_trial, is_whole=is_whole)
        manifest = self.form.manifest
        if manifest is None or self.form.size_px is None or manifest.batch != 1:
            msg = f"{path}: it has no fixed size, or a batch other than 1"
            raise EngineError(msg + mend(self.form))
        trt = trt or load_tensorrt(_flavour(manifest.built_with))
        device = device or read_cuda_device()
        check_built_here(manifest, trt, device)
        self._plan: bytes | None = read_file(self.form, path)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tensorrt")
        self._gpu: _Gpu | None = None
        self._dead: str | None = None
        try:
            self._gpu = self._ask(
                lambda: _Gpu(self, trt, device.is_integrated, open_memory, record)
            )
        except BaseException:
            self._thread.shutdown()
            raise
        finally:
            self._plan = None
        self.name = (
            f"{manifest.built_with['tensorrt']}, {device.name}, "
            f"{self._gpu.memory.name}{self._gpu.ring.notes}"
        )

    @property
    def plan(self) -> bytes:
        """The engine's bytes, while it is being opened."""
        return self._plan or b""

    def stream(
        self, windows: Iterable[Mapping[str, UInt8Image]]
    ) -> Iterator[UInt8Image]:
        """Yield each fused window; see `bifocus.edge.network_fuser.NetworkEngine`.

        While one window is computed, the next one is uploaded.
        """
        gpu = self._usable()
        ring = gpu.ring
        busy: deque[int] = deque()
        free = deque(range(ring.n_slots))
        try:
            for window in windows:
                if not free:
                    number = busy.popleft()
                    yield self._finish(number)
                    free.append(number)
                self._check_size(window)
                number = free.popleft()
                ring.fill(number, window)
                busy.append(number)
                self._ask(partial(ring.start, number))
            while busy:
                yield self._finish(busy.popleft())
        finally:
            # Whoever stopped asking left work behind: a slot in flight is not free.
            while busy and self._dead is None:
                self._finish(busy.popleft())

    def set_tables(self, tables: Mapping[str, Float32]) -> None:
        """Take over the tables; see `bifocus.edge.whole_fuser.WholeEngine`."""
        gpu = self._usable()
        self._ask(lambda: gpu.ring.set_tables(tables))

    def lock_frames(self, frames: Sequence[UInt8Image]) -> None:
        """Page-lock the memory of frames; see `bifocus.edge.fusers.FrameLocker`."""
        gpu = self._usable()
        self._ask(lambda: gpu.ring.lock(frames))

    def fuse_pair(
        self, shots: Mapping[str, UInt8Image]
    ) -> tuple[UInt8Image, dict[str, Float32]]:
        """Return picture and numbers; see `bifocus.edge.whole_fuser.WholeEngine`."""
        gpu = self._usable()
        (fused,) = self.stream([shots])
        return fused.copy(), gpu.ring.numbers(_FIRST)

    def close(self) -> None:
        """Free everything in the thread that made it, and end that thread."""
        gpu, self._gpu = self._gpu, None
        if gpu is None:
            return
        try:
            self._thread.submit(gpu.close).result()
        except EngineLostError:
            # A GPU that is lost frees nothing; the process's end does.
            if self._dead is None:
                raise
        finally:
            self._thread.shutdown()

    def _finish(self, number: int) -> UInt8Image:
        gpu = self._usable()
        self._ask(lambda: gpu.ring.wait(number))
        return gpu.ring.result(number)

    def _usable(self) -> "_Gpu":
        if self._dead is not None:
            raise EngineLostError(self._dead)
        if self._gpu is None:
            msg = f"{self.form.network}: the engine is closed"
            raise EngineError(msg)
        return self._gpu

    def _ask(self, work: Callable[[], _T]) -> _T:
        """Do it in the GPU's thread; a CUDA error is the end of this engine."""
        try:
            return self._thread.submit(work).result()
        except EngineLostError as error:
            self._dead = str(error)
            raise

    def _check_size(self, window: Mapping[str, UInt8Image]) -> None:
        height, width = window[self.form.inputs[0]].shape[:2]
        if (height, width) != self.form.size_px:
            msg = (
                f"{self.form.network}: built for {self.form.size_px}, got "
                f"{(height, width)} (rows, columns){mend(self.form)}"
            )
            raise EngineError(msg)


class _Gpu:
    """All that lives in the GPU's thread."""

    def __init__(
        self,
        owner: TensorrtEngine,
        trt: TensorRT,
        is_shared: bool,
        open_memory: Callable[[], DeviceMemory],
        record: Recorder,
    ) -> None:
        self.memory = open_memory()
        try:
            self._runtime, self._engine = _deserialize(trt, owner.plan, owner.form)
            _check_engine(trt, self._engine, owner.form)
            self._context = self._engine.create_execution_context()
            if self._context is None:
                msg = f"{owner.form.network}: no memory on the GPU for its context"
                raise EngineLostError(msg)
            self.ring = SlotRing(
                self.memory,
                self._context,
                owner.form,
                is_mapped=is_shared,
                record=record,
            )
        except BaseException:
            with suppress(EngineLostError):  # the first failure is the one to tell
                self.memory.close()
            raise

    def close(self) -> None:
        try:
            self.ring.free()
            # TensorRT's own memory goes with its objects, while the context is there.
            self._context = None
            del self.ring, self._engine, self._runtime
        finally:
            self.memory.close()


def _deserialize(
    trt: TensorRT, plan: bytes, form: NetworkForm
) -> tuple[Any, ICudaEngine]:
    """Return the runtime and the engine; TensorRT says None where others raise."""
    messages: deque[str] = deque(maxlen=_MOST_MESSAGES)
    try:
        runtime = trt.Runtime(_make_logger(trt, messages))
    except TypeError as error:  # what its bindings make of a null pointer
        msg = f"TensorRT finds no usable driver: {error}; see nvidia-smi"
        raise EngineError(msg) from error
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        said = "; ".join(messages) or "it gave no reason"
        msg = f"{form.network}: TensorRT refuses the engine: {said}{mend(form)}"
        raise EngineError(msg)
    return runtime, engine


def _check_engine(trt: TensorRT, engine: ICudaEngine, form: NetworkForm) -> None:
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    found = [_spec(trt, engine, name) for name in names]
    check_tensors(form, found, f"{form.network}, the engine")
    outputs = [
        name
        for name in names
        if engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT
    ]
    expected = {form.output, *(spec.name for spec in form.numbers)}
    if set(outputs) != expected:
        msg = (
            f"{form.network}: the engine gives {', '.join(outputs)}, expected "
            f"{', '.join(sorted(expected))}"
        )
        raise EngineError(msg + mend(form))


def _spec(trt: TensorRT, engine: ICudaEngine, name: str) -> TensorSpec:
    """Return a tensor as the manifest names it; a shape where it is no picture."""
    shape = tuple(engine.get_tensor_shape(name))
    dtype = _dtype(trt, engine.get_tensor_dtype(name))
    is_picture = dtype == "uint8" and len(shape) == 4
    return TensorSpec(
        name=name,
        dtype=dtype,
        layout="NHWC" if shape and shape[-1] == 3 else "NCHW",
        shape=None if is_picture else shape,
    )


def _dtype(trt: TensorRT, dtype: object) -> Any:
    kinds = {"uint8": trt.DataType.UINT8, "float16": trt.DataType.HALF}
    return next((name for name, kind in kinds.items() if dtype == kind), "float32")


def _make_logger(trt: TensorRT, messages: deque[str]) -> object:
    base: Any = trt.ILogger

    class LoadLogger(base):  # type: ignore[misc]
        def __init__(self) -> None:
            base.__init__(self)  # pybind11 wants it called by its own name

        def log(self, severity: Any, msg: str) -> None:
            if int(severity) < _WARNING:
                messages.append(msg)

    return LoadLogger()


def _flavour(built_with: Mapping[str, str]) -> Flavour:
    is_rtx = built_with.get("tensorrt", "").startswith("tensorrt_rtx")
    return "tensorrt_rtx" if is_rtx else "tensorrt"
