"""A byte link over a serial port, a pseudo-terminal, or a URL that pyserial knows.

pyserial's errors become `LinkLostError`, so that nobody above it knows pyserial.
"""

import contextlib

import serial

from bifocus.clock import Clock
from bifocus.errors import LinkLostError

_WRITE_TIMEOUT_S = 2.0  # 64 bytes at 9600 baud take 0.07 s; more means a stuck board
_PIECE_BYTES = 4096
_SLICE_S = 0.5  # longest single wait inside pyserial, so that `close` gets through


class SerialLink:
    """One open serial port.

    Parameters
    ----------
    port
        Device path, or a pyserial URL such as `socket://host:port` or `rfc2217://...`.
    baud
        Bits per second; a pseudo-terminal takes any.
    assert_dtr
        State of DTR and RTS after opening. Boards with an AVR and a USB adapter reset
        when DTR rises; boards with native USB stay mute until it has risen.
    clock
        The real clock: a serial port does not run on any other.

    Raises
    ------
    LinkLostError
        If the port cannot be opened.
    """

    def __init__(self, port: str, *, baud: int, assert_dtr: bool, clock: Clock) -> None:
        self._name = port
        self._baud = baud
        self._assert_dtr = assert_dtr
        self._clock = clock
        self._serial = self._opened()

    def write(self, data: bytes) -> None:
        """Send `data`; see `ByteLink`."""
        try:
            self._serial.write(data)
        except (serial.SerialException, OSError) as error:
            raise self._lost("writing", error) from error

    def read(self, *, deadline_s: float) -> bytes:
        """Return what came, waiting until `deadline_s` for the first byte."""
        try:
            while True:
                left_s = deadline_s - self._clock.monotonic_s()
                self._serial.timeout = min(max(left_s, 0.0), _SLICE_S)
                first = self._serial.read(1)
                if first:
                    return bytes(first) + self._waiting()
                if self._clock.monotonic_s() >= deadline_s:
                    return b""
        except (serial.SerialException, OSError, TypeError) as error:
            raise self._lost("reading", error) from error

    def discard_input(self) -> bytes:
        """Take what is waiting, without waiting."""
        try:
            return self._waiting()
        except (serial.SerialException, OSError, TypeError) as error:
            raise self._lost("reading", error) from error

    def reopen(self) -> None:
        """Open the same port again."""
        self.close()
        self._serial = self._opened()

    def close(self) -> None:
        """Close the port; what was not yet sent is lost."""
        with contextlib.suppress(serial.SerialException, OSError):
            self._serial.close()

    def _waiting(self) -> bytes:
        """Read without waiting until nothing more is there."""
        self._serial.timeout = 0
        found = bytearray()
        while piece := self._serial.read(_PIECE_BYTES):
            found += piece
        return bytes(found)

    def _opened(self) -> serial.SerialBase:
        try:
            opened = serial.serial_for_url(
                self._name, do_not_open=True, write_timeout=_WRITE_TIMEOUT_S
            )
            opened.baudrate = self._baud
            opened.dtr = opened.rts = self._assert_dtr
            if isinstance(opened, serial.Serial):
                opened.exclusive = True  # a second program would steal our replies
            opened.open()
        except (serial.SerialException, OSError, ValueError) as error:
            raise self._lost("opening", error) from error
        return opened

    def _lost(self, doing: str, error: Exception) -> LinkLostError:
        return LinkLostError(
            f"{doing} the port {self._name} failed: {error}; check the cable, the "
            "power, `stage.port`, and that no other program has the port open"
        )
