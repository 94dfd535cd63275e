"""GPU memory through NVIDIA's own cuda-bindings: the runtime API, primary context.

Every call returns a tuple that begins with the error; none raises.
"""

import ctypes
import importlib.metadata
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from bifocus.edge.device_memory import DeviceBlock, Event, PinnedArray, Stream, lost
from bifocus.errors import EngineError

if TYPE_CHECKING:
    from bifocus.records import UInt8Image

# Of cuda_runtime_api.h.
_HOST_DEFAULT, _HOST_MAPPED = 0, 2
_REGISTER_DEFAULT = 0
_NON_BLOCKING = 1
# A thread that waits sleeps: one that spins takes a core from the capture.
_BLOCKING_SYNC, _DISABLE_TIMING = 1, 2

Call = Callable[..., Any]


class CudaBindingsMemory:
    """A `bifocus.edge.device_memory.DeviceMemory` for the calling thread.

    Raises
    ------
    EngineError
        If cuda-bindings is not installed, or finds no driver or GPU.
    """

    def __init__(self, ordinal: int = 0) -> None:
        self._runtime = import_runtime()
        self._call = make_caller(self._runtime)
        error = self._runtime.cudaSetDevice(ordinal)[0]
        if int(error):
            name = error_name(self._runtime, error)
            msg = f"cuda-bindings cannot use GPU {ordinal}: {name}"
            raise EngineError(msg)
        self.name = f"cuda-bindings {importlib.metadata.version('cuda-bindings')}"

    def pinned(self, shape: tuple[int, ...], *, is_mapped: bool = False) -> PinnedArray:
        """Return page-locked bytes."""
        return _Pinned(self._call, shape, is_mapped=is_mapped)

    def lock(self, array: "UInt8Image") -> PinnedArray:
        """Page-lock memory that is there."""
        return _Locked(self._call, array)

    def device(self, n_bytes: int) -> DeviceBlock:
        """Return memory on the GPU."""
        return _Block(self._call, n_bytes)

    def stream(self) -> Stream:
        """Return a queue."""
        return _Stream(self._call)

    def event(self) -> Event:
        """Return a mark."""
        return _Event(self._call)

    def copy(
        self,
        target: PinnedArray | DeviceBlock,
        source: PinnedArray | DeviceBlock,
        stream: Stream,
    ) -> None:
        """Queue a copy."""
        kinds = self._runtime.cudaMemcpyKind
        if isinstance(source, _Pinned | _Locked) and isinstance(target, _Block):
            to, from_, n_bytes = target.address, source.address, source.array.nbytes
            kind = kinds.cudaMemcpyHostToDevice
        elif isinstance(source, _Block) and isinstance(target, _Pinned):
            to, from_, n_bytes = target.address, source.address, target.array.nbytes
            kind = kinds.cudaMemcpyDeviceToHost
        else:
            msg = "a copy goes between one pinned array and one device block"
            raise TypeError(msg)
        self._call("cudaMemcpyAsync", to, from_, n_bytes, kind, stream.handle)

    def close(self) -> None:
        """Do nothing: the runtime's primary context is the process's."""


class _Pinned:
    def __init__(self, call: Call, shape: tuple[int, ...], *, is_mapped: bool) -> None:
        self._call = call
        n_bytes = int(np.prod(shape))
        flags = _HOST_MAPPED if is_mapped else _HOST_DEFAULT
        self.address = int(call("cudaHostAlloc", n_bytes, flags))
        memory = (ctypes.c_uint8 * n_bytes).from_address(self.address)
        self.array: UInt8Image = np.ctypeslib.as_array(memory).reshape(shape)
        self.device_address = 0
        if is_mapped:
            self.device_address = int(call("cudaHostGetDevicePointer", self.address, 0))

    def free(self) -> None:
        address, self.address = self.address, 0
        if address:
            self._call("cudaFreeHost", address)


class _Locked:
    device_address = 0

    def __init__(self, call: Call, array: "UInt8Image") -> None:
        self._call = call
        self.array = array
        self.address = int(array.ctypes.data)
        call("cudaHostRegister", self.address, array.nbytes, _REGISTER_DEFAULT)

    def free(self) -> None:
        address, self.address = self.address, 0
        if address:
            self._call("cudaHostUnregister", address)


class _Block:
    def __init__(self, call: Call, n_bytes: int) -> None:
        self._call = call
        self.address = int(call("cudaMalloc", n_bytes))

    def free(self) -> None:
        address, self.address = self.address, 0
        if address:
            self._call("cudaFree", address)


class _Event:
    def __init__(self, call: Call) -> None:
        self._call = call
        self.inner: Any = call(
            "cudaEventCreateWithFlags", _BLOCKING_SYNC | _DISABLE_TIMING
        )

    def synchronize(self) -> None:
        self._call("cudaEventSynchronize", self.inner)

    def free(self) -> None:
        inner, self.inner = self.inner, None
        if inner is not None:
            self._call("cudaEventDestroy", inner)


class _Stream:
    def __init__(self, call: Call) -> None:
        self._call = call
        self._inner: Any = call("cudaStreamCreateWithFlags", _NON_BLOCKING)
        self.handle = int(self._inner)

    def record(self, event: Event) -> None:
        self._call("cudaEventRecord", _own(event), self.handle)

    def wait_for(self, event: Event) -> None:
        self._call("cudaStreamWaitEvent", self.handle, _own(event), 0)

    def free(self) -> None:
        inner, self._inner = self._inner, None
        if inner is not None:
            self._call("cudaStreamDestroy", inner)


def import_runtime() -> Any:
    """Return the runtime module of cuda-bindings.

    Raises
    ------
    EngineError
        If it is not installed or cannot be loaded.
    """
    try:
        from cuda.bindings import runtime
    except (ImportError, OSError, RuntimeError) as error:
        msg = f"cuda-bindings cannot be used: {error}; pip install 'bifocus[gpu]'"
        raise EngineError(msg) from error
    return runtime


def make_caller(runtime: Any) -> Call:
    """Return a function that calls the runtime by name and checks the answer.

    It gives the call's one result, or None, and raises `EngineLostError`.
    """

    def call(function: str, *arguments: object) -> Any:
        error, *results = getattr(runtime, function)(*arguments)
        if int(error):
            raise lost(function, error_name(runtime, error))
        return results[0] if results else None

    return call


def error_name(runtime: Any, error: object) -> str:
    """Return CUDA's own name and sentence for an error."""
    name, text = (
        runtime.cudaGetErrorName(error)[1],
        runtime.cudaGetErrorString(error)[1],
    )
    return " ".join(
        part.decode() if isinstance(part, bytes) else str(part) for part in (name, text)
    )


def _own(event: Event) -> Any:
    if not isinstance(event, _Event):
        msg = "an event of another adapter"
        raise TypeError(msg)
    return event.inner
