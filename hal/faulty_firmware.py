"""A virtual board that suffers a fault plan, on its wire and in its mechanics.

It is a `Firmware` around another one, so that links and pty servers need not know.
"""

import heapq
import itertools
import math
from collections import Counter, deque
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from bifocus.hal.fault_plan import (
    BoardFault,
    FaultPlan,
    LateReply,
    LimitAlarm,
    LineFault,
    LostSteps,
    Reset,
    StuckBusy,
    Unplug,
)
from bifocus.hal.firmware_axes import FirmwareAxes, Steps
from bifocus.hal.firmware_board import VirtualBoard
from bifocus.hal.take_up import Triple
from bifocus.records import StagePosition

FaultT = TypeVar("FaultT", bound=BoardFault)


class FaultyFirmware:
    """Passes everything on to the board, but for what the plan says.

    Lines of the board, writes of the host, and moves are counted from 0, since power-on
    or the last `arm`; `happened` counts the faults that came to pass, by their names.
    """

    def __init__(self, board: VirtualBoard, plan: FaultPlan, *, seed: int) -> None:
        self._board = board
        self._rng = np.random.default_rng([seed, 0xFA17])
        self._order = itertools.count()
        self._agenda: list[tuple[float, int, Callable[[float], None]]] = []
        self._outbox: deque[tuple[float, bytes]] = deque()
        self._partial = b""
        self.n_pulls = 0
        self.is_plugged = True
        self.happened: Counter[str] = Counter()
        self.arm(plan)
        board.axes.faults = self

    def arm(self, plan: FaultPlan) -> None:
        """Go over to another plan, and count from 0 again."""
        self._faults = plan.board_faults()
        self._n_lines = self._n_writes = 0
        self._first_move = self._board.axes.n_moves

    @property
    def axes(self) -> FirmwareAxes:
        """The motors, and the truth about them."""
        return self._board.axes

    @property
    def resets_on_open(self) -> bool:
        """Whether opening the port resets the board."""
        return self._board.resets_on_open

    # What a link does with a board.

    def receive(self, data: bytes, now_s: float) -> None:
        """Take bytes from the host, one write at a time, as damaged as planned."""
        self.advance(now_s)
        number, self._n_writes = self._n_writes, self._n_writes + 1
        if not self.is_plugged or not data:
            return
        for fault in self._at(LineFault, number):
            if fault.fault.endswith("_command"):
                data = self._damaged(fault, data)
        self._board.receive(data, now_s)

    def output(self, now_s: float) -> bytes:
        """Return the bytes for the host that have become due, and survived."""
        self.advance(now_s)
        whole = self._partial + self._board.output(now_s)
        *lines, self._partial = whole.split(b"\n")
        for line in lines:
            self._queue(line + b"\n", now_s)
        due = b""
        while self._outbox and self._outbox[0][0] <= now_s:
            due += self._outbox.popleft()[1]
        return due if self.is_plugged else b""

    def next_event_s(self) -> float:
        """Return when a reply, a fault or an event of the board is due."""
        reply_s = self._outbox[0][0] if self._outbox else math.inf
        return min(reply_s, self._next_fault_s(), self._board.next_event_s())

    def advance(self, now_s: float) -> None:
        """Let the board's events and the faults happen in the order of their times."""
        while min(self._next_fault_s(), self._board.next_action_s()) <= now_s:
            if self._next_fault_s() > self._board.next_action_s():
                self._board.advance(self._board.next_action_s())
                continue
            when_s, _, action = heapq.heappop(self._agenda)
            self._board.advance(when_s)
            action(when_s)

    def open_port(self, now_s: float) -> None:
        """Open the board's port; what was on the wire is lost."""
        self.advance(now_s)
        self._outbox.clear()
        self._partial = b""
        self._board.open_port(now_s)

    def reset(self, now_s: float) -> None:
        """Restart the board."""
        self.advance(now_s)
        self._board.reset(now_s)

    def true_pose_at(self, t_s: float) -> StagePosition:
        """Return where the glass truly was or is."""
        return self._board.true_pose_at(t_s)

    def reported_um(self, t_s: float) -> Triple:
        """Return the board's count at `t_s`."""
        return self._board.reported_um(t_s)

    # What the motors ask.

    def lost_steps(self, number: int) -> Steps:
        """Return how many steps each axis loses in this move."""
        lost = [0, 0, 0]
        for fault in self._at(LostSteps, number - self._first_move):
            lost["xyz".index(fault.axis)] += fault.steps
            self.happened[fault.fault] += 1
        return lost[0], lost[1], lost[2]

    def stuck_s(self, number: int) -> float:
        """Return for how long the board is busy after this move's end."""
        longest_s = 0.0
        for fault in self._at(StuckBusy, number - self._first_move):
            self.happened[fault.fault] += 1
            longest_s = max(
                longest_s,
                math.inf if fault.duration_s is None else fault.duration_s,
            )
        return longest_s

    def on_move(self, number: int, start_s: float, end_s: float) -> None:
        """Schedule what happens within this move."""
        number -= self._first_move
        for fault in self._at(Reset, number):
            self._happen(fault, start_s, end_s, self._board.reset)
        for alarm in self._at(LimitAlarm, number):
            self._happen(alarm, start_s, end_s, self._board.raise_limit_alarm)
        for unplug in self._at(Unplug, number):
            self._happen(unplug, start_s, end_s, self._puller(unplug.back_after_s))

    def _happen(
        self,
        fault: Reset | LimitAlarm | Unplug,
        start_s: float,
        end_s: float,
        action: Callable[[float], None],
    ) -> None:
        def run(now_s: float) -> None:
            self.happened[fault.fault] += 1
            action(now_s)

        when_s = start_s + fault.progress * (end_s - start_s)
        heapq.heappush(self._agenda, (when_s, next(self._order), run))

    def _puller(self, back_after_s: float | None) -> Callable[[float], None]:
        def put_back(now_s: float) -> None:
            del now_s
            self.is_plugged = True

        def pull(now_s: float) -> None:
            self.is_plugged = False
            self.n_pulls += 1
            self._outbox.clear()
            if back_after_s is not None:
                event = (now_s + back_after_s, next(self._order), put_back)
                heapq.heappush(self._agenda, event)

        return pull

    def _next_fault_s(self) -> float:
        return self._agenda[0][0] if self._agenda else math.inf

    def _at(self, kind: type[FaultT], number: int) -> list[FaultT]:
        return [f for f in self._faults if isinstance(f, kind) and f.at == number]

    # The board's lines.

    def _queue(self, line: bytes, now_s: float) -> None:
        number = self._n_lines
        if line.strip():
            self._n_lines += 1
            for fault in self._at(LineFault, number):
                if fault.fault.endswith("_reply"):
                    line = self._damaged(fault, line)
        due_s = now_s
        for late in self._at(LateReply, number):
            self.happened[late.fault] += 1
            due_s = now_s + late.delay_s
        if self._outbox:
            due_s = max(due_s, self._outbox[-1][0])
        self._outbox.append((due_s, line))

    def _damaged(self, fault: LineFault, line: bytes) -> bytes:
        self.happened[fault.fault] += 1
        what = fault.fault.partition("_")[0]
        if what == "drop":
            return b""
        if what == "duplicate":
            return line + line
        at = int(self._rng.integers(len(line)))
        if what == "truncate":
            return line[:at]
        return line[:at] + bytes([self._other(line[at])]) + line[at + 1 :]

    def _other(self, value: int) -> int:
        """Return another byte: for a digit, half the time, another digit.

        That is the worst case, because only a checksum or a second look finds it.
        """
        if ord("0") <= value <= ord("9") and self._rng.random() < 0.5:
            return ord("0") + (value - ord("0") + int(self._rng.integers(1, 10))) % 10
        return value ^ 1 << int(self._rng.integers(8))
