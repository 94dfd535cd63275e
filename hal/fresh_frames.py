"""The freshness contract, once for all real cameras, free-running or triggered.

A driver is a `FrameSource`: it delivers frames and says how early each exposure can
have begun. `FreshCamera` makes a `Camera` of it: it waits for the stage, throws away
what is older, repeats what arrived broken, and gives up at a deadline.
"""

import logging
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from bifocus.camera_config import RealCameraConfig
from bifocus.clock import Clock
from bifocus.errors import (
    ConfigError,
    DeviceError,
    DeviceTimeoutError,
    ProtocolError,
)
from bifocus.hal.devices import BorrowingCamera, CameraCapabilities, Lend
from bifocus.records import Frame, MoveReceipt, StagePosition, UInt8Image

logger = logging.getLogger(__name__)

LONGEST_WAIT_S = 600.0  # a receipt that settles later than this is another clock's
_TRIES = 3  # how often a trigger is sent whose frame does not come
_EXPOSURE_TOLERANCE = 0.05
# A frame that comes sooner than this share of its exposure is of an earlier trigger.
_EARLY = 1 - _EXPOSURE_TOLERANCE


@dataclass(frozen=True, slots=True, kw_only=True)
class RawFrame:
    """A whole frame: HxWx3 RGB or HxW grey, owned by the receiver.

    The exposure began no earlier than `not_before_s`; `exposure_s` is what the camera
    says it was, where it says so.
    """

    pixels: UInt8Image
    not_before_s: float
    exposure_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenFrame:
    """A frame that came, but not whole; `reason` is for the log."""

    reason: str


class FrameSource(Protocol):
    """What a camera driver has to do; `FreshCamera` does the rest.

    Methods are called by one thread at a time. None of them moves, waits without end,
    or returns a frame twice.
    """

    @property
    def capabilities(self) -> CameraCapabilities:
        """The camera's fixed facts."""
        ...

    @property
    def is_triggered(self) -> bool:
        """Whether the camera exposes only when told by `trigger`."""
        ...

    def set_exposure(self, exposure_s: float) -> float:
        """Lock the exposure time and return the one in force, as the camera tells."""
        ...

    def trigger(self) -> None:
        """Begin one exposure now; never called on a free-running camera."""
        ...

    def restart(self) -> None:
        """Forget a trigger whose frame never came, and empty all queues."""
        ...

    def fetch(self, timeout_s: float) -> RawFrame | BrokenFrame | None:
        """Return the next frame, or None when none came in time.

        Raises
        ------
        DeviceError
            If the camera is gone.
        """
        ...

    def close(self) -> None:
        """Release the camera."""
        ...


