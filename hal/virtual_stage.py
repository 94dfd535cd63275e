"""An in-process stage with real faults: slow, quantised, with play, ringing and drift.

The stage's driver side (limits, take-up, receipts) is what a good driver of real
hardware does; the hidden side is `GlassMotion`, which only the camera and tests see.
"""

import logging
import threading

import numpy as np

from bifocus.clock import Clock, VirtualClock
from bifocus.errors import DeviceError, OutOfTravelError
from bifocus.hal.devices import StageCapabilities, StageLimits
from bifocus.hal.glass_motion import GlassMotion
from bifocus.hal.motion import TrapezoidalMove
from bifocus.hal.take_up import NOT_ENGAGED, Triple, plan_approach
from bifocus.records import MoveReceipt, StagePosition
from bifocus.stage_config import VirtualStageConfig

logger = logging.getLogger(__name__)

_SLICE_S = 0.02  # how late a real-time wait may notice a stop


class VirtualStage:
    """A simulated XYZ stage; one thread moves it, any thread may stop or look.

    It powers on in the middle of its travel and never moves by itself. Asking for the
    position is free; every motion command costs `command_s`.
    """

    def __init__(self, config: VirtualStageConfig, *, clock: Clock, seed: int) -> None:
        self._config = config
        self._clock = clock
        self._limits = _usable_limits(config)
        self._engaged = NOT_ENGAGED
        self._closed = False
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        start = tuple(sum(ends) / 2 for ends in _ranges(self._limits))
        self.motion = GlassMotion(
            config.mechanics,
            start_um=self._quantised((start[0], start[1], start[2])),
            start_s=clock.monotonic_s(),
            full_speed_um_per_s=config.speed_um_per_s,
            rng=np.random.default_rng([seed, 0x57A6E]),
        )

    @property
    def limits(self) -> StageLimits:
        """Reachable travel: low ends keep room for the approach from below."""
        return self._limits

    @property
    def capabilities(self) -> StageCapabilities:
        """What this stage promises; it reports the motor, not the glass."""
        x_um, y_um, z_um = self._config.step_um
        return StageCapabilities(
            kind="virtual",
            identity=self._config.name,
            simulated=True,
            can_stop=True,
            reports_actual_position=False,
            resolution_um=StagePosition(x_um=x_um, y_um=y_um, z_um=z_um),
        )

    def position(self) -> StagePosition:
        """Return the motor position in whole steps, as a controller reports it."""
        return self.reported_at(self._clock.monotonic_s())

    def reported_at(self, t_s: float) -> StagePosition:
        """Return what `position` told, or would have told, at `t_s`."""
        return _as_position(self._quantised(self.motion.motor_um(t_s)))

    def true_pose_at(self, t_s: float) -> StagePosition:
        """Return where the glass truly was, is or will be; no real stage can tell."""
        return self.motion.true_pose_at(t_s)

    def glass_for(self, commanded: StagePosition) -> StagePosition:
        """Return the true pose that driving upward to a place brings about."""
        return _as_position(self.motion.ideal_um(_as_triple(commanded)))

    def z_drift_um(self, t_s: float) -> float:
        """Return how far the glass has crept upward by `t_s`, beside the motors."""
        return self.motion.z_drift_um(t_s)

    def commanded_for(self, glass: StagePosition) -> StagePosition:
        """Return where to drive, upward, for the glass to be at a true pose."""
        return _as_position(self.motion.motor_for_um(_as_triple(glass)))

    def move_to(self, position: StagePosition, wait: bool = True) -> MoveReceipt:
        """Move to an absolute position, approaching from below; see `devices.Stage`.

        A move asked for while another runs begins when that has ended.

        Raises
        ------
        OutOfTravelError
            If the target is outside `limits`; nothing has moved.
        DeviceError
            If the stage is closed, or `stop` was called while waiting.
        """
        return self._move(position, wait=wait, is_direct=False)

    def move_direct(self, position: StagePosition, wait: bool = True) -> MoveReceipt:
        """Move straight there, taking up nothing; see `devices.DirectStage`."""
        return self._move(position, wait=wait, is_direct=True)

    def stop(self) -> None:
        """Halt the motors at once; the move that waits raises `DeviceError`."""
        with self._lock:
            now_s = self._clock.monotonic_s()
            moving = self.motion.busy_until_s() > now_s
            self.motion.halt(now_s)
            self._stopped.set()
            if moving:
                # The halt may have caught the take-up half done.
                self._engaged = NOT_ENGAGED

    def home(self) -> MoveReceipt:
        """Go to the reference corner: z up and away from the glass first, then x, y."""
        here = self.position()
        x_um, y_um = self._limits.x_um[0], self._limits.y_um[0]
        top_um = self._limits.z_um[1]
        self.move_to(_clamped(here, self._limits, z_um=top_um))
        return self.move_to(StagePosition(x_um=x_um, y_um=y_um, z_um=top_um))

    def close(self) -> None:
        """Release the stage; it stays where it is."""
        self._closed = True

    def _move(
        self, position: StagePosition, *, wait: bool, is_direct: bool
    ) -> MoveReceipt:
        """Do what `move_to` and `move_direct` have in common."""
        self._check_open()
        self._check_limits(position)
        self._stopped.clear()
        self._wait_until(self.motion.busy_until_s())
        start_s = self._clock.monotonic_s()
        end_s = self._begin(_as_triple(position), start_s, is_direct=is_direct)
        receipt = MoveReceipt(
            commanded=position,
            reported=self.reported_at(end_s),
            start_s=start_s,
            end_s=end_s,
            settled_s=end_s + self._config.settle_s,
        )
        until_s = receipt.settled_s if wait else start_s + self._config.command_s
        self._wait_until(until_s)
        logger.debug("moved to %s in %.3f s", receipt.reported, end_s - start_s)
        return receipt

    def _begin(self, target_um: Triple, start_s: float, *, is_direct: bool) -> float:
        """Queue the legs of one move; return when the last of them ends."""
        config = self._config
        with self._lock:
            self._check_not_stopped()
            here_um, goal_um = self.motion.motor_um(start_s), self._quantised(target_um)
            approach = plan_approach(
                here_um,
                goal_um,
                take_up_um=None if is_direct else config.take_up_um,
                engaged=self._engaged,
            )
            end_s = start_s
            for waypoint in approach.waypoints:
                here_um = self.motion.motor_um(end_s)
                moves = self._moves(here_um, self._quantised(waypoint))
                leg = self.motion.add_leg(end_s + config.command_s, moves)
                end_s = leg.end_s
            self._engaged = approach.engaged
        return end_s

    def _moves(
        self, here_um: Triple, there_um: Triple
    ) -> tuple[TrapezoidalMove, TrapezoidalMove, TrapezoidalMove]:
        x, y, z = (
            TrapezoidalMove(
                distance_um=there - here,
                speed_um_per_s=speed,
                acceleration_um_per_s2=acceleration,
            )
            for here, there, speed, acceleration in zip(
                here_um,
                there_um,
                self._config.speed_um_per_s,
                self._config.acceleration_um_per_s2,
                strict=True,
            )
        )
        return x, y, z

    def _quantised(self, place_um: Triple) -> Triple:
        x, y, z = (
            round(value / step) * step
            for value, step in zip(place_um, self._config.step_um, strict=True)
        )
        return x, y, z

    def _wait_until(self, t_s: float) -> None:
        # A virtual clock jumps; on a real one a stop must get through meanwhile.
        jumps = isinstance(self._clock, VirtualClock)
        while (left_s := t_s - self._clock.monotonic_s()) > 1e-9:
            self._clock.sleep(left_s if jumps else min(left_s, _SLICE_S))
            self._check_not_stopped()

    def _check_not_stopped(self) -> None:
        if self._stopped.is_set():
            msg = f"the move was stopped; the stage is at {self.position()}"
            raise DeviceError(msg)

    def _check_open(self) -> None:
        if self._closed:
            msg = f"the stage '{self._config.name}' is closed"
            raise DeviceError(msg)

    def _check_limits(self, target: StagePosition) -> None:
        values = _as_triple(target)
        for name, value, ends in zip("xyz", values, _ranges(self._limits), strict=True):
            if not ends[0] <= value <= ends[1]:
                msg = (
                    f"stage target {name} = {value:g} um is outside the safe travel "
                    f"{ends[0]:g}..{ends[1]:g} um (low end includes the take-up); "
                    "nothing has moved"
                )
                raise OutOfTravelError(msg)


def _usable_limits(config: VirtualStageConfig) -> StageLimits:
    x, y, z = (
        (ends[0] + take_up, ends[1])
        for ends, take_up in zip(
            (config.x_um, config.y_um, config.z_um), config.take_up_um, strict=True
        )
    )
    return StageLimits(x_um=x, y_um=y, z_um=z)


def _ranges(limits: StageLimits) -> tuple[tuple[float, float], ...]:
    return limits.x_um, limits.y_um, limits.z_um


def _clamped(here: StagePosition, limits: StageLimits, *, z_um: float) -> StagePosition:
    """Return `here` at another z; a quantised place may lie a hair outside."""
    x_um = min(max(here.x_um, limits.x_um[0]), limits.x_um[1])
    y_um = min(max(here.y_um, limits.y_um[0]), limits.y_um[1])
    return StagePosition(x_um=x_um, y_um=y_um, z_um=z_um)


def _as_triple(position: StagePosition) -> Triple:
    return position.x_um, position.y_um, position.z_um


def _as_position(place_um: Triple) -> StagePosition:
    x_um, y_um, z_um = place_um
    return StagePosition(x_um=x_um, y_um=y_um, z_um=z_um)
