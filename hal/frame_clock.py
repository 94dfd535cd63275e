"""Turns the times that cameras tell into the one monotonic clock, never too late.

A fresh frame is one whose exposure began after the stage had settled, so an error may
only make a frame look older than it is. Every mapping here therefore returns the
earliest time that fits what was observed.
"""

import math
from collections import deque

from bifocus.errors import ProtocolError

# Camera crystals keep 100 ppm over life and temperature; assumed, no standard says.
DRIFT = 1e-4
_BURST = 0.5  # of the period: less between two arrivals, and the second had to wait
_OLDEST_STAMP_S = 60.0  # a frame held back longer than this has a stamp of other time


class ArrivalClock:
    """For frames without a time of their own: only the order of arrivals is known.

    When a frame arrives, at most `stale_frames` later ones wait inside the camera and
    its driver, and one more may be exposed. So the frame after those began later.
    Frames that arrive faster than `period_s` allows were waiting in some longer queue,
    such as a network's: counting begins again after them.

    Examples
    --------
    >>> clock = ArrivalClock(stale_frames=1, period_s=1.0)
    >>> [clock.earliest_start_s(t_s) for t_s in (0.9, 1.0, 2.0, 3.0, 4.0)]
    [None, None, None, 1.0, 2.0]
    """

    def __init__(self, *, stale_frames: int, period_s: float) -> None:
        self._arrivals_s: deque[float] = deque(maxlen=stale_frames + 2)
        self._shortest_s = _BURST * period_s

    def restart(self) -> None:
        """Forget all arrivals, after a change of exposure or a new stream."""
        self._arrivals_s.clear()

    def earliest_start_s(self, arrival_s: float) -> float | None:
        """Return what an exposure began after; None while too few have arrived."""
        history = self._arrivals_s
        if history and arrival_s - history[-1] < self._shortest_s:
            history.clear()
        history.append(arrival_s)
        return history[0] if len(history) == history.maxlen else None


class MonotonicStamps:
    """For drivers whose stamps are on the system's monotonic clock, as V4L2's are.

    V4L2 stamps a frame at the start or at the end of its exposure or readout; taking
    it for the end is the safe reading.
    """

    def earliest_start_s(
        self, stamp_s: float, *, arrival_s: float, exposure_s: float
    ) -> float:
        """Return stamp less exposure.

        Raises
        ------
        ProtocolError
            If the stamp cannot be of this clock.
        """
        if not 0 <= arrival_s - stamp_s < _OLDEST_STAMP_S:
            msg = (
                f"the driver stamps a frame {stamp_s:.3f} s that came at "
                f"{arrival_s:.3f} s: not the system's monotonic clock; set "
                "`timestamps: arrival` in the camera section"
            )
            raise ProtocolError(msg)
        return stamp_s - exposure_s


class CameraClock:
    """For cameras with a clock of their own, of unknown offset and slow drift.

    Each observation brackets the offset (system minus camera): a camera time that lay
    between two system times. The newest bracket that is tightest, when all are widened
    by `DRIFT`, is kept.

    Examples
    --------
    >>> clock = CameraClock()
    >>> clock.observe(500.0, after_s=10.0, before_s=10.2)
    >>> clock.observe(501.0, after_s=11.1, before_s=11.4)
    >>> round(clock.earliest_s(502.0), 3)  # later than 12.1 less drift, before 12.2
    12.1
    """

    def __init__(self) -> None:
        self._low_s = -math.inf
        self._high_s = math.inf
        self._observed_s: float | None = None

    def observe(self, camera_s: float, *, after_s: float, before_s: float) -> None:
        """Learn that `camera_s` lay between two readings of the system's clock.

        Raises
        ------
        ProtocolError
            If this contradicts what was observed before: the camera's clock was reset.
        """
        age_s = 0.0 if self._observed_s is None else camera_s - self._observed_s
        if age_s < -_OLDEST_STAMP_S:
            msg = (
                f"the camera's clock went back by {-age_s:.1f} s: it was reset; "
                "open the camera again"
            )
            raise ProtocolError(msg)
        spread_s = DRIFT * abs(age_s)
        low_s = max(self._low_s - spread_s, after_s - camera_s)
        high_s = min(self._high_s + spread_s, before_s - camera_s)
        if low_s > high_s:
            msg = (
                f"the camera's clock jumped by {low_s - high_s:.3f} s against the "
                "system's; open the camera again"
            )
            raise ProtocolError(msg)
        self._low_s, self._high_s = low_s, high_s
        self._observed_s = camera_s

    @property
    def uncertainty_s(self) -> float:
        """Width of the bracket at the last observation; infinite before the first."""
        return self._high_s - self._low_s

    def earliest_s(self, camera_s: float) -> float:
        """Return the earliest system time that `camera_s` can have been."""
        if self._observed_s is None:
            return -math.inf
        return camera_s + self._low_s - DRIFT * abs(camera_s - self._observed_s)
