"""The loop's way over a GPU: page-locked slots, three streams, events, one CUDA graph.

A tile's pictures go in from page-locked memory on one stream, are computed on a second
and come back on a third, each waiting for an event of the one before, so that the next
tile's copy overlaps the computation. Memory, streams and events are those of the loop
itself (`bifocus.edge.device_memory`); torch computes in between.
"""

import contextlib
import ctypes
import itertools
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.gpu_engines import NotRunError, WholeFusion
from bench.gpu_networks import Scale, calm_head, compare, half_network, pictures
from bench.gpu_timing import graphed, percentiles_ms
from bifocus.edge.buffer_pool import BufferPool
from bifocus.edge.device_memory import DeviceBlock, DeviceMemory, Event, PinnedArray
from bifocus.errors import EngineError
from bifocus.model.network_registry import build_network

_NETWORK = "base"
_DEPTH = 2  # enough where copies take less than computing
# torch gives these no types.
_event: Any = torch.cuda.Event
_stream: Any = torch.cuda.Stream
_external_stream: Any = torch.cuda.ExternalStream


def check_loop(port: str, device: torch.device, scale: Scale) -> dict[str, Any]:
    """Return latency and period of tiles, and how far the last picture is from right.

    The latency of a tile runs from the order to copy its first byte to its last byte's
    arrival; the period is the time between two tiles when they come without a pause.

    Parameters
    ----------
    port
        `torch`, `pycuda` or `cuda-bindings`; `whole-fusion` is torch's, and computes
        the physics as well.

    Raises
    ------
    NotRunError
        If that port is not here.
    """
    torch.manual_seed(0)
    network: Any
    if port == "whole-fusion":
        network = WholeFusion(_NETWORK, device, scale)
    else:
        network = half_network(calm_head(build_network(_NETWORK)), device)
    memory = _open(port, device)
    loop = _Loop(memory, network, device, scale)
    loop.run(_DEPTH)
    latency_s, period_s = loop.run(scale.count)
    with torch.no_grad():
        expected = network(*(image.to(device) for image in loop.images)).cpu().numpy()
    figures: dict[str, Any] = compare(loop.slots[0].out.array, expected)
    loop.free()
    memory.close()
    periods = percentiles_ms(period_s)
    figures |= percentiles_ms(latency_s)
    return figures | {f"period_{key}": value for key, value in periods.items()}


def _open(port: str, device: torch.device) -> DeviceMemory:
    if port in ("torch", "whole-fusion"):
        return TorchMemory(device)
    if device.type != "cuda":
        raise NotRunError(f"{port} reaches a GPU only")
    try:
        if port == "pycuda":
            from bifocus.edge.pycuda_memory import PycudaMemory

            return PycudaMemory(0)
        from bifocus.edge.cuda_bindings_memory import CudaBindingsMemory

        return CudaBindingsMemory(0)
    except EngineError as error:
        raise NotRunError(str(error)) from error


@dataclass(slots=True)
class _Slot:
    """Where one tile is on its way: here, there, and back."""

    here: list[PinnedArray]
    there: list[DeviceBlock]
    result: DeviceBlock
    out: PinnedArray
    compute: Any
    events: list[Event]
    start_s: float | None = field(default=None)


class _Loop:
    def __init__(
        self, memory: DeviceMemory, network: Any, device: torch.device, scale: Scale
    ) -> None:
        self.memory, self.network, self.device = memory, network, device
        count = len(network.inputs)
        self.images = pictures(count, scale.tile_px, torch.device("cpu"))
        self.streams = [memory.stream() for _ in range(3)]
        self.slots = [self._slot() for _ in range(_DEPTH)]

    def _slot(self) -> _Slot:
        shape = tuple(self.images[0].shape)
        # As in a scan, whose frames lie in memory of its own that the GPU's side locks.
        frames = BufferPool("frames", shape, np.uint8, len(self.images)).arrays
        here = [self.memory.lock(frame) for frame in frames]
        for pinned, image in zip(here, self.images, strict=True):
            pinned.array[...] = image.numpy()
        blocks = [self.memory.device(int(np.prod(shape))) for _ in range(len(here) + 1)]
        there = [_tensor_at(block.address, shape, self.device) for block in blocks]
        with torch.no_grad():
            compute = graphed(
                lambda: there[-1].copy_(self.network(*there[:-1])), self.device
            )
        return _Slot(
            here=here,
            there=blocks[:-1],
            result=blocks[-1],
            out=self.memory.pinned(shape),
            compute=compute,
            events=[self.memory.event() for _ in range(3)],
        )

    def run(self, count: int) -> tuple[list[float], list[float]]:
        """Send `count` tiles through; return their latencies and the periods."""
        latency_s: list[float] = []
        ends_s: list[float] = []
        for i_tile in range(count + _DEPTH):
            slot = self.slots[i_tile % _DEPTH]
            if slot.start_s is not None:
                slot.events[2].synchronize()
                ends_s.append(time.perf_counter())
                latency_s.append(ends_s[-1] - slot.start_s)
                slot.start_s = None
            if i_tile < count:
                self._send(slot)
        return latency_s, [b - a for a, b in itertools.pairwise(ends_s)]

    def _send(self, slot: _Slot) -> None:
        up, middle, down = self.streams
        arrived, computed, returned = slot.events
        slot.start_s = time.perf_counter()
        for source, target in zip(slot.here, slot.there, strict=True):
            self.memory.copy(target, source, up)
        up.record(arrived)
        middle.wait_for(arrived)
        with torch.no_grad(), _on_stream(middle.handle, self.device):
            slot.compute()
        middle.record(computed)
        down.wait_for(computed)
        self.memory.copy(slot.out, slot.result, down)
        down.record(returned)

    def free(self) -> None:
        """Give everything back."""
        for slot in self.slots:
            parts: list[Any] = [*slot.here, *slot.there, *slot.events]
            for part in (*parts, slot.result, slot.out):
                part.free()
        for stream in self.streams:
            stream.free()


