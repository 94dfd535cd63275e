"""Arrays of one size that are lent, filled, read, and come back by themselves.

A lent array returns to its pool when the last view of it is gone, and not before: no
stage has to know who else still reads, and none can write into what another one reads,
on whatever way an error takes a tile out of the loop.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from bifocus.edge.workers import STALLED_AFTER_S
from bifocus.errors import EngineError

_S = TypeVar("_S", bound=np.generic)
_PAGE_BYTES = 4096


class BufferPool(Generic[_S]):
    """So many arrays of one shape and type, from any thread to any thread.

    The memory is reserved at once and becomes real when it is first written; what came
    back last is lent first, so that no more of it is touched than is needed at a time.

    Parameters
    ----------
    name
        For the error's text.
    count
        How many arrays there are.
    stalled_after_s
        How long `lend` and `wait_for` wait before they give up.
    """

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: type[_S],
        count: int,
        *,
        stalled_after_s: float = STALLED_AFTER_S,
    ) -> None:
        self._name = name
        self._stalled_after_s = stalled_after_s
        self.arrays = tuple(_whole_pages(shape, dtype) for _ in range(count))
        self._free = list(range(count))
        # Reentrant: the garbage collector may bring an array back at any moment.
        self._changed = threading.Condition(threading.RLock())
        self._is_closed = False
        self.n_beyond = 0

    @property
    def n_free(self) -> int:
        """Arrays that are not lent."""
        return len(self._free)

    def lend(self) -> npt.NDArray[_S]:
        """Return an array with whatever is in it; wait until one is free.

        Raises
        ------
        EngineError
            If none has come back for so long.
        CancelledError
            If the pool was closed meanwhile.
        """
        with self._changed:
            self.wait_for(1)
            return self._take()

    def lend_or_make(self) -> npt.NDArray[_S]:
        """Return an array at once: a new one, counted in `n_beyond`, if none is free.

        For whoever must not wait, such as a camera's driver.
        """
        with self._changed:
            if self._free:
                return self._take()
            self.n_beyond += 1
            return np.empty_like(self.arrays[0])

    def wait_for(self, count: int) -> None:
        """Wait until so many arrays are free; raises as `lend`."""
        deadline_s = time.monotonic() + self._stalled_after_s
        with self._changed:
            while len(self._free) < count:
                if self._is_closed:
                    raise CancelledError
                left_s = deadline_s - time.monotonic()
                if not self._changed.wait(left_s) and left_s <= 0:
                    msg = (
                        f"no buffer for {self._name} has come back for "
                        f"{self._stalled_after_s:g} s; what was captured is kept"
                    )
                    raise EngineError(msg)

    def close(self) -> None:
        """Send away those who wait; what is lent stays valid."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _take(self) -> npt.NDArray[_S]:
        number = self._free.pop()
        return np.asarray(_Loan(self.arrays[number], lambda: self._take_back(number)))

    def _take_back(self, number: int) -> None:
        with self._changed:
            self._free.append(number)
            self._changed.notify_all()


class _Loan:
    """What numpy keeps alive as long as any view of a lent array is there."""

    __slots__ = ("__array_interface__", "_memory", "_take_back")

    def __init__(self, memory: npt.NDArray[Any], take_back: Callable[[], None]) -> None:
        self.__array_interface__ = memory.__array_interface__
        self._memory = memory
        self._take_back = take_back

    def __del__(self) -> None:
        self._take_back()


def _whole_pages(shape: tuple[int, ...], dtype: type[_S]) -> npt.NDArray[_S]:
    """Return memory that shares its pages with nothing else: only such is locked."""
    n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    n_pages = -(-n_bytes // _PAGE_BYTES)
    memory = np.empty((n_pages + 1) * _PAGE_BYTES, np.uint8)
    start = -memory.ctypes.data % _PAGE_BYTES
    return memory[start : start + n_bytes].view(dtype).reshape(shape)
