"""A byte link that can be told to lose, refuse, mute or cut what passes through it.

It sits between a driver and its board, real or virtual, and serves the conformance
kit: nothing is random, and `mend` takes every fault away.
"""

import contextlib
import threading
from collections.abc import Sequence
from typing import Literal

from bifocus.errors import LinkLostError
from bifocus.hal.byte_link import ByteLink

# What each board says to a command it will not carry out.
ERROR_REPLIES: dict[str, bytes] = {
    "sangaboard": b"Bad command.\r\n",
    "grbl": b"error:9\r\n",
    "marlin": b'echo:Unknown command: "?"\r\nok\r\n',
    "asi": b":N-1\r\n",
}

_Fault = Literal["none", "lose", "refuse", "silence", "unplug"]


class FaultyLink:
    """A `ByteLink` around another one; one `write` of the driver is one command.

    Parameters
    ----------
    inner
        The real link.
    error_reply
        What the board says to a command it refuses.
    """

    def __init__(self, inner: ByteLink, *, error_reply: bytes) -> None:
        self._inner = inner
        self._error_reply = error_reply
        self._lock = threading.Lock()
        self._sent: list[bytes] = []
        self._fault: _Fault = "none"
        self._at = 0
        self._is_mute = False
        self._said = b""

    def sent(self) -> Sequence[bytes]:
        """Return the commands that the driver has sent so far."""
        return tuple(self._sent)

    def lose_reply(self, nth: int) -> None:
        """Let the board act on the nth command from now, and lose what it answers."""
        self._arm("lose", nth)

    def refuse(self, nth: int) -> None:
        """Keep the nth command from the board; answer with the board's own error."""
        self._arm("refuse", nth)

    def silence(self, nth: int = 1) -> None:
        """From the nth command from now let nothing through in either direction."""
        self._arm("silence", nth)

    def unplug(self) -> None:
        """Pull the cable: reading and writing raise `LinkLostError`."""
        self._arm("unplug", 0)

    def mend(self) -> None:
        """Make the cable whole again; what was lost stays lost."""
        self._arm("none", 0)
        with contextlib.suppress(LinkLostError):  # closed meanwhile: nothing waits
            self._inner.discard_input()

    def write(self, data: bytes) -> None:
        """Send `data`, unless this is the command that the fault is meant for."""
        self._check_plugged()
        with self._lock:
            self._sent.append(data)
            is_hit = len(self._sent) == self._at
            if self._fault == "silence":
                self._is_mute = len(self._sent) >= self._at
                if self._is_mute:
                    return
            else:  # one reply is lost, until the next command
                self._is_mute = is_hit and self._fault == "lose"
            if is_hit and self._fault == "refuse":
                self._said += self._error_reply
                return
        self._inner.write(data)

    def read(self, *, deadline_s: float) -> bytes:
        """Return what the driver is to see, by `deadline_s`."""
        while True:
            self._check_plugged()
            if self._said:
                return self._take_said()
            data = self._inner.read(deadline_s=deadline_s)
            if not data or not self._is_mute:
                return data

    def discard_input(self) -> bytes:
        """Take what is waiting."""
        self._check_plugged()
        data = self._take_said() + self._inner.discard_input()
        return b"" if self._is_mute else data

    def reopen(self) -> None:
        """Open again, if the cable is in."""
        self._check_plugged()
        self._inner.reopen()

    def close(self) -> None:
        """Let go of the inner link."""
        self._inner.close()

    def _arm(self, fault: _Fault, nth: int) -> None:
        with self._lock:
            self._fault = fault
            self._at = len(self._sent) + nth if nth else 0
            self._is_mute = False
            self._said = b""

    def _take_said(self) -> bytes:
        with self._lock:
            said, self._said = self._said, b""
        return said

    def _check_plugged(self) -> None:
        if self._fault == "unplug":
            msg = "the cable is unplugged (a test of the conformance kit)"
            raise LinkLostError(msg)
