"""The port through which an engine reaches a GPU: memory, queues, events.

Six methods, two adapters (`pycuda_memory`, `cuda_bindings_memory`). Whatever opens a
`DeviceMemory` keeps it: every call, closing included, comes from that one thread, since
a CUDA context belongs to the thread that made it current.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from bifocus.errors import EngineError, EngineLostError
from bifocus.records import UInt8Image

logger = logging.getLogger(__name__)


class PinnedArray(Protocol):
    """Page-locked host memory: any thread may fill its array, while no copy uses it."""

    @property
    def array(self) -> UInt8Image:
        """The memory as numpy sees it."""
        ...

    @property
    def device_address(self) -> int:
        """Where the GPU sees it, if it was asked for as mapped; else 0."""
        ...

    def free(self) -> None:
        """Give it back; the array must not be touched any more."""
        ...


class DeviceBlock(Protocol):
    """Memory on the GPU."""

    @property
    def address(self) -> int:
        """Its address."""
        ...

    def free(self) -> None:
        """Give it back."""
        ...


class Event(Protocol):
    """A mark in a stream."""

    def synchronize(self) -> None:
        """Wait until everything before the mark is done."""
        ...

    def free(self) -> None:
        """Give it back."""
        ...


class Stream(Protocol):
    """A queue of work; work of two queues overlaps."""

    @property
    def handle(self) -> int:
        """What TensorRT takes."""
        ...

    def record(self, event: Event) -> None:
        """Set the mark behind all that is in the queue now."""
        ...

    def wait_for(self, event: Event) -> None:
        """Let what comes after wait for the mark, without waiting here."""
        ...

    def free(self) -> None:
        """Give it back."""
        ...


class DeviceMemory(Protocol):
    """One GPU, for one thread."""

    @property
    def name(self) -> str:
        """Library and version."""
        ...

    def pinned(self, shape: tuple[int, ...], *, is_mapped: bool = False) -> PinnedArray:
        """Return page-locked bytes; mapped ones need no copy where GPU and CPU share.

        Raises
        ------
        EngineLostError
            As all methods here, if CUDA refuses.
        """
        ...

    def lock(self, array: UInt8Image) -> PinnedArray:
        """Page-lock memory that is there, in pages of its own, until it is freed.

        The memory itself outlasts the GPU: what `free` gives back is the lock.
        """
        ...

    def device(self, n_bytes: int) -> DeviceBlock:
        """Return memory on the GPU."""
        ...

    def stream(self) -> Stream:
        """Return a queue that does not wait for the default one."""
        ...

    def event(self) -> Event:
        """Return a mark."""
        ...

    def copy(
        self,
        target: PinnedArray | DeviceBlock,
        source: PinnedArray | DeviceBlock,
        stream: Stream,
    ) -> None:
        """Queue a copy of all bytes of the pinned side, up or down."""
        ...

    def close(self) -> None:
        """Leave the GPU; everything taken from here must have been freed."""
        ...


def open_device_memory(ordinal: int = 0) -> DeviceMemory:
    """Return the first adapter that opens here, for the calling thread.

    Raises
    ------
    EngineError
        If neither pycuda nor cuda-bindings is installed, or the GPU cannot be used.
    """
    from bifocus.edge.cuda_bindings_memory import CudaBindingsMemory
    from bifocus.edge.pycuda_memory import PycudaMemory

    return open_first((PycudaMemory, CudaBindingsMemory), ordinal)


def open_first(
    adapters: Sequence[Callable[[int], DeviceMemory]], ordinal: int
) -> DeviceMemory:
    """Return the first of the adapters that opens; see `open_device_memory`."""
    reasons = []
    for adapter in adapters:
        try:
            return adapter(ordinal)
        except EngineError as error:
            logger.info("%s", error)
            reasons.append(str(error))
    raise EngineError("; ".join(reasons))


def lost(call: str, error: str) -> EngineLostError:
    """Return the error for a CUDA call that failed, by its kind.

    Parameters
    ----------
    call
        The function.
    error
        CUDA's name or text of the error.
    """
    said = f"{call}: {error}"
    plain = error.lower().replace("_", "").replace(" ", "")
    if "memoryallocation" in plain or "outofmemory" in plain:
        return EngineLostError(
            f"the GPU has no memory left ({said}); close what else uses it, or export "
            "for smaller tiles"
        )
    if any(word in plain for word in ("nodevice", "unavailable", "invaliddevice")):
        return EngineLostError(
            f"the GPU is gone ({said}); see dmesg, its power and temperature, and "
            "restart the machine"
        )
    return EngineLostError(
        f"the GPU failed ({said}); after such an error CUDA works again only in a new "
        "process: start the command anew"
    )
