"""A free-running camera on a virtual clock that costs next to nothing to expose."""

import math

import numpy as np

from bifocus.camera_config import OpenCvCameraConfig, RealCameraConfig
from bifocus.clock import Clock
from bifocus.hal.devices import CameraCapabilities
from bifocus.hal.fresh_frames import BrokenFrame, RawFrame

SIDE_PX = 64
PERIOD_S = 1 / 30
TRANSFER_S = 0.02
QUEUE = 3  # frames of the past that the driver still holds

CONFIG: RealCameraConfig = OpenCvCameraConfig(
    kind="opencv", width_px=SIDE_PX, height_px=SIDE_PX
)


class StillLife:
    """Exposes at multiples of its period; frames queue up while nobody looks."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._exposure_s = 0.01
        self._next = 0
        self._pixels = np.full((SIDE_PX, SIDE_PX, 3), 200, np.uint8)

    @property
    def capabilities(self) -> CameraCapabilities:
        return CameraCapabilities(
            kind="still life",
            identity="still life",
            simulated=True,
            width_px=SIDE_PX,
            height_px=SIDE_PX,
        )

    @property
    def is_triggered(self) -> bool:
        return False

    def set_exposure(self, exposure_s: float) -> float:
        self._exposure_s = exposure_s
        return exposure_s

    def trigger(self) -> None:
        raise AssertionError("a free-running camera is never triggered")

    def restart(self) -> None:
        self._next = self._newest() + 1

    def fetch(self, timeout_s: float) -> RawFrame | BrokenFrame | None:
        self._next = max(self._next, self._newest() + 1 - QUEUE)
        start_s = self._next * PERIOD_S
        wait_s = start_s + self._exposure_s + TRANSFER_S - self._clock.monotonic_s()
        self._clock.sleep(min(wait_s, timeout_s))
        if wait_s > timeout_s:
            return None
        self._next += 1
        return RawFrame(
            pixels=self._pixels, not_before_s=start_s, exposure_s=self._exposure_s
        )

    def close(self) -> None:
        pass

    def _newest(self) -> int:
        """The number of the last frame that has arrived."""
        late_s = self._clock.monotonic_s() - self._exposure_s - TRANSFER_S
        return math.floor(late_s / PERIOD_S + 1e-9)
