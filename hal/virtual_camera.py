"""An in-process, free-running colour camera that looks at the virtual slide.

It exposes all the time, whether or not anybody looks; the driver's queue holds frames
of the past, and `grab(after=receipt)` has to throw those away. Only frames that are
returned are rendered.
"""

import logging
import math
import threading
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bifocus.camera_config import VirtualCameraConfig
from bifocus.clock import Clock
from bifocus.errors import ConfigError, DeviceError, DeviceTimeoutError
from bifocus.hal.defocus_render import DefocusRenderer
from bifocus.hal.devices import CameraCapabilities, Lend, PendingFrame
from bifocus.hal.frame_memory import FrameMemory
from bifocus.hal.sensor import Sensor
from bifocus.records import Frame, MoveReceipt, StagePosition, UInt8Image

logger = logging.getLogger(__name__)

MAX_EXPOSURE_S = 10.0  # as the instrument file's range
_LONGEST_WAIT_S = 600.0  # a receipt that settles later than this is another clock's


class PoseSource(Protocol):
    """What the camera must know of the stage: the hidden truth, and what it reports."""

    def true_pose_at(self, t_s: float) -> StagePosition:
        """Return where the glass truly is at `t_s`."""
        ...

    def reported_at(self, t_s: float) -> StagePosition:
        """Return what the controller reports at `t_s`."""
        ...

    def glass_for(self, commanded: StagePosition) -> StagePosition:
        """Return the true pose that driving upward to a place brings about."""
        ...

    def z_drift_um(self, t_s: float) -> float:
        """Return how far the glass has crept upward by `t_s`, beside the motors."""
        ...

    def commanded_for(self, glass: StagePosition) -> StagePosition:
        """Return where to drive, upward, for the glass to be at a true pose."""
        ...


