"""One short scan under a fault plan, watched by somebody who knows the truth."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bifocus.clock import VirtualClock
from bifocus.errors import BifocusError, ReferenceLostError
from bifocus.hal.fault_plan import FaultPlan, LostSteps
from bifocus.hal.faulty_firmware import FaultyFirmware
from bifocus.hal.faulty_frames import FaultyFrames
from bifocus.hal.firmware_axes import AxesFacts
from bifocus.hal.firmware_kinds import FirmwareKind, make_firmware
from bifocus.hal.fresh_frames import FreshCamera
from bifocus.hal.open_stage import open_serial_stage
from bifocus.hal.serial_stage import SerialStage
from bifocus.hal.shared_firmware import SharedFirmware
from bifocus.hal.virtual_link import VirtualLink
from bifocus.records import Frame, MoveReceipt, StagePosition
from tests.hal.boards import make_board, stage_config
from tests.soak.still_life import CONFIG, StillLife

N_MOVES = 6
TRIES = 3  # of one move, by an operator who looks, waits and asks again
PAUSE_S = 5.0
LONGEST_CALL_S = 900.0  # of virtual time; no call may take as long
MOST_LOOKS = 300_000  # at the clock in one run: a loop without end
# Machines with switches: their ways, the middle of the scan, the file's travel.
SWITCHES: dict[str, tuple[tuple[float, float], float, dict[str, Any]]] = {
    "grbl": (
        (-4000.0, 0.0),
        -2000.0,
        dict.fromkeys(("x_um", "y_um", "z_um"), (-3000.0, -1000.0)),
    ),
    "marlin": (
        (0.0, 4000.0),
        2000.0,
        dict.fromkeys(("x_um", "y_um", "z_um"), (0.0, 4000.0)),
    ),
}
# Half a step, half a digit of the read-back, and one for lengths that do not divide.
TRUE_WITHIN_UM = 1.2


class ViolationError(AssertionError):
    """Something that no fault may bring about."""


class WatchedClock(VirtualClock):
    """A virtual clock that notices when somebody waits for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0
        self.deadline_s = LONGEST_CALL_S

    def monotonic_s(self) -> float:
        self.looks += 1
        now_s = super().monotonic_s()
        if self.looks > MOST_LOOKS or now_s > self.deadline_s:
            text = f"hang: {self.looks} looks at the clock, {now_s:.0f} s"
            raise ViolationError(text)
        return now_s

    def new_call(self) -> None:
        self.deadline_s = super().monotonic_s() + LONGEST_CALL_S


@dataclass(slots=True, kw_only=True)
class Story:
    """What came of one run: errors by name, and which faults came to pass."""

    arrived: int = 0
    errors: list[str] = field(default_factory=list)
    happened: frozenset[str] = frozenset()
    unknowable: bool = False
    recoveries: int = 0

    @property
    def ending(self) -> str:
        """`done` when all moves and frames came, else the last error's name."""
        if self.arrived == N_MOVES:
            return "done" if not self.errors else "done after an error"
        return f"stopped: {self.errors[-1]}"