class FreshCamera:
    """A `Camera` over any `FrameSource`; safe to use from several threads.

    `position` is asked only by a grab without a receipt.
    """

    def __init__(
        self,
        source: FrameSource,
        config: RealCameraConfig,
        *,
        clock: Clock,
        position: Callable[[], StagePosition],
    ) -> None:
        self._source = source
        self._config = config
        self._clock = clock
        self._position = position
        self._lock = threading.Lock()
        self._closed = False
        self._number = 0
        self._last_start_s = -math.inf
        self._exposure_s = 0.0  # until configured, just below
        self._frame_is_due = False
        self.discarded_frames = 0
        self.broken_frames = 0
        self.lost_frames = 0
        try:
            self._capabilities = source.capabilities
            self.configure(exposure_s=config.exposure_s)
        except BaseException:
            source.close()
            raise

    @property
    def capabilities(self) -> CameraCapabilities:
        """Size and identity."""
        return self._capabilities

    def configure(self, *, exposure_s: float) -> None:
        """Lock the exposure time; frames begun before this are not returned.

        Raises
        ------
        ConfigError
            If the time is outside `exposure_limits_s`, or the camera took another one.
        """
        low_s, high_s = self._config.exposure_limits_s
        if not (math.isfinite(exposure_s) and low_s <= exposure_s <= high_s):
            msg = (
                f"exposure_s must be {low_s:g}..{high_s:g} s on this camera, "
                f"got {exposure_s}"
            )
            raise ConfigError(msg)
        with self._lock:
            self._check_open()
            taken_s = self._source.set_exposure(exposure_s)
            if abs(taken_s - exposure_s) > _EXPOSURE_TOLERANCE * exposure_s:
                if self._exposure_s > 0:
                    self._source.set_exposure(self._exposure_s)
                msg = (
                    f"the camera {self._name} was asked for an exposure of "
                    f"{exposure_s:g} s and took {taken_s:g} s; ask for one it has"
                )
                raise ConfigError(msg)
            self._exposure_s = taken_s
            self._configured_s = self._clock.monotonic_s()

    def grab(self, after: MoveReceipt | None = None) -> Frame:
        """Return a frame; with a receipt, one whose exposure began after settling.

        Raises
        ------
        DeviceTimeoutError
            If no such frame came before the deadline, or the receipt settles more
            than ten minutes from now.
        DeviceError
            If the camera is closed or gone.
        """
        with self._lock:
            self._check_open()
            exposure_s = self._exposure_s
            earliest_s = max(self._configured_s, self._wait_for_settling(after))
            pose = after.reported if after is not None else self._position()
            raw = self._first_fresh(exposure_s, earliest_s)
            self._last_start_s = raw.not_before_s
            return Frame(
                pixels=raw.pixels,
                exposure_start_s=raw.not_before_s,
                exposure_end_s=raw.not_before_s + exposure_s,
                pose=pose,
                sequence_number=self._number,
            )

    def borrow_from(self, lend: Lend | None) -> None:
        """Let the driver write into lent memory, where it makes pictures itself."""
        if isinstance(self._source, BorrowingCamera):
            self._source.borrow_from(lend)

    def close(self) -> None:
        """Release the camera."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._source.close()

    @property
    def _name(self) -> str:
        return f"'{self._capabilities.identity}'"

    def _wait_for_settling(self, after: MoveReceipt | None) -> float:
        if after is None:
            return -math.inf
        left_s = after.settled_s - self._clock.monotonic_s()
        if left_s > LONGEST_WAIT_S:
            msg = (
                f"no frame within {LONGEST_WAIT_S:g} s: the move settles in "
                f"{left_s:.0f} s; does the receipt come from another clock?"
            )
            raise DeviceTimeoutError(msg)
        self._clock.sleep(left_s)
        return after.settled_s

    def _first_fresh(self, exposure_s: float, earliest_s: float) -> RawFrame:
        """Fetch until a frame is whole, new, and begun at or after `earliest_s`."""
        began_s = self._clock.monotonic_s()
        patience_s = self._patience_s(exposure_s)
        deadline_s = began_s + patience_s
        seen = 0
        triggered_s = self._trigger()
        while (left_s := deadline_s - self._clock.monotonic_s()) > 0:
            got = self._source.fetch(min(left_s, patience_s / _TRIES))
            if got is None:
                if triggered_s is not None:
                    self.lost_frames += 1
                    triggered_s = self._trigger()
                continue
            seen += 1
            self._number += 1
            if isinstance(got, RawFrame) and not got.pixels.any():
                # A buffer that no light and no noise has touched.
                got = BrokenFrame(reason="a frame without a single count")
            if isinstance(got, BrokenFrame):
                self.broken_frames += 1
                logger.warning("camera %s: %s; taken again", self._name, got.reason)
                self._frame_is_due = False
                triggered_s = self._trigger()
                continue
            start_s = self._start_s(got, exposure_s, triggered_s)
            if start_s >= earliest_s:
                self._frame_is_due = False
                self._check_shape(got.pixels)
                return RawFrame(pixels=got.pixels, not_before_s=start_s)
            self.discarded_frames += 1
        msg = (
            f"the camera {self._name} gave no fresh frame within "
            f"{self._clock.monotonic_s() - began_s:.1f} s ({seen} came, too old or "
            "broken); check its cable and power, and that nothing else uses it"
        )
        raise DeviceTimeoutError(msg)

    def _patience_s(self, exposure_s: float) -> float:
        config = self._config
        period_s = max(1 / config.frame_rate_hz, exposure_s)
        frames_s = (config.stale_frames + 2) * period_s
        one_s = config.timeout_s + config.transfer_s + exposure_s + frames_s
        return _TRIES * one_s if self._source.is_triggered else one_s

    def _trigger(self) -> float | None:
        """Begin an exposure on a triggered camera; return a time before it."""
        if not self._source.is_triggered:
            return None
        if self._frame_is_due:
            # It may still come, and must not pass for the next one.
            self._source.restart()
        now_s = self._clock.monotonic_s()
        self._frame_is_due = True
        self._source.trigger()
        return now_s

    def _start_s(
        self, raw: RawFrame, exposure_s: float, triggered_s: float | None
    ) -> float:
        """Return when the exposure began at the earliest; -inf if it is not ours."""
        told_s = exposure_s if raw.exposure_s is None else raw.exposure_s
        if abs(told_s - exposure_s) > _EXPOSURE_TOLERANCE * exposure_s:
            return -math.inf
        start_s = raw.not_before_s
        if triggered_s is not None:
            if self._clock.monotonic_s() - triggered_s < _EARLY * exposure_s:
                return -math.inf
            start_s = max(start_s, triggered_s)
        return start_s if start_s > self._last_start_s else -math.inf

    def _check_shape(self, pixels: UInt8Image) -> None:
        width_px, height_px = self._config.width_px, self._config.height_px
        if pixels.shape[:2] != (height_px, width_px):
            msg = (
                f"the camera {self._name} gives frames of {pixels.shape[1]}x"
                f"{pixels.shape[0]} px, its section says {width_px}x{height_px} px"
            )
            raise ProtocolError(msg)

    def _check_open(self) -> None:
        if self._closed:
            msg = f"the camera {self._name} is closed"
            raise DeviceError(msg)
