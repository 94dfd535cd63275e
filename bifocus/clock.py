"""Time as an argument: the real clock, a virtual one that jumps, and one for tests.

All times are monotonic seconds; UTC appears only in files that people read.
"""

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """What the loop and the devices may ask of time."""

    def monotonic_s(self) -> float:
        """Return seconds since an arbitrary start; never goes backwards."""
        ...

    def sleep(self, duration_s: float) -> None:
        """Wait `duration_s` seconds; zero or negative durations return at once."""
        ...


class RealClock:
    """The machine's own monotonic clock."""

    def monotonic_s(self) -> float:
        """Return `time.monotonic()`."""
        return time.monotonic()

    def sleep(self, duration_s: float) -> None:
        """Block the calling thread for `duration_s` seconds."""
        if duration_s > 0:
            time.sleep(duration_s)


class VirtualClock:
    """A clock that jumps: sleeping costs no real time, and the time told is honest.

    Hours of slow mechanics pass in seconds. Safe to use from several threads; their
    sleeps add up, as those of one thread would, so only one thread should own motion.
    """

    def __init__(self, start_s: float = 0.0) -> None:
        self._now_s = start_s
        self._lock = threading.Lock()

    def monotonic_s(self) -> float:
        """Return the virtual time."""
        with self._lock:
            return self._now_s

    def sleep(self, duration_s: float) -> None:
        """Advance the virtual time by `duration_s` and return at once."""
        if duration_s > 0:
            with self._lock:
                self._now_s += duration_s


class FakeClock(VirtualClock):
    """A virtual clock that also remembers every sleep, for assertions in tests.

    Examples
    --------
    >>> clock = FakeClock()
    >>> clock.sleep(0.25)
    >>> clock.monotonic_s(), clock.sleeps_s
    (0.25, [0.25])
    """

    def __init__(self, start_s: float = 0.0) -> None:
        super().__init__(start_s)
        self.sleeps_s: list[float] = []

    def sleep(self, duration_s: float) -> None:
        """Record the request, then advance."""
        self.sleeps_s.append(duration_s)
        super().sleep(duration_s)
