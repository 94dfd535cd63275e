"""pycuda's driver and cuda-bindings' runtime, both over one simulated GPU.

They have the members that the adapters use and no others, with the parameters of the
real ones; tests compare these with pycuda's source and the installed cuda-bindings.
"""

import ctypes
import gc
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.edge.simulated_gpu import Allocation, SimulatedCudaError, SimulatedGpu

# Of pycuda 2026.1, src/wrapper/wrap_cudadrv.cpp: name -> parameters, without self.
PYCUDA_NAMES = {
    "init": "flags=0",
    "Device": "number",
    "Device.retain_primary_context": "",
    "Context.push": "",
    "Context.pop": "",
    "Context.detach": "",
    "Stream": "flags=0",
    "Stream.handle": None,
    "Stream.wait_for_event": "event",
    "Event": "flags",
    "Event.record": "stream=None",
    "Event.synchronize": "",
    "pagelocked_empty": "shape, dtype, order='C', mem_flags=0",
    "HostPointer.get_device_pointer": "",
    "PagelockedHostAllocation.free": "",
    "register_host_memory": "ary, flags=0",
    "RegisteredHostMemory.unregister": "",
    "mem_alloc": "bytes",
    "DeviceAllocation.free": "",
    "DeviceAllocation.__int__": "",
    "memcpy_htod_async": "dest, src, stream=None",
    "memcpy_dtoh_async": "dest, src, stream=None",
    "host_alloc_flags.DEVICEMAP": None,
    "event_flags.BLOCKING_SYNC": None,
    "event_flags.DISABLE_TIMING": None,
    "Error": None,
}


class PycudaError(Exception):
    """`pycuda.driver.Error`."""


class FakePycuda:
    """`pycuda.driver`."""

    Error = PycudaError
    host_alloc_flags = SimpleNamespace(DEVICEMAP=2)
    event_flags = SimpleNamespace(BLOCKING_SYNC=1, DISABLE_TIMING=2)

    def __init__(self, gpu: SimulatedGpu) -> None:
        self._gpu = gpu
        self.contexts: list[str] = []

    def init(self, flags: int = 0) -> None:
        assert flags == 0
        self._do(lambda: self._gpu.enter("init"))

    def Device(self, number: int) -> Any:  # noqa: N802
        assert number == 0
        context = SimpleNamespace(
            push=lambda: self.contexts.append("primary"),
            pop=lambda: self.contexts.pop(),
            detach=lambda: self._do(lambda: self._gpu.enter("detach")),
        )
        return SimpleNamespace(retain_primary_context=lambda: context)

    def Stream(self, flags: int = 0) -> Any:  # noqa: N802
        return _PycudaStream(self, flags)

    def Event(self, flags: int) -> Any:  # noqa: N802
        return _PycudaEvent(self, flags)

    def pagelocked_empty(
        self, shape: Any, dtype: Any, order: str = "C", mem_flags: int = 0
    ) -> Any:
        assert (dtype, order) == (np.uint8, "C")
        allocation = self._do(lambda: self._gpu.allocate("host", int(np.prod(shape))))
        return np.asarray(_PycudaHost(self, allocation, shape, mem_flags))

    def register_host_memory(self, ary: Any, flags: int = 0) -> Any:
        assert flags == 0
        assert ary.flags.c_contiguous
        allocation = self._do(lambda: self._gpu.register(_bytes_of(ary)))
        return np.asarray(_PycudaRegistered(self, allocation, ary))

    def mem_alloc(self, bytes: int) -> Any:
        return _PycudaBlock(self, self._do(lambda: self._gpu.allocate("device", bytes)))

    def memcpy_htod_async(self, dest: Any, src: Any, stream: Any = None) -> None:
        assert isinstance(dest, _PycudaBlock)
        place = src.ctypes.data
        self._do(lambda: self._gpu.copy(int(dest), place, src.nbytes, stream.queue))

    def memcpy_dtoh_async(self, dest: Any, src: Any, stream: Any = None) -> None:
        assert isinstance(src, _PycudaBlock)
        place = dest.ctypes.data
        self._do(lambda: self._gpu.copy(place, int(src), dest.nbytes, stream.queue))

    def _do(self, work: Any) -> Any:
        try:
            return work()
        except SimulatedCudaError as error:
            raise PycudaError(str(error)) from error


