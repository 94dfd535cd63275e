"""The one owner of a link to a board: lines, replies by a deadline, resets, a journal.

It knows no command. A codec says which line answers, and which text a board prints
when it has just been reset or is in alarm; such a text at any time means that the
reference is lost.
"""

import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeVar

from bifocus.clock import Clock
from bifocus.errors import (
    DeviceTimeoutError,
    LinkLostError,
    ProtocolError,
    ReferenceLostError,
)
from bifocus.hal.byte_link import ByteLink, ExchangeObserver

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")
Parse = Callable[[bytes], Answer | None]
"""Reads one line: the answer, or None for a line that answers something else."""

_LONGEST_LINE = 4096  # the longest line that any of the boards prints is under 300
_QUIET_S = 0.1  # a board that has said nothing for so long has no more to say
_DRAIN_S = 2.0  # ... and one that talks on and on is listened to no longer


class SerialPort:
    """Sends commands and reads lines; every wait has an end, every byte is journalled.

    Parameters
    ----------
    link
        The open link.
    name
        Names the board in messages, such as `grbl on /dev/ttyUSB0`.
    reference_lost
        Found in what the board prints after a reset, or in an alarm.
    reply_s
        Longest wait for an answer that needs no motion.
    observer
        Is told every exchange; None for nobody.
    """

    def __init__(
        self,
        link: ByteLink,
        *,
        clock: Clock,
        name: str,
        reference_lost: re.Pattern[bytes],
        reply_s: float,
        observer: ExchangeObserver | None = None,
    ) -> None:
        self.clock = clock
        self.name = name
        self.reply_s = reply_s
        self.strays = 0  # lines that answered nothing we had asked
        self._link = link
        self._reference_lost = reference_lost
        self._observer = observer
        self._lock = threading.RLock()
        self._buffer = bytearray()
        self._resets_expected = False

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Keep other threads out for a whole exchange."""
        with self._lock:
            yield

    @contextmanager
    def resets_expected(self) -> Iterator[None]:
        """Take reset banners for ordinary lines, as while connecting."""
        with self._lock:
            self._resets_expected = True
            try:
                yield
            finally:
                self._resets_expected = False

    @property
    def has_broken_line(self) -> bool:
        """Whether the last bytes heard are the beginning of a line without its end."""
        return bool(self._buffer)

    def send(self, data: bytes) -> None:
        """Write `data`; raises `LinkLostError` when the board is gone."""
        with self._lock:
            self.interject(data)

    def interject(self, data: bytes) -> None:
        """Write at once, even while another thread waits for its reply.

        Only for bytes that a board picks out of the stream, such as GRBL's.
        """
        self._note("tx", data)
        with self._losses_noted():
            self._link.write(data)

    def read_line(self, deadline_s: float) -> bytes:
        """Return the next line without its end.

        Raises
        ------
        DeviceTimeoutError
            If no whole line came before `deadline_s`.
        ReferenceLostError
            If the line is a reset banner or an alarm.
        ProtocolError
            If far too many bytes came without an end of line.
        LinkLostError
            If the board is gone.
        """
        with self._lock:
            while b"\n" not in self._buffer:
                self._buffer += self._read_some(deadline_s)
                if len(self._buffer) > _LONGEST_LINE:
                    self._buffer.clear()
                    msg = f"{self.name}: {_LONGEST_LINE} bytes without an end of line"
                    raise ProtocolError(msg)
            line, _, rest = bytes(self._buffer).partition(b"\n")
            self._buffer[:] = rest
            self._check_no_reset(line)
            return line.strip(b"\r\0")

    def wait_for(self, parse: Parse[Answer], deadline_s: float) -> Answer:
        """Return the first answer that `parse` recognises; other lines are counted.

        Raises what `read_line` and `parse` raise.
        """
        with self._lock:
            while True:
                line = self.read_line(deadline_s)
                answer = parse(line)
                if answer is not None:
                    return answer
                if line:
                    self.strays += 1
                    logger.debug("%s: a line nobody waits for: %r", self.name, line)

    def ask(
        self,
        command: bytes,
        parse: Parse[Answer],
        *,
        within_s: float | None = None,
        tries: int = 3,
    ) -> Answer:
        """Send a command that may be repeated without harm; return its answer.

        Raises
        ------
        DeviceTimeoutError, ProtocolError
            If none of `tries` attempts had an answer within `within_s` (`reply_s`).
        """
        trouble: Exception | None = None
        for _ in range(tries):
            with self._lock:
                if trouble is not None:
                    self.drain()
                self.discard_input()
                self.send(command)
                within = self.reply_s if within_s is None else within_s
                try:
                    return self.wait_for(parse, self.clock.monotonic_s() + within)
                except (DeviceTimeoutError, ProtocolError) as error:
                    trouble = error
                    self.note_event(f"no answer to {command!r}: {error}")
        assert trouble is not None
        raise trouble

    def discard_input(self) -> None:
        """Throw away what came unasked; a banner or an alarm among it raises."""
        with self._lock:
            with self._losses_noted():
                waiting = self._link.discard_input()
            if waiting:
                self._note("rx", waiting)
            stale = bytes(self._buffer) + waiting
            self._buffer.clear()
            self._check_no_reset(stale)

    def drain(self) -> None:
        """Listen until the board is quiet, so that late replies cannot mislead."""
        with self._lock:
            end_s = self.clock.monotonic_s() + _DRAIN_S
            heard = bytes(self._buffer)
            self._buffer.clear()
            try:
                while self.clock.monotonic_s() < end_s:
                    heard += self._read_some(self.clock.monotonic_s() + _QUIET_S)
            except DeviceTimeoutError:
                pass  # quiet at last
            self._check_no_reset(heard)

    def reopen(self) -> None:
        """Open the link again after a loss."""
        with self._lock:
            self._buffer.clear()
            with self._losses_noted():
                self._link.reopen()
            self.note_event("link opened again")

    def close(self) -> None:
        """Let go of the board; may be called twice."""
        self._link.close()

    def note_event(self, text: str) -> None:
        """Tell the journal, and the log, what is not an exchange."""
        logger.info("%s: %s", self.name, text)
        self._note("event", text.encode())

    def _read_some(self, deadline_s: float) -> bytes:
        with self._losses_noted():
            data = self._link.read(deadline_s=deadline_s)
        if not data:
            heard = bytes(self._buffer)
            msg = f"{self.name}: no answer by the deadline; heard only {heard!r}"
            raise DeviceTimeoutError(msg)
        self._note("rx", data)
        return data

    def _check_no_reset(self, heard: bytes) -> None:
        if self._resets_expected or not self._reference_lost.search(heard):
            return
        self.note_event("reset or alarm")
        msg = (
            f"{self.name}: the board was reset or is in alarm ({heard!r}), so its "
            "counts no longer tell where the stage is; find out why, then home the "
            "stage, or look where it stands and start again"
        )
        raise ReferenceLostError(msg)

    @contextmanager
    def _losses_noted(self) -> Iterator[None]:
        try:
            yield
        except LinkLostError as error:
            self.note_event(f"link lost: {error}")
            raise

    def _note(self, direction: Literal["tx", "rx", "event"], data: bytes) -> None:
        if self._observer is not None:
            self._observer.exchange(direction, data, self.clock.monotonic_s())
