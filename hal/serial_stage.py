"""A stage behind a serial port: limits, take-up, reference, reconnection, homing.

This is the policy, the same for every board. What a board says is known to its driver
(`BoardDriver`), how one move is made sure to `MoveRunner`.
"""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import pairwise

from bifocus.errors import (
    DeviceError,
    DeviceTimeoutError,
    LinkLostError,
    ReferenceLostError,
)
from bifocus.hal.board_driver import BoardDriver
from bifocus.hal.devices import StageCapabilities, StageLimits
from bifocus.hal.move_runner import Leg, MoveRunner
from bifocus.hal.serial_port import SerialPort
from bifocus.hal.stage_frame import StageFrame, as_position, as_triple
from bifocus.hal.take_up import NOT_ENGAGED, Engagement, Triple, plan_approach
from bifocus.records import MoveReceipt, StagePosition
from bifocus.stage_config import SerialStageConfig


class SerialStage:
    """An XYZ stage on a serial board; see `devices.Stage` for the contract.

    Opening identifies the board and moves nothing. A stage with switches refuses to
    move until `home` was called; one without trusts the counts it finds. After a reset
    or an alarm every call raises `ReferenceLostError` until `home` has found the
    switches, or the stage is opened anew by somebody who has looked.

    Parameters
    ----------
    config
        The `stage:` section.
    board
        The driver of the board, not yet connected.
    port
        The port that the driver speaks through.
    """

    def __init__(
        self, config: SerialStageConfig, board: BoardDriver, port: SerialPort
    ) -> None:
        self._config = config
        self._board = board
        self._port = port
        self._clock = port.clock
        self._frame = StageFrame(config)
        facts = board.connect()
        self._runner = MoveRunner(
            board, facts, port=port, frame=self._frame, deadlines=config.deadlines
        )
        self._motion = threading.RLock()
        self._pending: Leg | None = None
        self._held_um: Triple | None = None  # where we left it at rest
        self._engaged: Engagement = NOT_ENGAGED
        self._may_move = False
        self._is_homed = config.homing == "none"
        self._lost_reference: str | None = None
        self._is_cut_off = False
        self._is_closed = False

    @property
    def limits(self) -> StageLimits:
        """Safe travel: low ends keep room for the approach, z for the objective."""
        return self._frame.limits

    @property
    def capabilities(self) -> StageCapabilities:
        """What the board promises; firmware that is no real board says `virtual`."""
        facts = self._runner.facts
        marker = "virtual " if self._config.simulated else ""
        return StageCapabilities(
            kind=str(getattr(self._config, "kind", "serial")),
            identity=f"{self._config.name}: {marker}{facts.identity}",
            simulated=self._config.simulated,
            can_stop=facts.can_stop,
            reports_actual_position=facts.reports_actual_position,
            resolution_um=as_position(self._config.step_um),
            needs_home=self._config.homing == "switches",
        )

    @property
    def recoveries(self) -> int:
        """How many moves arrived only after a second look at an odd answer."""
        return self._runner.recoveries

    def position(self) -> StagePosition:
        """Return the position that the board reports now.

        A board that is deaf while it moves answers when the piece under way has ended.

        Raises
        ------
        ReferenceLostError
            If the counts no longer tell where the stage is.
        """
        with self._guarded():
            self._ensure_reachable()
            self._check_referenced()
            if self._motion.acquire(blocking=False):
                try:
                    return as_position(self._place_now())
                finally:
                    self._motion.release()
            return as_position(self._frame.quantised(self._runner.read()))

    def move_to(self, position: StagePosition, wait: bool = True) -> MoveReceipt:
        """Move to an absolute position, approaching from below; see `devices.Stage`.

        Raises
        ------
        OutOfTravelError
            If the target is outside `limits`; nothing was sent.
        ReferenceLostError
            If nobody knows where the stage is, or it has not been homed.
        DeviceTimeoutError
            If the motion did not end by its deadline; the board was told to stop.
        LinkLostError
            If the board cannot be reached.
        DeviceError
            If the stage is closed, was stopped, or does not get there.
        """
        return self._move(position, wait=wait, is_direct=False)

    def move_direct(self, position: StagePosition, wait: bool = True) -> MoveReceipt:
        """Move straight there, taking up nothing; see `devices.DirectStage`."""
        return self._move(position, wait=wait, is_direct=True)

    def stop(self) -> None:
        """Halt the motion from any thread; return when the stage is at rest.

        A board that cannot be stopped ends the piece of a move that is under way.
        Homing on such a board goes on to its end; only its power switch stops that.
        A reference lost meanwhile is told by the next call.
        """
        if self._is_closed or (self._is_cut_off and not self._may_move):
            return
        with suppress(ReferenceLostError), self._guarded():
            self._runner.stop()
            deadlines = self._config.deadlines
            longest_s = (
                deadlines.motion_factor * self._config.stop_latency_s
                + 2 * deadlines.motion_extra_s
            )
            # The thread that moves the stage waits for rest and then lets go.
            if not self._motion.acquire(timeout=longest_s):
                msg = (
                    f"{self._port.name}: told to stop, but not at rest {longest_s} s on"
                )
                raise DeviceTimeoutError(msg)
            try:
                if self._may_move:
                    leg = self._pending
                    self._forget_place()
                    self._runner.find_rest(leg)
                    self._may_move = False
            finally:
                self._motion.release()

    def home(self) -> MoveReceipt:
        """Find the reference, z away from the glass first; end inside the limits.

        Without switches nothing is found: z goes up to the end of its travel by the
        counts, and then x and y to their low ends.
        """
        self._check_open()
        with self._motion, self._guarded():
            self._runner.stop_asked.clear()
            start_s = self._clock.monotonic_s()
            if self._config.homing == "switches":
                self._find_switches()
                goal_um = self._frame.inside(self._place_at_rest())
            else:
                self._ensure_reachable()
                self._check_referenced()
                self._finish_pending()
                limits = self.limits
                goal_um = (limits.x_um[0], limits.y_um[0], limits.z_um[1])
            here_um = self._place_at_rest()
            self._go(here_um, ((here_um[0], here_um[1], goal_um[2]),), wait=True)
            receipt = self._travel(as_position(goal_um), wait=True)
        return replace(receipt, start_s=start_s)

    def close(self) -> None:
        """Let go of the port; the stage stays where it is."""
        self._is_closed = True
        self._port.close()

    def _move(
        self, position: StagePosition, *, wait: bool, is_direct: bool
    ) -> MoveReceipt:
        """Do what `move_to` and `move_direct` have in common."""
        self._check_open()
        self._frame.check_limits(as_triple(position))
        with self._motion, self._guarded():
            self._runner.stop_asked.clear()
            self._ensure_reachable()
            self._check_referenced()
            self._finish_pending()
            return self._travel(position, wait=wait, is_direct=is_direct)

    def _travel(
        self, position: StagePosition, *, wait: bool, is_direct: bool = False
    ) -> MoveReceipt:
        """Go to a target, with every gap closed upward unless `is_direct`."""
        start_s = self._clock.monotonic_s()
        target_um = self._frame.quantised(as_triple(position))
        here_um = self._place_at_rest()
        approach = plan_approach(
            here_um,
            target_um,
            take_up_um=None if is_direct else self._config.take_up_um,
            engaged=self._engaged,
        )
        self._go(here_um, approach.waypoints, wait=wait)
        self._engaged = approach.engaged
        pending = self._pending
        end_s = pending.end_s if pending else self._clock.monotonic_s()
        receipt = MoveReceipt(
            commanded=position,
            reported=as_position(target_um if pending else self._place_at_rest()),
            start_s=start_s,
            end_s=end_s,
            settled_s=end_s + self._config.settle_s,
        )
        if wait:
            self._runner.pause_until(receipt.settled_s)
            self._check_not_stopped()
        return receipt

    def _go(
        self, here_um: Triple, waypoints: tuple[Triple, ...], *, wait: bool
    ) -> None:
        """Run the pieces of a way; without `wait` the last one is left under way."""
        ways = [
            piece
            for begin, end in pairwise(
                (here_um, *map(self._frame.quantised, waypoints))
            )
            for piece in self._pieces(begin, end)
        ]
        self._engaged = NOT_ENGAGED  # known again when the whole way has been gone
        for number, (begin, end) in enumerate(ways, start=1):
            self._may_move = True
            self._held_um = None
            self._pending = self._runner.begin(begin, end)
            if wait or number < len(ways):
                self._finish_pending()

    def _pieces(self, begin: Triple, end: Triple) -> list[tuple[Triple, Triple]]:
        """Cut a way that cannot be stopped into pieces of the promised latency."""
        count = 1
        if not self._runner.facts.can_stop:
            duration_s = self._runner.duration_s(begin, end)
            count = max(1, math.ceil(duration_s / self._config.stop_latency_s))
        return self._frame.pieces(begin, end, count)

    def _finish_pending(self) -> None:
        """Wait for the move under way, if there is one."""
        leg = self._pending
        if leg is None:
            return
        try:
            self._runner.pause_until(leg.end_s)
            place_um = self._runner.finish(leg)
        except LinkLostError:
            raise  # the move may still be going on
        except DeviceError:
            self._forget_place()
            self._may_move = not self._runner.is_at_rest
            raise
        self._pending = None
        self._may_move = False
        self._held_um = self._seen(place_um, leg.target_um)

    def _place_now(self) -> Triple:
        """Return the place, checked twice where it is not the expected one at rest."""
        leg = self._pending
        if leg is not None and self._clock.monotonic_s() < leg.end_s:
            return self._seen(self._runner.read(), leg.target_um)
        self._finish_pending()
        if not self._runner.facts.has_manual_control:
            return self._place_at_rest()
        # Somebody may just be moving it: look twice, but wait for nothing.
        seen_um = self._seen(self._runner.read(), self._held_um)
        if seen_um == self._held_um:
            return seen_um
        return self._seen(self._runner.read(), self._held_um)

    def _place_at_rest(self) -> Triple:
        """Return where the stage stands; raise when nobody can have moved it there."""
        facts, held_um = self._runner.facts, self._held_um
        if held_um is not None:
            if self._runner.is_at(self._runner.read(), held_um, facts.arrival_um):
                return held_um
        place_um = self._runner.find_rest(None)
        if held_um is not None and not self._runner.is_at(
            place_um, held_um, facts.arrival_um
        ):
            self._engaged = NOT_ENGAGED
            is_zero = self._runner.is_at(place_um, (0.0, 0.0, 0.0), facts.readback_um)
            if not facts.has_manual_control or is_zero:
                msg = (
                    f"{self._port.name}: the stage was left at {held_um} um and is now "
                    f"counted at {place_um} um; it must have been reset, so home it, "
                    "or look where it stands and start again"
                )
                raise ReferenceLostError(msg)
            text = f"moved by hand from {held_um} to {place_um} um"
            self._port.note_event(text)
        self._held_um = self._seen(place_um, held_um)
        return self._held_um

    def _seen(self, read_um: Triple, expected_um: Triple | None) -> Triple:
        """Return a place read back in whole steps; the expected one if it may be it."""
        readback_um = self._runner.facts.readback_um
        if expected_um is not None and self._runner.is_at(
            read_um, expected_um, readback_um
        ):
            return expected_um
        return self._frame.quantised(read_um)

    def _find_switches(self) -> None:
        """Connect anew where that is needed, then run the board's homing."""
        if self._is_cut_off:
            self._port.reopen()
            self._is_cut_off = False
        self._forget_place()
        self._board.connect()
        self._may_move = True
        self._board.home(self._clock.monotonic_s() + self._config.deadlines.home_s)
        self._runner.find_rest(None)
        self._may_move = False
        self._lost_reference, self._is_homed = None, True

    def _ensure_reachable(self) -> None:
        """After a loss, open the port again and see whether the counts still hold."""
        if not self._is_cut_off:
            return
        with self._motion:
            facts, held_um = self._runner.facts, self._held_um
            was_moving = self._may_move
            self._port.reopen()
            if self._board.connect().identity != facts.identity:
                msg = f"{self._port.name}: another board answers than {facts.identity}"
                raise DeviceError(msg)
            self._is_cut_off = self._may_move = False
            self._forget_place()
            place_um = self._runner.find_rest(None)
            is_zero = self._runner.is_at(place_um, (0.0, 0.0, 0.0), facts.readback_um)
            if (
                was_moving
                or (is_zero and not facts.keeps_place_at_reset)
                or (held_um is not None and self._seen(place_um, held_um) != held_um)
            ):
                msg = (
                    f"{self._port.name}: back after a loss, counted at {place_um} um "
                    f"and left at {held_um} um{' while moving' if was_moving else ''}: "
                    "its counts cannot be trusted; home it, or look and start again"
                )
                raise ReferenceLostError(msg)
            self._held_um = held_um
            self._port.note_event("back after a loss, at the place where it was left")

    def _forget_place(self) -> None:
        self._pending = self._held_um = None
        self._engaged = NOT_ENGAGED

    def _check_open(self) -> None:
        if self._is_closed:
            msg = f"the stage '{self._config.name}' is closed"
            raise DeviceError(msg)

    def _check_referenced(self) -> None:
        if self._lost_reference is not None:
            raise ReferenceLostError(self._lost_reference)
        if not self._is_homed:
            msg = (
                f"the stage '{self._config.name}' has not been homed since it was "
                "opened; call home() first"
            )
            raise ReferenceLostError(msg)

    def _check_not_stopped(self) -> None:
        if self._runner.stop_asked.is_set():
            msg = f"the move was stopped; the stage is at {self._held_um} um"
            raise DeviceError(msg)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Remember a lost reference or a lost link for the calls to come."""
        try:
            yield
        except ReferenceLostError as error:
            self._lost_reference = str(error)
            self._forget_place()
            raise
        except LinkLostError:
            self._is_cut_off = True
            raise
