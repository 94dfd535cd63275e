"""A thread that reads a camera whose read call has no deadline, so that ours can.

Two ways: `continuous` reads without pause, so that the driver's queue never fills with
the past; otherwise one read follows each `request`.
"""

import logging
import threading
import time
from collections.abc import Callable

from bifocus.errors import DeviceError
from bifocus.hal.fresh_frames import BrokenFrame, RawFrame

logger = logging.getLogger(__name__)

Got = RawFrame | BrokenFrame | None
_JOIN_S = 5.0


class FrameReader:
    """Owns the calls of `read(is_wanted)`; hands over one frame at a time.

    `read` may ask whether somebody waits, so that frames nobody waits for need no
    decoding; those it returns None for. An exception of `read` ends the thread and is
    raised, as the cause of a `DeviceError`, by `fetch`.
    """

    def __init__(
        self, read: Callable[[Callable[[], bool]], Got], *, name: str, continuous: bool
    ) -> None:
        self._read = read
        self._name = name
        self._continuous = continuous
        self._ready = threading.Condition()
        self._requests = 0
        self._waiting = False
        self._stopping = False
        self._got: Got = None
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def request(self) -> None:
        """Ask for one read."""
        with self._ready:
            self._requests += 1
            self._ready.notify_all()

    def fetch(self, timeout_s: float) -> Got:
        """Return the next frame, or None when none came in time.

        Raises
        ------
        DeviceError
            If reading failed.
        """
        deadline_s = time.monotonic() + timeout_s
        with self._ready:
            self._waiting = True
            try:
                while self._got is None and self._failure is None:
                    left_s = deadline_s - time.monotonic()
                    if left_s <= 0 or not self._ready.wait(left_s):
                        break
            finally:
                self._waiting = False
            if self._got is None and self._failure is not None:
                msg = f"{self._name}: {self._failure}"
                raise DeviceError(msg) from self._failure
            got, self._got = self._got, None
            return got

    def close(self) -> bool:
        """End the thread; return False if it hangs in the driver."""
        with self._ready:
            self._stopping = True
            self._ready.notify_all()
        self._thread.join(_JOIN_S)
        if self._thread.is_alive():
            logger.error("%s hangs in its driver; it is left behind", self._name)
        return not self._thread.is_alive()

    def _is_wanted(self) -> bool:
        return self._waiting

    def _run(self) -> None:
        while self._may_read():
            try:
                got = self._read(self._is_wanted)
            except Exception as error:  # raised again by fetch, in the caller's thread
                with self._ready:
                    self._failure = error
                    self._ready.notify_all()
                return
            if got is not None:
                with self._ready:
                    self._got = got
                    self._ready.notify_all()

    def _may_read(self) -> bool:
        """Wait for a request, unless reading is continuous; False to end."""
        with self._ready:
            while not (self._stopping or self._continuous or self._requests):
                self._ready.wait()
            self._requests = max(0, self._requests - 1)
            return not self._stopping
