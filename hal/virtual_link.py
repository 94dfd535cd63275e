"""A byte link to virtual firmware in this process, on the real or a virtual clock.

On a virtual clock waiting for a reply costs no time and everything is repeatable: the
clock jumps to the moment at which the board has something to say.
"""

import threading

from bifocus.clock import VirtualClock
from bifocus.errors import LinkLostError
from bifocus.hal.shared_firmware import SharedFirmware


class VirtualLink:
    """A `ByteLink` to a board that lives in this process; opening may reset it."""

    def __init__(self, firmware: SharedFirmware, *, name: str = "virtual") -> None:
        self.name = name
        self._firmware = firmware
        self._clock = firmware.clock
        # Wakes a reader on a real clock when another thread has written.
        self._written = threading.Condition()
        self._is_open = False
        self._pulls_seen = 0
        self.reopen()

    def write(self, data: bytes) -> None:
        """Send `data`; see `ByteLink`."""
        self._check_connected()
        self._firmware.send(data)
        with self._written:
            self._written.notify_all()

    def read(self, *, deadline_s: float) -> bytes:
        """Return what the board says, waiting until `deadline_s` for it."""
        while True:
            self._check_connected()
            data = self._firmware.collect()
            now_s = self._clock.monotonic_s()
            if data or now_s >= deadline_s:
                return data
            self._wait(min(self._firmware.next_event_s(), deadline_s) - now_s)

    def discard_input(self) -> bytes:
        """Take what is waiting, without waiting."""
        self._check_connected()
        return self._firmware.collect()

    def reopen(self) -> None:
        """Open the port, which resets many boards."""
        is_plugged, self._pulls_seen = self._firmware.cable()
        if not is_plugged:
            msg = f"opening the port {self.name} failed: no such device"
            raise LinkLostError(msg)
        self._firmware.open_port()
        self._is_open = True

    def close(self) -> None:
        """Let go of the board, which goes on by itself."""
        self._is_open = False

    def _check_connected(self) -> None:
        is_plugged, pulls = self._firmware.cable()
        if is_plugged and pulls == self._pulls_seen and self._is_open:
            return
        why = "it is closed" if is_plugged and not self._is_open else "device gone"
        self._is_open = False
        msg = f"the port {self.name} cannot be reached: {why}; open it again"
        raise LinkLostError(msg)

    def _wait(self, duration_s: float) -> None:
        if isinstance(self._clock, VirtualClock):
            self._clock.sleep(duration_s)
        elif duration_s > 0:
            with self._written:
                self._written.wait(duration_s)