class Rehearsal:
    """A board, its stage and a camera on one virtual clock."""

    def __init__(
        self,
        kind: FirmwareKind,
        plan: FaultPlan,
        *,
        seed: int,
        from_open: bool = False,
        has_switches: bool = False,
    ) -> None:
        self.kind = kind
        self.story = Story()
        self.clock = WatchedClock()
        config = stage_config(kind)
        board = make_board(config, kind, self.clock)
        self._middle_um = 0.0
        self._has_switches = has_switches
        if has_switches:
            ways_um, self._middle_um, changes = SWITCHES[kind]
            config = stage_config(kind, port="played", homing="switches", **changes)
            facts = AxesFacts(
                step_um=config.step_um,
                speed_um_per_s=config.speed_um_per_s,
                acceleration_um_per_s2=config.acceleration_um_per_s2,
                travel_um=(ways_um, ways_um, ways_um),
            )
            board = make_firmware(kind, facts, now_s=0.0, seed=seed)
        nothing = FaultPlan()
        self.firmware = FaultyFirmware(board, plan if from_open else nothing, seed=seed)
        self.truth = SharedFirmware(self.firmware, clock=self.clock)
        self._plan, self._from_open = plan, from_open
        self._config = config
        self._rng = np.random.default_rng([seed, 1])

    def run(self) -> Story:
        """Open, move about and take pictures; end at the first lasting failure."""
        frames = FaultyFrames(StillLife(self.clock), self._plan)
        try:
            stage = open_serial_stage(
                self._config, VirtualLink(self.truth), clock=self.clock
            )
        except BifocusError as error:
            self.story.errors.append(f"{type(error).__name__} on opening")
            self._check_nothing_moved()
        else:
            camera = FreshCamera(
                frames, CONFIG, clock=self.clock, position=stage.position
            )
            if self._has_switches:
                self._home(stage)
            if not self._from_open:
                self.firmware.arm(self._plan)
            self._scan(stage, camera)
            self.story.recoveries = stage.recoveries
        self.story.happened = frozenset({*self.firmware.happened, *frames.happened})
        return self.story

    def _scan(self, stage: SerialStage, camera: FreshCamera) -> None:
        for _ in range(N_MOVES):
            x, y, z = self._middle_um + self._rng.uniform(-150, 150, 3)
            target = StagePosition(x_um=float(x), y_um=float(y), z_um=float(z))
            for _ in range(TRIES):
                if self._visit(stage, camera, target):
                    break
                self._calm_down(stage)
            else:
                return

    def _visit(
        self, stage: SerialStage, camera: FreshCamera, target: StagePosition
    ) -> bool:
        self.clock.new_call()
        try:
            receipt = stage.move_to(target)
            self._check_place(receipt.reported, target)
            frame = camera.grab(after=receipt)
            self._check_frame(frame, receipt)
            self._check_place(stage.position(), target)
        except BifocusError as error:
            self.story.errors.append(type(error).__name__)
            return False
        self.story.arrived += 1
        return True

    def _calm_down(self, stage: SerialStage) -> None:
        """Do what a scan does after an error: stop, and look where the stage is."""
        self.clock.new_call()
        try:
            stage.stop()
            is_stopped = True
        except BifocusError:
            is_stopped = False
        now_s = self.clock.monotonic_s()
        is_reachable = self.truth.cable()[0]
        if is_stopped and is_reachable and self.truth.rest_from_s() > now_s:
            text = "a stop that raised nothing left the stage moving"
            raise ViolationError(text)
        self.clock.sleep(PAUSE_S)
        self.clock.new_call()
        try:
            place = stage.position()
        except ReferenceLostError:
            if self._has_switches:
                self._home(stage)
        except BifocusError:
            return
        else:
            self._check_place(place, None)

    def _home(self, stage: SerialStage) -> None:
        self.clock.new_call()
        try:
            receipt = stage.home()
        except BifocusError as error:
            self.story.errors.append(type(error).__name__)
            return
        self._check_place(receipt.reported, None)

    # What the one who knows the truth demands.

    def _check_place(self, told: StagePosition, target: StagePosition | None) -> None:
        now_s = self.clock.monotonic_s()
        truth = self.truth.motor_at(now_s)
        unknown_um = self._unknowable_um()
        for axis in ("x_um", "y_um", "z_um"):
            within_um = TRUE_WITHIN_UM + unknown_um
            if abs(getattr(told, axis) - getattr(truth, axis)) > within_um:
                text = f"told {told}, truly {truth}"
                raise ViolationError(text)
            if (
                target is not None
                and abs(getattr(told, axis) - getattr(target, axis)) > TRUE_WITHIN_UM
            ):
                text = f"asked for {target}, told {told} without an error"
                raise ViolationError(text)

    def _unknowable_um(self) -> float:
        """Steps that a motor without an encoder loses are lost to everybody."""
        if self.kind.startswith("asi"):
            return 0.0
        happened = self.firmware.happened
        if self.kind.startswith("sangaboard") and happened["limit_alarm"]:
            self.story.unknowable = True
            return math.inf
        if happened["lost_steps"]:
            self.story.unknowable = True
            lost = (f for f in self._plan.faults if isinstance(f, LostSteps))
            return sum(f.steps for f in lost) * max(self._config.step_um)
        return 0.0

    def _check_frame(self, frame: Frame, receipt: MoveReceipt) -> None:
        if frame.exposure_start_s < receipt.settled_s:
            text = "the exposure began before the stage had settled"
            raise ViolationError(text)
        if not frame.pixels.any():
            text = "a black frame was taken for a picture"
            raise ViolationError(text)
        at_start = self.truth.motor_at(frame.exposure_start_s)
        if at_start != self.truth.motor_at(frame.exposure_end_s):
            text = "the stage moved during the exposure"
            raise ViolationError(text)

    def _check_nothing_moved(self) -> None:
        if self.truth.motor_at(self.clock.monotonic_s()) != self.truth.motor_at(0.0):
            text = "opening moved the stage"
            raise ViolationError(text)
