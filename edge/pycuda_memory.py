"""GPU memory through pycuda: the primary context, retained, pushed once, popped once.

`pycuda.autoinit` is never imported: it makes a context of its own, in whatever thread
happens to import it, and TensorRT then works in another one.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from bifocus.edge.device_memory import DeviceBlock, Event, PinnedArray, Stream, lost
from bifocus.errors import EngineError, EngineLostError

if TYPE_CHECKING:
    from bifocus.records import UInt8Image

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING of cuda.h; pycuda has no name for it


class PycudaMemory:
    """A `bifocus.edge.device_memory.DeviceMemory` for the calling thread.

    Raises
    ------
    EngineError
        If pycuda is not installed, or finds no driver or GPU.
    """

    def __init__(self, ordinal: int = 0) -> None:
        self._cuda = cuda = import_driver()
        try:
            cuda.init()
            self._context: Any = cuda.Device(ordinal).retain_primary_context()
            self._context.push()
        except cuda.Error as error:
            msg = f"pycuda cannot use GPU {ordinal}: {error}"
            raise EngineError(msg) from error
        version = ".".join(map(str, import_version()))
        self.name = f"pycuda {version}"

    def pinned(self, shape: tuple[int, ...], *, is_mapped: bool = False) -> PinnedArray:
        """Return page-locked bytes."""
        flags = self._cuda.host_alloc_flags.DEVICEMAP if is_mapped else 0
        return _Pinned(self._cuda, shape, flags)

    def lock(self, array: "UInt8Image") -> PinnedArray:
        """Page-lock memory that is there."""
        return _Locked(self._cuda, array)

    def device(self, n_bytes: int) -> DeviceBlock:
        """Return memory on the GPU."""
        return _Block(self._cuda, n_bytes)

    def stream(self) -> Stream:
        """Return a queue."""
        return _Stream(self._cuda)

    def event(self) -> Event:
        """Return a mark."""
        return _Event(self._cuda)

    def copy(
        self,
        target: PinnedArray | DeviceBlock,
        source: PinnedArray | DeviceBlock,
        stream: Stream,
    ) -> None:
        """Queue a copy."""
        queue = stream.inner if isinstance(stream, _Stream) else None
        try:
            if isinstance(source, _Pinned | _Locked) and isinstance(target, _Block):
                self._cuda.memcpy_htod_async(target.inner, source.array, queue)
            elif isinstance(source, _Block) and isinstance(target, _Pinned):
                self._cuda.memcpy_dtoh_async(target.array, source.inner, queue)
            else:
                msg = "a copy goes between one pinned array and one device block"
                raise TypeError(msg)
        except self._cuda.Error as error:
            raise _lost("memcpy", error) from error

    def close(self) -> None:
        """Pop and release the context."""
        if self._context is not None:
            context, self._context = self._context, None
            try:
                context.pop()
                context.detach()
            except self._cuda.Error as error:
                raise _lost("leaving the context", error) from error


class _Pinned:
    def __init__(self, cuda: Any, shape: tuple[int, ...], flags: int) -> None:
        self._cuda = cuda
        try:
            self.array: UInt8Image = cuda.pagelocked_empty(
                shape, np.uint8, mem_flags=flags
            )
            self._owner: Any = self.array.base
            self.device_address = int(self._owner.get_device_pointer()) if flags else 0
        except cuda.Error as error:
            raise _lost("pagelocked_empty", error) from error

    def free(self) -> None:
        owner, self._owner = self._owner, None
        if owner is not None:
            try:
                owner.free()
            except self._cuda.Error as error:
                raise _lost("free", error) from error


class _Locked:
    device_address = 0

    def __init__(self, cuda: Any, array: "UInt8Image") -> None:
        self._cuda = cuda
        try:
            self.array: UInt8Image = cuda.register_host_memory(array)
        except cuda.Error as error:
            raise _lost("register_host_memory", error) from error
        self._owner: Any = self.array.base

    def free(self) -> None:
        owner, self._owner = self._owner, None
        if owner is not None:
            try:
                owner.unregister()
            except self._cuda.Error as error:
                raise _lost("unregister", error) from error


class _Block:
    def __init__(self, cuda: Any, n_bytes: int) -> None:
        self._cuda = cuda
        try:
            self.inner: Any = cuda.mem_alloc(n_bytes)
        except cuda.Error as error:
            raise _lost(f"mem_alloc of {n_bytes / 1e6:.1f} MB", error) from error
        self.address = int(self.inner)

    def free(self) -> None:
        inner, self.inner = self.inner, None
        if inner is not None:
            try:
                inner.free()
            except self._cuda.Error as error:
                raise _lost("free", error) from error


class _Event:
    def __init__(self, cuda: Any) -> None:
        self._cuda = cuda
        try:
            # A thread that waits sleeps: one that spins takes a core from the capture.
            flags = cuda.event_flags
            self.inner: Any = cuda.Event(flags.BLOCKING_SYNC | flags.DISABLE_TIMING)
        except cuda.Error as error:
            raise _lost("Event", error) from error

    def synchronize(self) -> None:
        try:
            self.inner.synchronize()
        except self._cuda.Error as error:
            raise _lost("Event.synchronize", error) from error

    def free(self) -> None:
        self.inner = None  # pycuda destroys it with its last reference


class _Stream:
    def __init__(self, cuda: Any) -> None:
        self._cuda = cuda
        try:
            self.inner: Any = cuda.Stream(_NON_BLOCKING)
        except cuda.Error as error:
            raise _lost("Stream", error) from error
        self.handle = int(self.inner.handle)

    def record(self, event: Event) -> None:
        try:
            _own(event).record(self.inner)
        except self._cuda.Error as error:
            raise _lost("Event.record", error) from error

    def wait_for(self, event: Event) -> None:
        try:
            self.inner.wait_for_event(_own(event))
        except self._cuda.Error as error:
            raise _lost("Stream.wait_for_event", error) from error

    def free(self) -> None:
        self.inner = None


def import_driver() -> Any:
    """Return pycuda's driver module.

    Raises
    ------
    EngineError
        If it is not installed, or finds no driver.
    """
    try:
        import pycuda.driver
    except (ImportError, OSError) as error:
        msg = f"pycuda cannot be used: {error}; pip install 'bifocus[gpu]'"
        raise EngineError(msg) from error
    return pycuda.driver


def import_version() -> tuple[int, ...]:
    """Return pycuda's version."""
    import pycuda

    return tuple(pycuda.VERSION)


def _own(event: Event) -> Any:
    if not isinstance(event, _Event):
        msg = "an event of another adapter"
        raise TypeError(msg)
    return event.inner


def _lost(call: str, error: Exception) -> EngineLostError:
    return lost(call, f"{type(error).__name__} {error}")