class VirtualCamera:
    """Exposes at multiples of its period; frames are keyed by their running number.

    Frame n is exposed from `n * period`; it can be fetched `transfer_s` after the
    exposure ends. The queue keeps the newest `stale_frames` of the frames not fetched.
    The noise of frame n depends only on the seed and n. Safe to use from two threads.
    """

    def __init__(
        self,
        config: VirtualCameraConfig,
        *,
        renderer: DefocusRenderer,
        sensor: Sensor,
        poses: PoseSource,
        clock: Clock,
        seed: int,
    ) -> None:
        self._config = config
        self._renderer = renderer
        self._sensor = sensor
        self._poses = poses
        self._clock = clock
        self._seed = seed
        self._lock = threading.Lock()
        self._memory = FrameMemory()
        self._closed = False
        self._exposure_s = config.exposure_s
        self._origin_s = clock.monotonic_s()
        self._origin_number = 0
        self._next_number = 0
        self.discarded_frames = 0

    @property
    def capabilities(self) -> CameraCapabilities:
        """Size and identity."""
        return CameraCapabilities(
            kind="virtual",
            identity=self._config.name,
            simulated=True,
            width_px=self._config.width_px,
            height_px=self._config.height_px,
        )

    @property
    def period_s(self) -> float:
        """Time from one exposure's start to the next: frame rate, or exposure time."""
        return max(1 / self._config.frame_rate_hz, self._exposure_s)

    def configure(self, *, exposure_s: float) -> None:
        """Lock the exposure time; the stream restarts now and the queue is emptied.

        The configured exposure is the one that gives `white_level`; light is
        proportional to time.

        Raises
        ------
        ConfigError
            If `exposure_s` is not over 0 and at most 10 s.
        DeviceError
            If the camera is closed.
        """
        if not (math.isfinite(exposure_s) and 0 < exposure_s <= MAX_EXPOSURE_S):
            msg = f"exposure_s must be over 0 and at most 10 s, got {exposure_s}"
            raise ConfigError(msg)
        with self._lock:
            self._check_open()
            now_s = self._clock.monotonic_s()
            elapsed = (now_s - self._origin_s) / self.period_s
            self._origin_number += math.ceil(elapsed)
            self._next_number = self._origin_number
            self._origin_s = now_s
            self._exposure_s = exposure_s

    def grab(self, after: MoveReceipt | None = None) -> Frame:
        """Return the oldest frame in the queue, or the first one after a move.

        Raises
        ------
        DeviceTimeoutError
            If `after` settles more than ten minutes from now.
        DeviceError
            If the camera is closed.
        """
        with self._lock:
            return self._fetch(self._choose(after))

    def begin(self, after: MoveReceipt) -> PendingFrame:
        """Choose the first frame after a move; see `bifocus.hal.devices.EarlyCamera`.

        This camera keeps exact time, so that it knows when the exposure will end.
        """
        with self._lock:
            number = self._choose(after)
            return _Pending(self, number, self._start_s(number) + self._exposure_s)

    def fetch(self, number: int) -> Frame:
        """Wait for a frame that `begin` has chosen."""
        with self._lock:
            return self._fetch(number)

    def borrow_from(self, lend: Lend | None) -> None:
        """Render into lent memory; see `bifocus.hal.devices.BorrowingCamera`."""
        self._memory.borrow_from(lend)

    def close(self) -> None:
        """Release the camera."""
        self._closed = True

    def _choose(self, after: MoveReceipt | None) -> int:
        self._check_open()
        number = self._pick(after)
        self._next_number = number + 1
        return number

    def _fetch(self, number: int) -> Frame:
        self._check_open()
        available_s = self._start_s(number) + self._exposure_s
        available_s += self._config.transfer_s
        self._clock.sleep(available_s - self._clock.monotonic_s())
        return self._render(number)

    def _start_s(self, number: int) -> float:
        return self._origin_s + (number - self._origin_number) * self.period_s

    def _pick(self, after: MoveReceipt | None) -> int:
        """Return the number of the frame to deliver; count the ones thrown away."""
        now_s = self._clock.monotonic_s()
        late_s = now_s - self._exposure_s - self._config.transfer_s - self._origin_s
        newest = self._origin_number + math.floor(late_s / self.period_s + 1e-9)
        oldest = max(self._next_number, newest + 1 - self._config.stale_frames)
        oldest = max(oldest, self._origin_number)
        if after is None:
            return oldest
        if after.settled_s - now_s > _LONGEST_WAIT_S:
            msg = (
                f"no frame within {_LONGEST_WAIT_S:g} s: the move settles at "
                f"{after.settled_s:.3f} s and it is {now_s:.3f} s now; "
                "does the receipt come from another clock?"
            )
            raise DeviceTimeoutError(msg)
        elapsed = (after.settled_s - self._origin_s) / self.period_s
        fresh = self._origin_number + math.floor(elapsed)
        while self._start_s(fresh) < after.settled_s:
            fresh += 1
        number = max(oldest, fresh)
        self.discarded_frames += number - oldest
        return number

    def _render(self, number: int) -> Frame:
        start_s = self._start_s(number)
        middle_s = start_s + self._exposure_s / 2
        logger.debug("frame %d exposed at %.4f s", number, start_s)
        return Frame(
            pixels=self._picture(number, middle_s, self._take_memory()),
            exposure_start_s=start_s,
            exposure_end_s=start_s + self._exposure_s,
            pose=self._poses.reported_at(middle_s),
            sequence_number=number,
        )

    def _take_memory(self) -> UInt8Image:
        return self._memory.take((self._config.height_px, self._config.width_px))

    def _picture(self, number: int, t_s: float, out: UInt8Image) -> UInt8Image:
        pose = self._poses.true_pose_at(t_s)
        light = self._renderer.render(pose.x_um, pose.y_um, pose.z_um)
        rng = np.random.default_rng([self._seed, 0xCA3E7A, number])
        gain = self._exposure_s / self._config.exposure_s
        return self._sensor.expose(light, rng, gain, out)

    def _check_open(self) -> None:
        if self._closed:
            msg = f"the camera '{self._config.name}' is closed"
            raise DeviceError(msg)


@dataclass(frozen=True, slots=True)
class _Pending:
    """A frame by its number; exposure and period must stay as they were."""

    camera: VirtualCamera
    number: int
    exposure_end_s: float

    def get(self) -> Frame:
        return self.camera.fetch(self.number)
