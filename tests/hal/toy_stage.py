"""A toy board on an in-process cable, and a sound driver for it, in virtual time.

The board knows three lines: `R dx dy dz` (relative, answers `ok` at once), `?` (answers
`idle x y z` or `busy x y z`) and `!` (stops). It outlives its drivers, as boards do.
"""

import threading

from bifocus.clock import Clock
from bifocus.errors import (
    DeviceError,
    DeviceTimeoutError,
    OutOfTravelError,
    ProtocolError,
)
from bifocus.hal.byte_link import ByteLink
from bifocus.hal.devices import StageCapabilities, StageLimits
from bifocus.records import MoveReceipt, StagePosition

STEP_UM = 0.1
SPEED_STEPS_PER_S = 5000.0
SETTLE_S = 0.05
REPLY_S = 0.5
REFUSAL = b"no: not now\n"

Steps = tuple[int, int, int]


class ToyBoard:
    """The board and its cable: a `ByteLink` that answers at once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._start: Steps = (0, 0, 0)
        self._target: Steps = (0, 0, 0)
        self._start_s = self._end_s = clock.monotonic_s()
        self._said = b""

    def true_position(self) -> StagePosition:
        return to_position(self.steps())

    def steps(self) -> Steps:
        now_s = self._clock.monotonic_s()
        if now_s >= self._end_s:
            return self._target
        share = (now_s - self._start_s) / (self._end_s - self._start_s)
        pairs = zip(self._start, self._target, strict=True)
        x, y, z = (round(a + share * (b - a)) for a, b in pairs)
        return x, y, z

    def write(self, data: bytes) -> None:
        for line in data.decode("ascii").splitlines():
            self._said += self._answer(line).encode("ascii") + b"\n"

    def read(self, *, deadline_s: float) -> bytes:
        if not self._said:
            self._clock.sleep(deadline_s - self._clock.monotonic_s())
        return self.discard_input()

    def discard_input(self) -> bytes:
        said, self._said = self._said, b""
        return said

    def reopen(self) -> None:
        self._said = b""

    def close(self) -> None:
        self._said = b""

    def _answer(self, line: str) -> str:
        here, now_s = self.steps(), self._clock.monotonic_s()
        if line == "?":
            state = "idle" if now_s >= self._end_s else "busy"
            return f"{state} {here[0]} {here[1]} {here[2]}"
        if line == "!":
            self._start = self._target = here
            self._end_s = now_s
            return "ok"
        word, *numbers = line.split()
        if word != "R" or len(numbers) != 3 or now_s < self._end_s:
            return REFUSAL.decode().strip()
        by = tuple(map(int, numbers))
        self._start, self._start_s = here, now_s
        self._target = (here[0] + by[0], here[1] + by[1], here[2] + by[2])
        self._end_s = now_s + max(map(abs, by)) / SPEED_STEPS_PER_S
        return "ok"


class ToyStage:
    """A sound driver of the toy board; the broken ones each change one method."""

    def __init__(self, link: ByteLink, clock: Clock, limits: StageLimits) -> None:
        self._link = link
        self._clock = clock
        self._limits = limits
        self._closed = False
        self._stopping = threading.Event()
        self._read_state()

    @property
    def limits(self) -> StageLimits:
        return self._limits

    @property
    def capabilities(self) -> StageCapabilities:
        return StageCapabilities(
            kind="toy",
            identity="toy 1",
            simulated=True,
            can_stop=True,
            reports_actual_position=False,
            resolution_um=StagePosition(x_um=STEP_UM, y_um=STEP_UM, z_um=STEP_UM),
        )

    def position(self) -> StagePosition:
        return to_position(self._read_state()[1])

    def move_to(self, position: StagePosition, wait: bool = True) -> MoveReceipt:
        if self._closed:
            raise DeviceError("the toy stage is closed")
        position = self._checked(position)
        self._stopping.clear()
        here = self._wait_idle()
        target = to_steps(position)
        start_s = self._clock.monotonic_s()
        by = (target[0] - here[0], target[1] - here[1], target[2] - here[2])
        if any(by):
            self._send_move(by, here)
        end_s = start_s + max(map(abs, by)) / SPEED_STEPS_PER_S + 1e-3
        if wait:
            self._check_arrived(self._wait_idle(), target)
            end_s = max(self._clock.monotonic_s(), start_s + 1e-3)
            self._clock.sleep(end_s + SETTLE_S - self._clock.monotonic_s())
        return MoveReceipt(
            commanded=position,
            reported=to_position(target),
            start_s=start_s,
            end_s=end_s,
            settled_s=end_s + SETTLE_S,
        )

    def stop(self) -> None:
        self._stopping.set()
        self._ask("!")

    def home(self) -> MoveReceipt:
        low = self._limits
        corner = StagePosition(x_um=low.x_um[0], y_um=low.y_um[0], z_um=low.z_um[1])
        return self.move_to(corner)

    def close(self) -> None:
        self._closed = True

    def _checked(self, position: StagePosition) -> StagePosition:
        for axis in ("x_um", "y_um", "z_um"):
            low_um, high_um = getattr(self._limits, axis)
            if not low_um <= getattr(position, axis) <= high_um:
                raise OutOfTravelError(f"{axis} is outside {low_um}..{high_um} um")
        return position

    def _send_move(self, by: Steps, here: Steps) -> None:
        try:
            self._expect_ok(self._ask("R {} {} {}".format(*by)))
        except DeviceTimeoutError:
            self._retry(by, here)

    def _retry(self, by: Steps, here: Steps) -> None:
        """Send again only what the board did not do."""
        state, now = self._read_state()
        if state == "idle" and now == here:
            self._expect_ok(self._ask("R {} {} {}".format(*by)))

    def _check_arrived(self, here: Steps, target: Steps) -> None:
        if here != target:
            raise DeviceError(f"the move ended at {here} and not at {target}")

    def _wait_idle(self) -> Steps:
        while True:
            state, here = self._read_state()
            if self._stopping.is_set():
                raise DeviceError("stopped")
            if state == "idle":
                return here
            self._clock.sleep(0.01)

    def _read_state(self) -> tuple[str, Steps]:
        reply = self._ask("?")
        state, *numbers = reply.split()
        if state not in ("idle", "busy") or len(numbers) != 3:
            raise ProtocolError(f"{reply!r} is no state")
        x, y, z = map(int, numbers)
        return state, (x, y, z)

    def _expect_ok(self, reply: str) -> None:
        if reply != "ok":
            raise ProtocolError(f"the board said {reply!r}")

    def _ask(self, line: str) -> str:
        self._link.discard_input()
        self._link.write(line.encode("ascii") + b"\n")
        return self._read_reply(line)

    def _read_reply(self, line: str) -> str:
        reply = self._link.read(deadline_s=self._clock.monotonic_s() + REPLY_S)
        if not reply:
            raise DeviceTimeoutError(f"no answer to {line!r} in {REPLY_S} s")
        return reply.decode("ascii").strip()


def to_steps(place: StagePosition) -> Steps:
    values = (place.x_um, place.y_um, place.z_um)
    x, y, z = (round(value / STEP_UM) for value in values)
    return x, y, z


def to_position(steps: Steps) -> StagePosition:
    x_um, y_um, z_um = (value * STEP_UM for value in steps)
    return StagePosition(x_um=x_um, y_um=y_um, z_um=z_um)
