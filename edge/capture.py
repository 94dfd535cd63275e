"""One visit: move, settle, shoot; the frames carry their own times and pose."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from bifocus.clock import Clock
from bifocus.edge.buffer_pool import BufferPool
from bifocus.hal.devices import (
    BorrowingCamera,
    Camera,
    EarlyCamera,
    PendingFrame,
    Stage,
)
from bifocus.records import FocusPair, Frame, MoveReceipt, StagePosition


@dataclass(slots=True, kw_only=True)
class Waits:
    """Where the time of a scan went, in seconds; grows while the scan runs.

    Attributes
    ----------
    approach_s
        On the way to the first tile.
    stage_s, camera_s
        For motion and settling, and for fresh frames.
    measure_s
        For the focal offset of the last tile.
    fuse_s
        For room in the queues of fusion and of the disk.
    buffers_s
        For memory of frames that the stages still held.
    pause_s
        While somebody had paused the scan, or the disk was full.
    """

    approach_s: float = 0.0
    stage_s: float = 0.0
    camera_s: float = 0.0
    measure_s: float = 0.0
    fuse_s: float = 0.0
    buffers_s: float = 0.0
    pause_s: float = 0.0

    def as_dict(self) -> dict[str, float]:
        """Return the waits by name."""
        return asdict(self)


class Microscope:
    """Stage and camera together: shoots at a place and keeps the account of waits.

    Parameters
    ----------
    is_z_serpentine
        Shoot a pair from the side on which the last one ended, instead of upward.
    frames
        Lends the camera its memory between `begin` and `end`; None leaves it its own.

    Attributes
    ----------
    origin_um
        What is added to each x and y that the stage is told.
    """

    def __init__(
        self,
        stage: Stage,
        camera: Camera,
        clock: Clock,
        *,
        is_z_serpentine: bool = False,
        frames: BufferPool[np.uint8] | None = None,
    ) -> None:
        self.stage = stage
        self.camera = camera
        self.clock = clock
        self.is_z_serpentine = is_z_serpentine
        self._frames = frames if isinstance(camera, BorrowingCamera) else None
        self.origin_um = (0.0, 0.0)
        self.waits = Waits()
        self.shots = 0
        self._ended_above = False
        self._zero_s = clock.monotonic_s()

    def begin(self, passed_s: float = 0.0) -> None:
        """Start the scan's time; `passed_s` of it had passed before a break."""
        self._zero_s = self.clock.monotonic_s() - passed_s
        if self._frames is not None and isinstance(self.camera, BorrowingCamera):
            self.camera.borrow_from(self._frames.lend_or_make)

    def end(self) -> None:
        """Leave the camera its own memory again."""
        if isinstance(self.camera, BorrowingCamera):
            self.camera.borrow_from(None)

    def scan_s(self) -> float:
        """Return the seconds of the scan that have passed."""
        return self.clock.monotonic_s() - self._zero_s

    def approach(self, x_um: float, y_um: float, z_um: float) -> None:
        """Go where the scan begins; its time is the way there, not the scan's pace."""
        start_s = self.clock.monotonic_s()
        self.stage.move_to(self._place(x_um, y_um, z_um))
        self.waits.approach_s += self.clock.monotonic_s() - start_s

    def shoot(self, x_um: float, y_um: float, z_um: float) -> Frame:
        """Return a frame whose exposure began after the stage had settled there."""
        self._wait_for_memory(1)
        return self._shoot(x_um, y_um, z_um)

    def _shoot(self, x_um: float, y_um: float, z_um: float) -> Frame:
        receipt = self._move(self._place(x_um, y_um, z_um))
        return self._wait_for_frame(lambda: self.camera.grab(after=receipt))

    def shoot_pair(
        self, x_um: float, y_um: float, focus_um: float, half_spacing_um: float
    ) -> FocusPair:
        """Shoot at F-dD and at F+dD, upward unless the serpentine turns it round.

        Upward the second shot needs no take-up; downward the first one needs none. The
        stage takes up backlash by itself in both cases. Where the camera can tell when
        an exposure ends, the first frame is on its way while the stage goes to the
        second.
        """
        self._wait_for_memory(2)
        is_downward = self.is_z_serpentine and self._ended_above
        ends = (1, -1) if is_downward else (-1, 1)
        start_um, end_um = (focus_um + end * half_spacing_um for end in ends)
        if isinstance(self.camera, EarlyCamera):
            pending = self._expose(self.camera, x_um, y_um, start_um)
            other = self._expose(self.camera, x_um, y_um, end_um)
            first = self._wait_for_frame(pending.get)
            second = self._wait_for_frame(other.get)
        else:
            first = self._shoot(x_um, y_um, start_um)
            second = self._shoot(x_um, y_um, end_um)
        self._ended_above = not is_downward
        return FocusPair(
            minus=second if is_downward else first,
            plus=first if is_downward else second,
            focus_um=focus_um,
            half_spacing_um=half_spacing_um,
        )

    def _expose(
        self, camera: EarlyCamera, x_um: float, y_um: float, z_um: float
    ) -> PendingFrame:
        """Go there, and return as soon as the stage may move again."""
        receipt = self._move(self._place(x_um, y_um, z_um))
        start_s = self.clock.monotonic_s()
        pending = camera.begin(receipt)
        self.clock.sleep(pending.exposure_end_s - start_s)
        self.waits.camera_s += self.clock.monotonic_s() - start_s
        return pending

    def _wait_for_memory(self, n_frames: int) -> None:
        if self._frames is None:
            return
        start_s = self.clock.monotonic_s()
        self._frames.wait_for(n_frames)
        self.waits.buffers_s += self.clock.monotonic_s() - start_s

    def _wait_for_frame(self, get: Callable[[], Frame]) -> Frame:
        start_s = self.clock.monotonic_s()
        frame = get()
        self.waits.camera_s += self.clock.monotonic_s() - start_s
        self.shots += 1
        return frame

    def _place(self, x_um: float, y_um: float, z_um: float) -> StagePosition:
        by_x_um, by_y_um = self.origin_um
        return StagePosition(x_um=x_um + by_x_um, y_um=y_um + by_y_um, z_um=z_um)

    def _move(self, target: StagePosition) -> MoveReceipt:
        start_s = self.clock.monotonic_s()
        receipt = self.stage.move_to(target)
        self.waits.stage_s += self.clock.monotonic_s() - start_s
        return receipt
