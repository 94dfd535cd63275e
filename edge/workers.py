"""A stage of the loop: one thread with a bounded queue of work.

Whoever hands work over waits while the queue is full, so that pressure goes back to the
stage of the microscope and nothing piles up. The first error breaks the worker: what
waits is dropped, and everybody who comes later gets that error.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from bifocus.edge.timings import StageTimings
from bifocus.errors import EngineError

T = TypeVar("T")

# Far longer than any tile takes on any machine: something hangs.
STALLED_AFTER_S = 300.0
_LEFT_AFTER_S = 30.0


class Worker:
    """Runs work one by one in a thread of its own, in the order it was handed over.

    Parameters
    ----------
    name
        Of the thread, and of the stage in the timings.
    capacity
        Pieces of work that may wait besides the one that runs; with 0, whoever hands
        over waits until the worker is idle.
    timings
        Counts how long each piece takes.
    stalled_after_s
        How long a full queue may stand still before `submit` gives up.
    """

    def __init__(
        self,
        name: str,
        capacity: int,
        timings: StageTimings,
        *,
        stalled_after_s: float = STALLED_AFTER_S,
    ) -> None:
        self.name = name
        self._capacity = capacity
        self._timings = timings
        self._stalled_after_s = stalled_after_s
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._changed = threading.Condition()
        self._is_closing = False
        self._is_busy = False
        self._error: BaseException | None = None
        # A hung engine must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def queued(self) -> int:
        """Pieces of work that wait."""
        return len(self._waiting)

    @property
    def error(self) -> BaseException | None:
        """What broke the worker."""
        return self._error

    def submit(self, work: Callable[[], T]) -> "Future[T]":
        """Hand work over; wait while the queue is full.

        Raises
        ------
        BaseException
            The error that has broken the worker.
        EngineError
            If nothing has moved for `stalled_after_s`.
        """
        future: Future[T] = Future()
        deadline_s = time.monotonic() + self._stalled_after_s
        with self._changed:
            while self._is_full() and self._error is None:
                left_s = deadline_s - time.monotonic()
                if not self._changed.wait(left_s) and left_s <= 0:
                    msg = (
                        f"the stage '{self.name}' has made no progress for "
                        f"{self._stalled_after_s:g} s; what was captured is kept"
                    )
                    raise EngineError(msg)
            if self._error is not None:
                raise self._error
            if self._is_closing:
                msg = f"the stage '{self.name}' is closed"
                raise RuntimeError(msg)
            self._waiting.append((future, work))
            self._changed.notify_all()
        return future

    def finish(self) -> None:
        """Do all the work that waits, and end the thread; may be called twice.

        Raises
        ------
        BaseException
            The error that has broken the worker.
        """
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def abort(self) -> None:
        """Drop the work that waits, and end the thread after the piece that runs.

        A piece that hangs is left behind: the process can end without it.
        """
        with self._changed:
            self._is_closing = True
            self._drop()
            self._changed.notify_all()
        self._thread.join(_LEFT_AFTER_S)

    def _is_full(self) -> bool:
        return len(self._waiting) + self._is_busy > self._capacity

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            future, work = taken
            try:
                with self._timings.measure(self.name):
                    result = work()
            except BaseException as error:  # handed on to all who come
                self._break(error, future)
                return
            future.set_result(result)
            # Results are big: nothing may hold the last one while the thread waits.
            del taken, future, work, result

    def _take(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        with self._changed:
            self._is_busy = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._waiting or self._is_closing)
            if not self._waiting:
                return None
            taken = self._waiting.popleft()
            self._is_busy = True
            self._changed.notify_all()
            return taken

    def _break(self, error: BaseException, future: "Future[Any]") -> None:
        with self._changed:
            self._error = error
            self._drop()
            self._changed.notify_all()
        future.set_exception(error)

    def _drop(self) -> None:
        while self._waiting:
            future, _ = self._waiting.popleft()
            if self._error is None:
                future.cancel()
            else:
                future.set_exception(self._error)