class _PycudaHost:
    def __init__(
        self, cuda: FakePycuda, allocation: Allocation, shape: Any, flags: int
    ) -> None:
        self._cuda, self._allocation, self._flags = cuda, allocation, flags
        self.__array_interface__ = {
            "shape": tuple(shape),
            "typestr": "|u1",
            "data": (allocation.address, False),
            "version": 3,
        }

    def get_device_pointer(self) -> int:
        assert self._flags == FakePycuda.host_alloc_flags.DEVICEMAP
        return self._allocation.address

    def free(self) -> None:
        self._cuda._do(lambda: self._cuda._gpu.free(self._allocation))


class _PycudaRegistered:
    def __init__(self, cuda: FakePycuda, allocation: Allocation, ary: Any) -> None:
        self._cuda, self._allocation, self.base = cuda, allocation, ary
        self.__array_interface__ = ary.__array_interface__

    def unregister(self) -> None:
        self._cuda._do(lambda: self._cuda._gpu.free(self._allocation))


class _PycudaBlock:
    def __init__(self, cuda: FakePycuda, allocation: Allocation) -> None:
        self._cuda, self._allocation = cuda, allocation

    def __int__(self) -> int:
        return self._allocation.address

    def free(self) -> None:
        self._cuda._do(lambda: self._cuda._gpu.free(self._allocation))


class _PycudaStream:
    def __init__(self, cuda: FakePycuda, flags: int) -> None:
        assert flags == 1, "a stream that waits for the default one"
        self._cuda = cuda
        self.queue = cuda._do(cuda._gpu.stream)
        self.handle = self.queue.handle

    def wait_for_event(self, event: Any) -> None:
        self._cuda._do(lambda: self._cuda._gpu.wait(self.queue, event.mark))

    def __del__(self) -> None:
        _forget(self._cuda, self.queue)


class _PycudaEvent:
    def __init__(self, cuda: FakePycuda, flags: int) -> None:
        assert flags == 3, "a wait that spins, or an event that takes the time"
        self._cuda = cuda
        self.mark = cuda._do(cuda._gpu.event)

    def record(self, stream: Any = None) -> None:
        self._cuda._do(lambda: self._cuda._gpu.record(self.mark, stream.queue))

    def synchronize(self) -> None:
        self._cuda._do(lambda: self._cuda._gpu.synchronize(self.mark))

    def __del__(self) -> None:
        _forget(self._cuda, self.mark)


def _bytes_of(ary: Any) -> Any:
    return ary.reshape(-1).view(np.uint8)


def _forget(cuda: FakePycuda, thing: Any) -> None:
    """Destroy with the last reference, as pycuda does; its destructors say nothing."""
    gc.collect(0)
    live = cuda._gpu._live
    live[:] = [part for part in live if part is not thing]


class RuntimeCode(int):
    """A `cudaError_t` with its name."""

    name: str

    def __new__(cls, value: int, name: str) -> "RuntimeCode":
        made = super().__new__(cls, value)
        made.name = name
        return made


_SUCCESS = RuntimeCode(0, "cudaSuccess")


