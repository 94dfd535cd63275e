"""Runs one move on a board and finds out what really happened to it.

A move is never sent again because its answer was late. When anything is odd the stage
is first brought to rest and its place read; only what is still missing is sent then.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec

from bifocus.clock import VirtualClock
from bifocus.errors import (
    DeviceError,
    DeviceTimeoutError,
    LinkLostError,
    ProtocolError,
    ReferenceLostError,
)
from bifocus.hal.board_driver import BoardDriver, BoardFacts
from bifocus.hal.serial_port import SerialPort
from bifocus.hal.stage_frame import StageFrame
from bifocus.hal.take_up import Triple
from bifocus.stage_config import Deadlines

P = ParamSpec("P")

_SENDINGS = 3  # of one move, what is missing of it each time
_LOOK_S = 0.1  # how often a long move is looked at before its end is due
_LISTEN_S = 0.25  # how long a board that tells the end by itself is listened to
_REST_S = 0.02  # two equal places this far apart in time mean rest


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One straight move that was sent; `trouble` is what sending it met."""

    start_um: Triple
    target_um: Triple
    end_s: float
    deadline_s: float
    trouble: DeviceError | None


class MoveRunner:
    """Sends, awaits, checks and if need be completes moves; places in stage's frame.

    `stop_asked` may be set by any thread; the thread that moves then raises.
    """

    def __init__(
        self,
        board: BoardDriver,
        facts: BoardFacts,
        *,
        port: SerialPort,
        frame: StageFrame,
        deadlines: Deadlines,
    ) -> None:
        self.board = board
        self.facts = facts
        self.stop_asked = threading.Event()
        self.is_at_rest = True  # as far as the last move and search for rest told
        self.recoveries = 0  # moves that arrived only after a second look
        self._port = port
        self._clock = port.clock
        self._frame = frame
        self._deadlines = deadlines
        self._starting = threading.Lock()
        self._arrived_um: Triple = (0.0, 0.0, 0.0)

    def read(self) -> Triple:
        """Return the place that the board reports, in the stage's frame."""
        return self._frame.turned(self.board.read_um())

    def duration_s(self, start_um: Triple, target_um: Triple) -> float:
        """Return how long a move takes by physics."""
        turned = self._frame.turned
        return self.board.duration_s(turned(start_um), turned(target_um))

    def begin(self, start_um: Triple, target_um: Triple) -> Leg:
        """Send a move, once; never raises for what `finish` can put right."""
        duration_s = self.duration_s(start_um, target_um)
        self.is_at_rest = False
        trouble = self._trouble_of(self._send, start_um, target_um)
        now_s = self._clock.monotonic_s()
        return Leg(
            start_um=start_um,
            target_um=target_um,
            end_s=now_s + duration_s,
            deadline_s=now_s + self._allowed_s(duration_s),
            trouble=trouble,
        )

    def finish(self, leg: Leg) -> Triple:
        """Wait until the stage is at the leg's target; return the place read there.

        Raises
        ------
        DeviceTimeoutError
            If the motion did not end by its deadline; the board was told to stop.
        ReferenceLostError
            If the place at rest cannot be explained by the move.
        DeviceError
            If `stop_asked` was set, or the stage does not get there.
        """
        for sending in range(1, _SENDINGS + 1):
            trouble = leg.trouble or self._trouble_of(self._arrive, leg)
            if trouble is None:
                self.is_at_rest = True
                return self._arrived_um
            is_overdue = isinstance(trouble, _OverdueError)
            here_um = self.find_rest(None if is_overdue else leg)
            self._check_not_stopped(here_um)
            if is_overdue:
                msg = f"{self._port.name}: {trouble}, at {here_um} um"
                raise DeviceTimeoutError(msg)
            if self.is_at(here_um, leg.target_um, self.facts.arrival_um):
                self._count_recovery(trouble)
                return here_um
            self._check_explained(leg, here_um, trouble)
            if sending == _SENDINGS:
                break
            self._port.note_event(f"stands at {here_um}, sending the rest ({trouble})")
            leg = self.begin(here_um, leg.target_um)
        msg = (
            f"{self._port.name}: the stage does not reach {leg.target_um} um after "
            f"{_SENDINGS} attempts; last trouble: {trouble}; look for an obstacle, a "
            "pressed limit switch or a motor without power"
        )
        raise DeviceError(msg)

    def find_rest(self, leg: Leg | None) -> Triple:
        """Wait until all motion has ended, whatever came before; return the place.

        Raises
        ------
        DeviceTimeoutError
            If the stage would not come to rest, though it was told to stop.
        """
        duration_s = self.duration_s(leg.start_um, leg.target_um) if leg else 0.0
        end_s = self._clock.monotonic_s() + self._allowed_s(duration_s)
        was_told = False
        while True:
            trouble = self._trouble_of(self.board.resync)
            if trouble is None:
                try:
                    place_um = self._resting_place(end_s)
                except (DeviceTimeoutError, ProtocolError) as error:
                    trouble = error
                else:
                    self.is_at_rest = True
                    return place_um
            if self._clock.monotonic_s() < end_s:
                continue
            if was_told:
                msg = (
                    f"{self._port.name}: the stage did not come to rest by its "
                    f"deadline, though it was told to stop: {trouble}"
                )
                raise DeviceTimeoutError(msg) from trouble
            was_told = True
            self._trouble_of(self.board.halt)
            end_s = self._clock.monotonic_s() + self._deadlines.motion_extra_s

    def stop(self) -> None:
        """Ask the moving thread to give up, and the board to halt; from any thread."""
        with self._starting:
            self.stop_asked.set()
        self.board.halt()

    def pause_until(self, t_s: float) -> None:
        """Wait, but not longer than until a stop is asked for."""
        left_s = t_s - self._clock.monotonic_s()
        if isinstance(self._clock, VirtualClock):
            self._clock.sleep(left_s)  # a virtual clock jumps
        elif left_s > 0:
            self.stop_asked.wait(left_s)

    def is_at(self, place_um: Triple, other_um: Triple, within_um: Triple) -> bool:
        """Return whether two places are the same but for `within_um`."""
        pairs = zip(place_um, other_um, within_um, strict=True)
        return all(abs(a - b) <= near + 1e-6 for a, b, near in pairs)

    def _send(self, start_um: Triple, target_um: Triple) -> None:
        turned = self._frame.turned
        with self._starting:
            if self.stop_asked.is_set():
                msg = "stopped before the move began"
                raise DeviceError(msg)
            self.board.start_move(turned(start_um), turned(target_um))

    def _arrive(self, leg: Leg) -> None:
        """Wait for the end that the board tells, and see whether it is the target."""
        while not self.board.has_ended(
            min(self._clock.monotonic_s() + _LISTEN_S, leg.deadline_s)
        ):
            now_s = self._clock.monotonic_s()
            if now_s >= leg.deadline_s:
                raise self._overdue()
            if self.stop_asked.is_set():
                self.board.halt()
                msg = "stopped on the way"
                raise DeviceError(msg)
            look_s = min(max(leg.end_s - now_s, self.facts.poll_s), _LOOK_S)
            if self.facts.poll_s:
                self.pause_until(now_s + look_s)
        here_um = self.read()
        self._arrived_um = here_um
        if not self.is_at(here_um, leg.target_um, self.facts.arrival_um):
            msg = f"said to have ended at {here_um} um, not at {leg.target_um} um"
            raise DeviceError(msg)

    def _overdue(self) -> DeviceError:
        if self.facts.can_stop:
            self.board.halt()
            return _OverdueError("the move did not end by its deadline and was stopped")
        if self._port.has_broken_line:
            return ProtocolError("the answer to a move broke off")
        return DeviceTimeoutError("nothing told the end of a move by its deadline")

    def _resting_place(self, end_s: float) -> Triple:
        """Return a place read twice with nothing moving in between."""
        while True:
            before_um = self.read()
            self._clock.sleep(_REST_S)
            has_ended = self.board.has_ended(
                min(self._clock.monotonic_s() + _LISTEN_S, end_s)
            )
            after_um = self.read()
            if has_ended and self.is_at(before_um, after_um, self.facts.arrival_um):
                return after_um
            if self._clock.monotonic_s() >= end_s:
                msg = f"still moving at {after_um} um"
                raise DeviceTimeoutError(msg)

    def _check_not_stopped(self, here_um: Triple) -> None:
        if self.stop_asked.is_set():
            msg = f"the move was stopped; the stage is at {here_um} um"
            raise DeviceError(msg)

    def _check_explained(self, leg: Leg, here_um: Triple, trouble: DeviceError) -> None:
        """Raise unless the stage surely stands on its way, by counts still valid."""
        why = None
        ways = zip(
            here_um, leg.start_um, leg.target_um, self.facts.arrival_um, strict=True
        )
        if not all(
            min(begin, end) - near <= here <= max(begin, end) + near
            for here, begin, end, near in ways
        ):
            why = "that is not on its way"
        elif isinstance(trouble, ProtocolError):
            why = "a damaged answer may have been the word of a reset"
        elif self.facts.keeps_place_at_reset:
            if isinstance(trouble, DeviceTimeoutError):
                why = "a reset in silence would leave the same count"
        elif self.is_at(here_um, (0.0, 0.0, 0.0), self.facts.readback_um):
            why = "zero is also what it counts after a reset"
        if why is not None:
            msg = (
                f"{self._port.name}: sent from {leg.start_um} to {leg.target_um} um, "
                f"the stage is counted at {here_um} um ({trouble}), and {why}; home "
                "it, or look where it stands and start again"
            )
            raise ReferenceLostError(msg)

    def _allowed_s(self, duration_s: float) -> float:
        deadlines = self._deadlines
        return deadlines.motion_factor * duration_s + deadlines.motion_extra_s

    def _count_recovery(self, trouble: DeviceError) -> None:
        self.recoveries += 1
        self._port.note_event(f"the move had arrived all the same ({trouble})")

    def _trouble_of(
        self, action: Callable[P, None], *args: P.args, **named: P.kwargs
    ) -> DeviceError | None:
        """Return the error that a second look may cure; raise the others."""
        try:
            action(*args, **named)
        except (LinkLostError, ReferenceLostError):
            raise
        except DeviceError as error:
            return error
        return None


class _OverdueError(DeviceTimeoutError):
    """A move that was stopped because its time was up."""
