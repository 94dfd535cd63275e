"""One virtual board, used at the same time by a byte link, a camera and a test.

It holds the lock and the clock that the firmware itself does not know.
"""

import threading

from bifocus.clock import Clock
from bifocus.hal.firmware_board import Firmware
from bifocus.hal.take_up import Triple
from bifocus.records import StagePosition

Signs = tuple[int, int, int]


class SharedFirmware:
    """Carries bytes to and from a board, and tells the camera where the glass is.

    Parameters
    ----------
    firmware
        The board.
    clock
        Tells it the time.
    signs
        -1 for each axis that the board counts against the stage's direction.
    """

    def __init__(
        self, firmware: Firmware, *, clock: Clock, signs: Signs = (1, 1, 1)
    ) -> None:
        self.clock = clock
        self._firmware = firmware
        self._signs = signs
        self._lock = threading.Lock()

    def send(self, data: bytes) -> None:
        """Hand bytes to the board, now."""
        with self._lock:
            self._firmware.receive(data, self.clock.monotonic_s())

    def collect(self) -> bytes:
        """Return the bytes that have become due."""
        with self._lock:
            return self._firmware.output(self.clock.monotonic_s())

    def next_event_s(self) -> float:
        """Return when there will be something to collect, or infinity."""
        with self._lock:
            return self._firmware.next_event_s()

    def open_port(self) -> None:
        """Tell the board that a host opens the port; what it had to say is lost."""
        with self._lock:
            now_s = self.clock.monotonic_s()
            self._firmware.output(now_s)
            self._firmware.open_port(now_s)

    def cable(self) -> tuple[bool, int]:
        """Return whether the cable is in, and how often it has been pulled."""
        with self._lock:
            self._firmware.advance(self.clock.monotonic_s())
            return self._firmware.is_plugged, self._firmware.n_pulls

    def true_pose_at(self, t_s: float) -> StagePosition:
        """Return where the glass truly is or was at `t_s`."""
        with self._lock:
            self._firmware.advance(self.clock.monotonic_s())
            pose = self._firmware.true_pose_at(t_s)
        return self._in_stage_frame((pose.x_um, pose.y_um, pose.z_um))

    def reported_at(self, t_s: float) -> StagePosition:
        """Return what the board counts, or counted, at `t_s`."""
        with self._lock:
            self._firmware.advance(self.clock.monotonic_s())
            counted_um = self._firmware.reported_um(t_s)
        return self._in_stage_frame(counted_um)

    def glass_for(self, commanded: StagePosition) -> StagePosition:
        """Return the true pose that driving upward to a place brings about."""
        with self._lock:
            glass_um = self._firmware.axes.glass_for_um(self._in_board_frame(commanded))
        return self._in_stage_frame(glass_um)

    def z_drift_um(self, t_s: float) -> float:
        """Return how far the glass has crept upward by `t_s`, beside the motors."""
        with self._lock:
            return self._firmware.axes.z_drift_um(t_s)

    def commanded_for(self, glass: StagePosition) -> StagePosition:
        """Return where to drive, upward, for the glass to be at a true pose."""
        with self._lock:
            counted_um = self._firmware.axes.counted_for_um(self._in_board_frame(glass))
        return self._in_stage_frame(counted_um)

    def motor_at(self, t_s: float) -> StagePosition:
        """Return where the motors truly are or were at `t_s`."""
        with self._lock:
            self._firmware.advance(self.clock.monotonic_s())
            motor_um = self._firmware.axes.motor_um(t_s)
        return self._in_stage_frame(motor_um)

    def rest_from_s(self) -> float:
        """Return when the motors truly come to rest, or came."""
        with self._lock:
            self._firmware.advance(self.clock.monotonic_s())
            return self._firmware.axes.rest_from_s()

    def _in_board_frame(self, place: StagePosition) -> Triple:
        x, y, z = self._signs
        return place.x_um * x, place.y_um * y, place.z_um * z

    def _in_stage_frame(self, place_um: Triple) -> StagePosition:
        x, y, z = (a * sign for a, sign in zip(place_um, self._signs, strict=True))
        return StagePosition(x_um=x, y_um=y, z_um=z)