class FakeRuntime:
    """`cuda.bindings.runtime`."""

    cudaMemcpyKind = SimpleNamespace(  # noqa: N815
        cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2
    )
    cudaStreamCaptureMode = SimpleNamespace(  # noqa: N815
        cudaStreamCaptureModeThreadLocal=1
    )

    def __init__(self, gpu: SimulatedGpu) -> None:
        self._gpu = gpu
        self._graphs: dict[int, Any] = {}
        self._things: dict[int, Any] = {}

    def cudaSetDevice(self, device: int) -> Any:  # noqa: N802
        assert device == 0
        return self._do(lambda: self._gpu.enter("set device"))

    def cudaGetErrorName(self, error: RuntimeCode) -> Any:  # noqa: N802
        return _SUCCESS, error.name.encode()

    def cudaGetErrorString(self, error: RuntimeCode) -> Any:  # noqa: N802
        return _SUCCESS, b"a sentence"

    def cudaGetLastError(self) -> Any:  # noqa: N802
        return (_SUCCESS,)

    def cudaHostAlloc(self, size: int, flags: int) -> Any:  # noqa: N802
        assert flags in (0, 2)
        return self._do(lambda: self._gpu.allocate("host", size).address)

    def cudaHostGetDevicePointer(self, pHost: int, flags: int) -> Any:  # noqa: N802, N803
        assert flags == 0
        return self._do(lambda: self._gpu.find(pHost).address)

    def cudaFreeHost(self, ptr: int) -> Any:  # noqa: N802
        return self._do(lambda: self._gpu.free(self._gpu.find(ptr)))

    def cudaHostRegister(self, ptr: int, size: int, flags: int) -> Any:  # noqa: N802
        assert flags == 0
        memory = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(ptr))

        def register() -> None:
            self._gpu.register(memory)

        return self._do(register)

    def cudaHostUnregister(self, ptr: int) -> Any:  # noqa: N802
        return self._do(lambda: self._gpu.free(self._gpu.find(ptr)))

    def cudaMalloc(self, size: int) -> Any:  # noqa: N802
        return self._do(lambda: self._gpu.allocate("device", size).address)

    def cudaFree(self, devPtr: int) -> Any:  # noqa: N802, N803
        return self._do(lambda: self._gpu.free(self._gpu.find(devPtr)))

    def cudaStreamCreateWithFlags(self, flags: int) -> Any:  # noqa: N802
        assert flags == 1, "a stream that waits for the default one"
        return self._do(lambda: self._gpu.stream().handle)

    def cudaStreamDestroy(self, stream: int) -> Any:  # noqa: N802
        return self._do(lambda: self._gpu.free(self._gpu.queue_of(stream)))

    def cudaStreamWaitEvent(self, stream: int, event: int, flags: int) -> Any:  # noqa: N802
        assert flags == 0
        queue = self._gpu.queue_of(stream)
        return self._do(lambda: self._gpu.wait(queue, self._things[event]))

    def cudaEventCreateWithFlags(self, flags: int) -> Any:  # noqa: N802
        assert flags == 3, "a wait that spins, or an event that takes the time"
        return self._do(lambda: self._number(self._gpu.event()))

    def cudaEventRecord(self, event: int, stream: int) -> Any:  # noqa: N802
        queue = self._gpu.queue_of(stream)
        return self._do(lambda: self._gpu.record(self._things[event], queue))

    def cudaEventSynchronize(self, event: int) -> Any:  # noqa: N802
        return self._do(lambda: self._gpu.synchronize(self._things[event]))

    def cudaEventDestroy(self, event: int) -> Any:  # noqa: N802
        return self._do(lambda: self._gpu.free(self._things[event]))

    def cudaMemcpyAsync(  # noqa: N802
        self, dst: int, src: int, count: int, kind: int, stream: int
    ) -> Any:
        expected = {1: ("host", "device"), 2: ("device", "host")}[kind]
        kinds = self._gpu.find(src).kind, self._gpu.find(dst).kind
        assert kinds == expected, (kinds, kind)
        queue = self._gpu.queue_of(stream)
        return self._do(lambda: self._gpu.copy(dst, src, count, queue))

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> Any:  # noqa: N802
        assert mode == 1
        return self._do(lambda: self._begin(stream))

    def cudaStreamEndCapture(self, stream: int) -> Any:  # noqa: N802
        queue = self._gpu.queue_of(stream)
        recorded, queue.recording = queue.recording, None
        return self._do(lambda: self._number(self._gpu.keep_graph(recorded or [])))

    def cudaGraphInstantiate(self, graph: int, flags: int) -> Any:  # noqa: N802
        assert flags == 0
        made = list(self._things[graph])
        return self._do(lambda: self._number(self._gpu.keep_graph(made)))

    def cudaGraphDestroy(self, graph: int) -> Any:  # noqa: N802
        return self._do(lambda: self._gpu.free(self._things[graph]))

    def cudaGraphExecDestroy(self, graphExec: int) -> Any:  # noqa: N802, N803
        return self._do(lambda: self._gpu.free(self._things[graphExec]))

    def cudaGraphLaunch(self, graphExec: int, stream: int) -> Any:  # noqa: N802, N803
        queue = self._gpu.queue_of(stream)

        def launch() -> None:
            self._gpu.enter("launch graph")
            self._gpu.launch_recorded(queue, self._things[graphExec])

        return self._do(launch)

    def _begin(self, stream: int) -> None:
        self._gpu.enter("record graph")
        self._gpu.queue_of(stream).recording = []

    def _number(self, thing: Any) -> int:
        number = 5000 + len(self._things)
        self._things[number] = thing
        return number

    def _do(self, work: Any) -> Any:
        try:
            result = work()
        except SimulatedCudaError as error:
            return RuntimeCode(2, str(error)), None
        return (_SUCCESS,) if result is None else (_SUCCESS, result)
