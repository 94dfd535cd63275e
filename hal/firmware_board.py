"""What every virtual board has in common: a serial port, a clock, a reset, motors.

Pure and event-driven. A board never reads a clock: whoever carries its bytes tells it
the time, and asks when it will have something to do or to say next.
"""

import heapq
import itertools
import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Protocol

from bifocus.hal.firmware_axes import FirmwareAxes
from bifocus.hal.take_up import Triple
from bifocus.records import StagePosition


class Firmware(Protocol):
    """A board behind a serial cable, as a `VirtualLink` or a pty server carries it."""

    @property
    def axes(self) -> FirmwareAxes:
        """The motors, and the truth about them."""
        ...

    @property
    def resets_on_open(self) -> bool:
        """Whether opening the port pulls DTR and resets the processor."""
        ...

    def receive(self, data: bytes, now_s: float) -> None:
        """Take bytes from the host."""
        ...

    def output(self, now_s: float) -> bytes:
        """Return the bytes for the host that have become due."""
        ...

    def next_event_s(self) -> float:
        """Return when something will happen by itself; infinity for never."""
        ...

    def advance(self, now_s: float) -> None:
        """Let everything happen that is due."""
        ...

    def open_port(self, now_s: float) -> None:
        """Take note that a host has opened the port."""
        ...

    def reset(self, now_s: float) -> None:
        """Restart the processor: motors stop, memory is lost."""
        ...

    @property
    def n_pulls(self) -> int:
        """How often the cable has been pulled out so far."""
        ...

    @property
    def is_plugged(self) -> bool:
        """Whether the cable is in."""
        ...

    def true_pose_at(self, t_s: float) -> StagePosition:
        """Return where the glass truly was or is."""
        ...

    def reported_um(self, t_s: float) -> Triple:
        """Return the firmware's own count at `t_s`, in micrometres."""
        ...


class VirtualBoard(ABC):
    """The common part; a subclass knows one protocol.

    Parameters
    ----------
    axes
        The motors.
    now_s
        The time of power-on.
    answer_s
        From the end of a line to its answer.
    boot_s
        From reset to the banner; what comes in meanwhile is lost.
    buffer_bytes
        Bytes that are kept while the firmware is busy; more are lost.
    """

    resets_on_open = True

    def __init__(
        self,
        axes: FirmwareAxes,
        *,
        now_s: float,
        answer_s: float,
        boot_s: float,
        buffer_bytes: int,
    ) -> None:
        self.axes = axes
        self._answer_s = answer_s
        self._boot_s = boot_s
        self._buffer_bytes = buffer_bytes
        self._order = itertools.count()
        self._agenda: list[tuple[float, int, Callable[[float], None]]] = []
        self._outbox: deque[tuple[float, bytes]] = deque()
        self._waiting = bytearray()
        self._is_blocked = False
        self._ready_s = now_s
        self.lost_bytes = 0

    def receive(self, data: bytes, now_s: float) -> None:
        """Take bytes from the host; those during the boot are lost."""
        self.advance(now_s)
        if now_s < self._ready_s:
            self.lost_bytes += len(data)
            return
        for value in data:
            if self._took_at_once(value, now_s):
                continue
            if not self._is_reading() and len(self._waiting) >= self._buffer_bytes:
                self.lost_bytes += 1
                continue
            self._waiting.append(value)
            self._work(now_s)
        self._after_input(now_s)

    def output(self, now_s: float) -> bytes:
        """Return the bytes for the host that have become due."""
        self.advance(now_s)
        due = bytearray()
        while self._outbox and self._outbox[0][0] <= now_s:
            due += self._outbox.popleft()[1]
        return bytes(due)

    def next_event_s(self) -> float:
        """Return when a reply or an event is due; infinity for never."""
        reply_s = self._outbox[0][0] if self._outbox else math.inf
        return min(reply_s, self.next_action_s())

    def next_action_s(self) -> float:
        """Return when the board will do something by itself; infinity for never."""
        return self._agenda[0][0] if self._agenda else math.inf

    def advance(self, now_s: float) -> None:
        """Let everything happen that is due, in order."""
        while self._agenda and self._agenda[0][0] <= now_s:
            when_s, _, action = heapq.heappop(self._agenda)
            action(when_s)

    def open_port(self, now_s: float) -> None:
        """Reset, where the board's DTR line does that."""
        if self.resets_on_open:
            self.reset(now_s)

    def reset(self, now_s: float) -> None:
        """Stop, forget, and print the banner after the boot."""
        self.advance(now_s)
        self.axes.halt(now_s)
        self.axes.unstick()
        self._agenda.clear()
        self._outbox.clear()
        self._waiting.clear()
        self._is_blocked = False
        self._ready_s = now_s + self._boot_s
        self._forget(now_s)
        self._at(self._ready_s, self._greet)

    @property
    def n_pulls(self) -> int:
        """None: only a fault plan pulls the cable."""
        return 0

    @property
    def is_plugged(self) -> bool:
        """Always."""
        return True

    def true_pose_at(self, t_s: float) -> StagePosition:
        """Return where the glass truly was or is."""
        return self.axes.true_pose_at(t_s)

    def reported_um(self, t_s: float) -> Triple:
        """Return the count at `t_s` times the step."""
        x, y, z = (
            count * step
            for count, step in zip(
                self.axes.steps_at(t_s), self.axes.facts.step_um, strict=True
            )
        )
        return x, y, z

    @abstractmethod
    def raise_limit_alarm(self, now_s: float) -> None:
        """Do what the board does when a limit switch closes in a move."""

    @abstractmethod
    def _forget(self, now_s: float) -> None:
        """Put everything that a reset does not keep back to its first value."""

    @abstractmethod
    def _greet(self, now_s: float) -> None:
        """Say what the board says when it has started."""

    @abstractmethod
    def _take_line(self) -> bytes | None:
        """Remove one whole line, without its end, from the waiting bytes."""

    @abstractmethod
    def _execute(self, line: bytes, now_s: float) -> None:
        """Act on one line."""

    def _took_at_once(self, value: int, now_s: float) -> bool:
        """Act on a byte that never waits in the buffer; return whether it was one."""
        del value, now_s
        return False

    def _after_input(self, now_s: float) -> None:
        """Look at what has come in as a whole, such as a line without its end."""
        del now_s

    def _is_reading(self) -> bool:
        """Return whether the firmware takes bytes out of its buffer at present."""
        return not self._is_blocked

    def _work(self, now_s: float) -> None:
        """Execute lines until none is left or one blocks."""
        while self._is_reading() and (line := self._take_line()) is not None:
            self._execute(line, now_s)

    def _block_until(self, t_s: float, then: Callable[[float], None]) -> None:
        """Execute nothing until `t_s`; then do `then` and go on."""
        self._is_blocked = True

        def go_on(now_s: float) -> None:
            self._is_blocked = False
            then(now_s)
            self._work(now_s)

        self._at(t_s, go_on)

    def _at(self, t_s: float, action: Callable[[float], None]) -> None:
        heapq.heappush(self._agenda, (t_s, next(self._order), action))

    def _say(self, text: str, now_s: float) -> None:
        """Send one line, in order, when the answer time has passed."""
        self._send(text.encode("latin-1") + b"\r\n", now_s)

    def _send(self, data: bytes, now_s: float) -> None:
        due_s = now_s + self._answer_s
        if self._outbox:
            due_s = max(due_s, self._outbox[-1][0])
        self._outbox.append((due_s, data))
