"""Tables that go to the GPU once, and numbers that come back with every picture."""

from collections.abc import Callable
from math import prod
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from bifocus.edge.device_memory import DeviceBlock, DeviceMemory, PinnedArray, Stream
from bifocus.engine_manifest import TensorSpec

Float32 = npt.NDArray[np.float32]


class _Freed(Protocol):
    def free(self) -> None: ...


_T = TypeVar("_T", bound=_Freed)


class Take(Protocol):
    """Makes a thing and keeps it for its owner to free."""

    def __call__(self, make: Callable[[], _T]) -> _T:
        """Return what `make` made."""
        ...


class SmallTensor:
    """One float32 tensor: page-locked, with a copy on the GPU where memories differ.

    Parameters
    ----------
    spec
        Its name and shape.
    memory, take
        Where it lies, and who frees it.
    is_mapped
        Whether the GPU works in the page-locked array itself.
    start
        What it holds at first, so that nothing ever computes with garbage.
    """

    def __init__(
        self,
        spec: TensorSpec,
        memory: DeviceMemory,
        take: Take,
        *,
        is_mapped: bool,
        start: float,
    ) -> None:
        shape = spec.shape or ()
        n_bytes = 4 * prod(shape)
        self.name = spec.name
        self._memory = memory
        self._pinned: PinnedArray = take(
            lambda: memory.pinned((n_bytes,), is_mapped=is_mapped)
        )
        self._block: DeviceBlock | None = (
            None if is_mapped else take(lambda: memory.device(n_bytes))
        )
        self.array: Float32 = self._pinned.array.view(np.float32).reshape(shape)
        self.array[...] = start

    @property
    def address(self) -> int:
        """Where the engine finds it."""
        block = self._block
        return block.address if block is not None else self._pinned.device_address

    def upload(self, stream: Stream) -> None:
        """Queue the copy to the GPU, where there is one."""
        if self._block is not None:
            self._memory.copy(self._block, self._pinned, stream)

    def download(self, stream: Stream) -> None:
        """Queue the copy back, where there is one."""
        if self._block is not None:
            self._memory.copy(self._pinned, self._block, stream)