def _on_stream(handle: int, device: torch.device) -> Any:
    if device.type != "cuda":
        return contextlib.nullcontext()
    return torch.cuda.stream(_external_stream(handle, device=device))


def _tensor_at(address: int, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Return a tensor over memory that another library holds."""
    if device.type != "cuda":
        memory = (ctypes.c_uint8 * int(np.prod(shape))).from_address(address)
        return torch.from_numpy(np.ctypeslib.as_array(memory)).reshape(shape)

    class Holder:
        __cuda_array_interface__ = {  # noqa: RUF012 (the protocol wants an attribute)
            "shape": shape,
            "typestr": "|u1",
            "data": (address, False),
            "version": 3,
        }

    tensor: Tensor = torch.as_tensor(Holder(), device=device)
    return tensor


# torch does not say the type of its own door to the CUDA runtime.
_open_library: Any = torch.cuda.cudart


class TorchMemory:
    """`bifocus.edge.device_memory.DeviceMemory` of torch's own parts.

    On the processor, streams and events do nothing, as all work is done when ordered:
    enough to test the loop's order and arithmetic.
    """

    def __init__(self, device: torch.device) -> None:
        self.name = f"torch {torch.__version__}"
        self._device = device

    def pinned(self, shape: tuple[int, ...], *, is_mapped: bool = False) -> PinnedArray:
        """Return page-locked bytes; never mapped ones."""
        del is_mapped
        is_locked = self._device.type == "cuda"
        return _Bytes(torch.empty(shape, dtype=torch.uint8, pin_memory=is_locked))

    def lock(self, array: Any) -> PinnedArray:
        """Page-lock memory that is there."""
        return _Locked(array, is_locked=self._device.type == "cuda")

    def device(self, n_bytes: int) -> DeviceBlock:
        """Return memory on the GPU."""
        return _Bytes(torch.empty(n_bytes, dtype=torch.uint8, device=self._device))

    def stream(self) -> Any:
        """Return a queue."""
        return _Stream(None if self._device.type == "cpu" else _stream(self._device))

    def event(self) -> Any:
        """Return a mark."""
        return _Event(None if self._device.type == "cpu" else _event())

    def copy(self, target: Any, source: Any, stream: Any) -> None:
        """Queue a copy."""
        with _on_stream(stream.handle, self._device):
            bytes_ = source.tensor.reshape(target.tensor.shape)
            target.tensor.copy_(bytes_, non_blocking=True)

    def close(self) -> None:
        """Do nothing: torch gives its memory back by itself."""


class _Bytes:
    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.address, self.device_address = tensor.data_ptr(), 0

    @property
    def array(self) -> Any:
        return self.tensor.numpy()

    def free(self) -> None:
        self.tensor = torch.empty(0)


class _Locked(_Bytes):
    def __init__(self, array: Any, *, is_locked: bool) -> None:
        super().__init__(torch.from_numpy(array))
        self._is_locked = is_locked
        if is_locked:
            told = _open_library().cudaHostRegister(self.address, array.nbytes, 0)
            torch.cuda.check_error(int(told))

    def free(self) -> None:
        if self._is_locked:
            _open_library().cudaHostUnregister(self.address)
            self._is_locked = False
        super().free()


class _Event:
    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def synchronize(self) -> None:
        if self.inner is not None:
            self.inner.synchronize()

    def free(self) -> None:
        self.inner = None


class _Stream:
    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.handle = 0 if inner is None else inner.cuda_stream

    def record(self, event: Any) -> None:
        if self._inner is not None:
            event.inner.record(self._inner)

    def wait_for(self, event: Any) -> None:
        if self._inner is not None:
            self._inner.wait_event(event.inner)

    def free(self) -> None:
        self._inner = None
