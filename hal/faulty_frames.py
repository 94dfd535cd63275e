"""A frame source that suffers the camera's part of a fault plan."""

from collections import Counter
from dataclasses import replace

import numpy as np

from bifocus.errors import DeviceError
from bifocus.hal.devices import CameraCapabilities
from bifocus.hal.fault_plan import CameraDeath, FaultPlan, FrameFault
from bifocus.hal.fresh_frames import BrokenFrame, FrameSource, RawFrame


class FaultyFrames:
    """A `FrameSource` around another one; frames are counted from 0.

    A stale frame is the one before, delivered again with its own time; a torn one is
    told broken, as drivers tell it; a missing one was exposed and never arrives.
    """

    def __init__(self, inner: FrameSource, plan: FaultPlan) -> None:
        self._inner = inner
        self._faults = plan.camera_faults()
        self._n_frames = 0
        self._last: RawFrame | None = None
        self._is_dead = False
        self.happened: Counter[str] = Counter()

    @property
    def capabilities(self) -> CameraCapabilities:
        """The camera's fixed facts."""
        return self._inner.capabilities

    @property
    def is_triggered(self) -> bool:
        """Whether the camera exposes only when told."""
        return self._inner.is_triggered

    def set_exposure(self, exposure_s: float) -> float:
        """Lock the exposure time."""
        self._check_alive()
        return self._inner.set_exposure(exposure_s)

    def trigger(self) -> None:
        """Begin one exposure."""
        self._check_alive()
        self._inner.trigger()

    def restart(self) -> None:
        """Empty all queues."""
        self._check_alive()
        self._inner.restart()

    def fetch(self, timeout_s: float) -> RawFrame | BrokenFrame | None:
        """Return the next frame, as the plan lets it arrive."""
        self._check_alive()
        got = self._inner.fetch(timeout_s)
        if not isinstance(got, RawFrame):
            return got
        number, self._n_frames = self._n_frames, self._n_frames + 1
        last, self._last = self._last, got
        for fault in self._faults:
            if fault.at != number:
                continue
            self.happened[fault.fault] += 1
            if isinstance(fault, CameraDeath):
                self._is_dead = True
                self._check_alive()
            elif isinstance(fault, FrameFault):
                return _damaged(fault, got, last)
        return got

    def close(self) -> None:
        """Release the camera."""
        self._inner.close()

    def _check_alive(self) -> None:
        if self._is_dead:
            msg = "the camera is gone; check its cable and power, and open it again"
            raise DeviceError(msg)


def _damaged(
    fault: FrameFault, frame: RawFrame, last: RawFrame | None
) -> RawFrame | BrokenFrame | None:
    if fault.fault == "stale_frame":
        return last
    if fault.fault == "black_frame":
        return replace(frame, pixels=np.zeros_like(frame.pixels))
    if fault.fault == "torn_frame":
        return BrokenFrame(reason="the lower rows never arrived")
    return None
