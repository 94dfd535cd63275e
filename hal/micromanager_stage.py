"""An XY stage and a focus drive of Micro-Manager as one stage.

Micro-Manager's own wait can end in silence and let the picture be taken anyway. Here a
move has ended only when both devices say so *and* the place read back is the target;
else it ends in an error at a deadline made from the move's physics.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bifocus.clock import Clock
from bifocus.errors import ConfigError, DeviceError, DeviceTimeoutError, ProtocolError
from bifocus.hal.devices import StageCapabilities, StageLimits
from bifocus.hal.micromanager_core import CoreLease, lease_core
from bifocus.hal.motion import TrapezoidalMove
from bifocus.hal.stage_frame import StageFrame, as_position, as_triple
from bifocus.hal.take_up import NOT_ENGAGED, Engagement, Triple, plan_approach
from bifocus.records import MoveReceipt, StagePosition
from bifocus.stage_config import MicroManagerStageConfig

logger = logging.getLogger(__name__)

_POLL_S = 0.002
_DECIMALS = 4  # of a micrometre; under any adapter's step


@dataclass(frozen=True, slots=True, kw_only=True)
class _Leg:
    """One move under way: where to, when it should end, and when it must have."""

    target_um: Triple
    end_s: float
    deadline_s: float


class MicroManagerStage:
    """See `devices.Stage` for the contract; one thread moves it, any may stop it."""

    def __init__(
        self, config: MicroManagerStageConfig, lease: CoreLease, *, clock: Clock
    ) -> None:
        lease.check_loaded(config.xy_device, key="stage.xy_device")
        lease.check_loaded(config.z_device, key="stage.z_device")
        self._config = config
        self._lease = lease
        self._clock = clock
        self._frame = StageFrame(config)
        self._devices = (config.xy_device, config.z_device)
        self._identity = ", ".join(lease.identity(label) for label in self._devices)
        self._simulated = any(lease.is_simulated(label) for label in self._devices)
        if self._simulated and not config.is_simulated:
            msg = (
                f"stage '{self._identity}' is a simulation; if that is meant, say so "
                "by `simulated: true` under `stage:`"
            )
            raise ConfigError(msg)
        self._motion = threading.RLock()
        self._stop_asked = threading.Event()
        self._pending: _Leg | None = None
        self._engaged: Engagement = NOT_ENGAGED

    @property
    def limits(self) -> StageLimits:
        """Safe travel: low ends keep room for the approach, z for the objective."""
        return self._frame.limits

    @property
    def capabilities(self) -> StageCapabilities:
        """What the file promises of the adapters, which cannot tell themselves."""
        return StageCapabilities(
            kind="micromanager",
            identity=f"{self._config.name}: {self._identity}",
            simulated=self._simulated,
            can_stop=self._config.can_stop,
            reports_actual_position=False,
            resolution_um=as_position(self._config.step_um),
        )

    def position(self) -> StagePosition:
        """Return the position that the adapters report now, in whole steps."""
        return as_position(self._read())

    def move_to(self, position: StagePosition, wait: bool = True) -> MoveReceipt:
        """Move to an absolute position, approaching from below; see `devices.Stage`.

        Without `wait` the call returns when the last leg has begun; a detour that
        takes up backlash is waited for.

        Raises
        ------
        OutOfTravelError
            If the target is outside `limits`; nothing was sent.
        DeviceTimeoutError
            If the devices were still busy at the deadline; they were told to stop.
        ProtocolError
            If they say that they have arrived, but somewhere else.
        DeviceError
            If an adapter refuses, or the stage is closed or was stopped.
        """
        return self._move(position, wait=wait, is_direct=False)

    def move_direct(self, position: StagePosition, wait: bool = True) -> MoveReceipt:
        """Move straight there, taking up nothing; see `devices.DirectStage`."""
        return self._move(position, wait=wait, is_direct=True)

    def stop(self) -> None:
        """Tell both devices to stop; return when neither is busy.

        Raises
        ------
        DeviceTimeoutError
            If one is still busy after the allowance of `deadlines`.
        """
        if self._lease.is_closed:
            return
        self._stop_asked.set()
        for label in self._devices:
            try:
                self._lease.core.stop(label)
            except RuntimeError as error:
                # Focus drives without Stop are common; whether one moves is seen next.
                logger.info("Micro-Manager's %s does not stop: %s", label, error)
        deadline_s = self._clock.monotonic_s() + self._config.deadlines.motion_extra_s
        while self._busy():
            if self._clock.monotonic_s() > deadline_s:
                msg = f"told to stop, but still busy: {self._busy()} ({self._identity})"
                raise DeviceTimeoutError(msg)
            self._clock.sleep(_POLL_S)
        self._pending = None
        self._engaged = NOT_ENGAGED

    def home(self) -> MoveReceipt:
        """Z up and away from the glass first; then the reference, or the low corner.

        With `homing: none` nothing is looked for: x and y go to their low ends.
        """
        start_s = self._clock.monotonic_s()
        top_um = self.limits.z_um[1]
        x_um, y_um, _ = self._frame.inside(self._read())
        receipt = self.move_to(StagePosition(x_um=x_um, y_um=y_um, z_um=top_um))
        if self._config.homing == "adapter":
            self._home_adapter()
            x_um, y_um, _ = self._frame.inside(self._read())
        else:
            x_um, y_um = self.limits.x_um[0], self.limits.y_um[0]
        receipt = self.move_to(StagePosition(x_um=x_um, y_um=y_um, z_um=top_um))
        return replace(receipt, start_s=start_s)

    def close(self) -> None:
        """Give the core back; the stage stays where it is."""
        self._lease.close()

    def _move(
        self, position: StagePosition, *, wait: bool, is_direct: bool
    ) -> MoveReceipt:
        """Do what `move_to` and `move_direct` have in common."""
        with self._told():
            self._lease.core  # noqa: B018  closed stages refuse before anything else
            self._frame.check_limits(as_triple(position))
        with self._motion:
            self._stop_asked.clear()
            if self._pending is not None:
                self._pause_until(self._pending.end_s)  # as its receipt promised
            self._finish_pending()
            return self._travel(position, wait=wait, is_direct=is_direct)

    def _travel(
        self, position: StagePosition, *, wait: bool, is_direct: bool
    ) -> MoveReceipt:
        start_s = self._clock.monotonic_s()
        target_um = self._whole_steps(as_triple(position))
        approach = plan_approach(
            self._read(),
            target_um,
            take_up_um=None if is_direct else self._config.take_up_um,
            engaged=self._engaged,
        )
        self._engaged = NOT_ENGAGED  # until the whole way has been gone
        for waypoint in approach.waypoints:
            self._finish_pending()
            self._pending = self._begin(self._whole_steps(waypoint))
        end_s = self._pending.end_s if self._pending else start_s
        reported_um = target_um
        if wait:
            self._finish_pending()
            end_s, reported_um = self._clock.monotonic_s(), self._read()
        self._engaged = approach.engaged
        receipt = MoveReceipt(
            commanded=position,
            reported=as_position(reported_um),
            start_s=start_s,
            end_s=end_s,
            settled_s=end_s + self._config.settle_s,
        )
        if wait:
            self._pause_until(receipt.settled_s)
        return receipt

    def _begin(self, target_um: Triple) -> _Leg:
        """Send one move to the devices that have to go; return its times."""
        config, here_um = self._config, self._read()
        axes = zip(
            here_um,
            target_um,
            config.speed_um_per_s,
            config.acceleration_um_per_s2,
            strict=True,
        )
        duration_s = max(
            TrapezoidalMove(
                distance_um=there - here,
                speed_um_per_s=speed,
                acceleration_um_per_s2=acceleration,
            ).duration_s
            for here, there, speed, acceleration in axes
        )
        x_um, y_um, z_um = self._frame.turned(target_um)
        begin_s = self._clock.monotonic_s()
        with self._told():
            core = self._lease.core
            if here_um[2] != target_um[2]:
                core.setPosition(config.z_device, z_um)
            if here_um[:2] != target_um[:2]:
                core.setXYPosition(config.xy_device, x_um, y_um)
        deadlines = config.deadlines
        allowed_s = deadlines.motion_factor * duration_s + deadlines.motion_extra_s
        return _Leg(
            target_um=target_um,
            end_s=begin_s + duration_s,
            deadline_s=begin_s + allowed_s,
        )

    def _finish_pending(self) -> None:
        """Wait until the move under way has ended at its target, or raise."""
        leg = self._pending
        if leg is None:
            return
        while True:
            self._check_not_stopped()
            busy = self._busy()
            place_um = self._read()
            if not busy and self._is_near(place_um, leg.target_um):
                self._pending = None
                return
            if self._clock.monotonic_s() > leg.deadline_s:
                self._fail(leg, place_um, busy)
            self._clock.sleep(_POLL_S)

    def _fail(self, leg: _Leg, place_um: Triple, busy: list[str]) -> None:
        self._pending = None
        if busy:
            self.stop()
            msg = (
                f"Micro-Manager's {busy} still busy after the longest time this move "
                f"may take, at {place_um} of {leg.target_um} um; stopped. Is "
                "speed_um_per_s right, does something block the stage?"
            )
            raise DeviceTimeoutError(msg)
        msg = (
            f"Micro-Manager says that the move has ended, at {place_um} um, and it was "
            f"sent to {leg.target_um} um; look whether the stage is blocked, switched "
            "off, or outside the controller's own limits"
        )
        raise ProtocolError(msg)

    def _home_adapter(self) -> None:
        label = self._config.xy_device
        with self._motion, self._told():
            self._stop_asked.clear()
            self._lease.core.home(label)
            deadline_s = self._clock.monotonic_s() + self._config.deadlines.home_s
            while self._lease.core.deviceBusy(label):
                self._check_not_stopped()
                if self._clock.monotonic_s() > deadline_s:
                    self.stop()
                    msg = f"{label} did not find its reference in time; stopped"
                    raise DeviceTimeoutError(msg)
                self._clock.sleep(_POLL_S)

    def _busy(self) -> list[str]:
        with self._told():
            core = self._lease.core
            return [label for label in self._devices if core.deviceBusy(label)]

    def _read(self) -> Triple:
        with self._told():
            core = self._lease.core
            x_um, y_um = core.getXYPosition(self._config.xy_device)
            z_um = core.getPosition(self._config.z_device)
        return self._whole_steps(self._frame.turned((x_um, y_um, z_um)))

    def _whole_steps(self, place_um: Triple) -> Triple:
        x, y, z = (
            round(value, _DECIMALS) + 0.0 for value in self._frame.quantised(place_um)
        )
        return x, y, z

    def _is_near(self, place_um: Triple, target_um: Triple) -> bool:
        return all(
            abs(place - target) <= tolerance
            for place, target, tolerance in zip(
                place_um, target_um, self._config.tolerance_um, strict=True
            )
        )

    def _pause_until(self, t_s: float) -> None:
        while (left_s := t_s - self._clock.monotonic_s()) > 0:
            self._check_not_stopped()
            self._clock.sleep(min(left_s, 10 * _POLL_S))

    def _check_not_stopped(self) -> None:
        if self._stop_asked.is_set():
            msg = f"the move was stopped; the stage is at {self._read()} um"
            raise DeviceError(msg)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn Micro-Manager's exceptions into ours, with its words."""
        try:
            yield
        except RuntimeError as error:
            msg = f"Micro-Manager: {error}"
            raise DeviceError(msg) from error


def open_micromanager_stage(
    config: MicroManagerStageConfig, *, base_dir: Path, clock: Clock
) -> MicroManagerStage:
    """Open a stage of Micro-Manager; nothing moves.

    Raises
    ------
    ConfigError
        If pymmcore is not installed, or a device is not loaded.
    DeviceError
        If Micro-Manager cannot load its devices.
    """
    lease = lease_core(config.core, base_dir=base_dir)
    try:
        return MicroManagerStage(config, lease, clock=clock)
    except BaseException:
        lease.close()
        raise
