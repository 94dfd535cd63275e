"""What carries bytes to a board and back: the contract of ports and of virtual links.

A link knows nothing of lines, commands or motion; `SerialPort` adds lines and replies.
All its waits are told as instants of a `bifocus.clock.Clock`.
"""

from typing import Literal, Protocol


class ByteLink(Protocol):
    """A two-way byte stream with deadlines: a serial port, or firmware in this process.

    One thread reads at a time; `write` may be called from any thread at any time.
    """

    def write(self, data: bytes) -> None:
        """Send `data`; return when it is handed over.

        Raises
        ------
        LinkLostError
            If the other end is gone.
        """
        ...

    def read(self, *, deadline_s: float) -> bytes:
        """Return at least one byte as soon as any is there.

        Parameters
        ----------
        deadline_s
            Instant on the link's clock; `b""` once `clock.monotonic_s()` reaches it.

        Raises
        ------
        LinkLostError
            If the other end is gone.
        """
        ...

    def discard_input(self) -> bytes:
        """Take what is waiting and return it at once, possibly `b""`.

        It is returned because a reset banner may be among it.

        Raises
        ------
        LinkLostError
            If the other end is gone.
        """
        ...

    def reopen(self) -> None:
        """Open again after a loss.

        Raises
        ------
        LinkLostError
            If the other end is still gone.
        """
        ...

    def close(self) -> None:
        """Let go of the other end; may be called twice."""
        ...


class ExchangeObserver(Protocol):
    """Somebody who looks on at every exchange, such as a journal for replay."""

    def exchange(
        self, direction: Literal["tx", "rx", "event"], data: bytes, at_s: float
    ) -> None:
        """Take note of bytes sent or received, or of an event told in words.

        Called with the port's lock held: be quick, and never call the port.
        """
        ...
