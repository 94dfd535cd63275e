"""A GRBL 1.1 board as a stage driver: jogs in machine coordinates, status polls.

A jog can be cancelled without losing the place, and beyond the soft limits it is
refused instead of raising an alarm. `ok` only means that a jog is queued.
"""

import logging

from bifocus.errors import (
    ConfigError,
    DeviceError,
    DeviceTimeoutError,
    ProtocolError,
    ReferenceLostError,
)
from bifocus.hal import grbl_codec as codec
from bifocus.hal.board_driver import BoardFacts
from bifocus.hal.motion import TrapezoidalMove
from bifocus.hal.serial_port import SerialPort
from bifocus.hal.straight_move import straight_move
from bifocus.hal.take_up import Triple
from bifocus.stage_config import GrblStageConfig

logger = logging.getLogger(__name__)

_POLL_S = 0.05  # GRBL asks for 5 to 10 queries a second; faster only at a move's end
_READBACK_UM = 0.5  # half the last digit of the status report, 0.001 mm
_RETRY_S = 0.5  # between questions to a board that is still booting
_OFFSET_POLLS = 40  # the work offset comes with every 10th to 30th report
_STEP_TOLERANCE = 1e-3  # $100 and the file's step_um are rounded

_STEPS_PER_MM, _MAX_MM_PER_MIN, _MM_PER_S2 = 100, 110, 120  # x; y and z follow
_REPORT_INCHES, _HOMING_ON, _HOMING_MASK = 13, 22, 23
_NEEDED = {_REPORT_INCHES, _HOMING_ON, _HOMING_MASK} | {
    first + axis
    for first in (_STEPS_PER_MM, _MAX_MM_PER_MIN, _MM_PER_S2)
    for axis in range(3)
}
_TRIES = 3


class Grbl:
    """One GRBL 1.1 board; see `BoardDriver`."""

    def __init__(self, port: SerialPort, config: GrblStageConfig) -> None:
        self._port = port
        self._config = config
        self._settings: dict[int, float] = {}
        self._offset_um: Triple | None = None
        self._is_homing = False
        self._speed = config.speed_um_per_s
        self._acceleration = config.acceleration_um_per_s2

    def connect(self) -> BoardFacts:
        """Identify the board and check its settings against the file."""
        with self._port.resets_expected():
            build = self._await_build()
            self._port.drain()
        self._offset_um = None
        self._read_settings()
        self._check_settings()
        x_um, y_um, z_um = (step / 2 + _READBACK_UM for step in self._config.step_um)
        return BoardFacts(
            identity=f"Grbl {build.rstrip(':')}",
            readback_um=(x_um, y_um, z_um),
            arrival_um=(x_um, y_um, z_um),
            can_stop=True,
            reports_actual_position=False,
            keeps_place_at_reset=False,
            has_manual_control=False,
            poll_s=_POLL_S,
        )

    def duration_s(self, start_um: Triple, target_um: Triple) -> float:
        """Return the time of the straight line within each axis's limits."""
        return self._line(start_um, target_um).duration_s

    def start_move(self, start_um: Triple, target_um: Triple) -> None:
        """Send one jog; it is queued when this returns."""
        speed = self._line(start_um, target_um).speed_um_per_s
        command = codec.encode_jog(target_um, speed_um_per_s=speed)
        with self._port.turn():
            self._port.discard_input()
            self._port.send(command)
            self._port.wait_for(
                codec.parse_ok, self._port.clock.monotonic_s() + self._port.reply_s
            )

    def has_ended(self, until_s: float) -> bool:
        """Ask once for the state.

        Raises
        ------
        DeviceError
            In a state that no jog leads to, such as an open safety door.
        """
        state = self._status().state
        if state == "Alarm":
            msg = (
                f"{self._port.name}: GRBL is in alarm and holds all motion; look at "
                "the stage, then home it, or unlock it with $X where it has no switches"
            )
            raise ReferenceLostError(msg)
        if state in ("Idle", "Check"):
            return True
        if state in ("Jog", "Run", "Home", "Hold"):
            return False
        msg = f"{self._port.name}: GRBL is in state {state}; close the door, wake it up"
        raise DeviceError(msg)

    def read_um(self) -> Triple:
        """Return the machine place of a status report, to 1 um."""
        for _ in range(_OFFSET_POLLS):
            status = self._status()
            if status.offset_um is not None:
                self._offset_um = status.offset_um
            if status.machine_um is not None:
                return status.machine_um
            if status.work_um is not None and self._offset_um is not None:
                x, y, z = (
                    work + offset
                    for work, offset in zip(
                        status.work_um, self._offset_um, strict=True
                    )
                )
                return x, y, z
            self._port.clock.sleep(_POLL_S)
        msg = (
            f"{self._port.name}: the reports give work coordinates and no offset; set "
            "$10=1 for machine coordinates"
        )
        raise ProtocolError(msg)

    def halt(self) -> None:
        """Cancel the jog, or the homing; a byte of its own that GRBL heeds at once."""
        self._port.interject(codec.SOFT_RESET if self._is_homing else codec.JOG_CANCEL)

    def resync(self) -> None:
        """Wait for quiet, then ask what only GRBL's parser state answers."""
        self._port.drain()
        self._port.ask(b"$G\n", lambda line: True if line.startswith(b"[GC:") else None)
        self._port.drain()

    def home(self, deadline_s: float) -> None:
        """Leave an alarm by a soft reset, then run the homing cycle, z first."""
        self._check_homing()
        port = self._port
        with port.resets_expected():
            port.send(codec.SOFT_RESET)
            port.drain()
            self._is_homing = True
            try:
                port.send(b"$H\n")
                port.wait_for(_parse_homed, deadline_s)
            finally:
                self._is_homing = False
        self._offset_um = None

    def _status(self) -> codec.Status:
        return self._port.ask(codec.STATUS_QUERY, codec.parse_status)

    def _line(self, start_um: Triple, target_um: Triple) -> TrapezoidalMove:
        return straight_move(
            start_um,
            target_um,
            speed_um_per_s=self._speed,
            acceleration_um_per_s2=self._acceleration,
        )

    def _await_build(self) -> str:
        port = self._port
        end_s = port.clock.monotonic_s() + self._config.deadlines.boot_s
        while True:
            now_s = port.clock.monotonic_s()
            try:
                build = codec.parse_build(self._ask_lines(b"$I\n", within_s=_RETRY_S))
            except DeviceTimeoutError as error:
                if now_s + _RETRY_S >= end_s:
                    msg = (
                        f"{port.name}: no GRBL answered within "
                        f"{self._config.deadlines.boot_s:g} s ({error}); check "
                        "`stage.port` and `stage.baud`"
                    )
                    raise DeviceTimeoutError(msg) from error
                continue
            if build is None:
                msg = f"{port.name}: the board told no GRBL version; is it GRBL 1.1?"
                raise DeviceError(msg)
            return build

    def _ask_lines(
        self, command: bytes, *, within_s: float | None = None
    ) -> list[bytes]:
        """Return the lines up to `ok`."""
        lines: list[bytes] = []

        def collect(line: bytes) -> bool | None:
            lines.append(line)
            return codec.parse_ok(line)

        self._port.ask(command, collect, within_s=within_s, tries=1 if within_s else 3)
        return lines

    def _read_settings(self) -> None:
        """Ask until none of the lines that matter was lost."""
        self._settings = {}
        for _ in range(_TRIES):
            self._settings |= codec.parse_settings(self._ask_lines(b"$$\n"))
            if self._settings.keys() >= _NEEDED:
                return
        missing = sorted(_NEEDED - self._settings.keys())
        msg = f"{self._port.name}: GRBL does not tell its settings {missing}"
        raise ProtocolError(msg)

    def _check_settings(self) -> None:
        """Compare what the board and the file say of steps and pace."""
        if self._settings[_REPORT_INCHES]:
            msg = f"{self._port.name}: GRBL reports inches; send $13=0"
            raise ConfigError(msg)
        steps = self._per_axis(_STEPS_PER_MM)
        for axis, per_mm, step_um in zip(
            "xyz", steps, self._config.step_um, strict=True
        ):
            if abs(per_mm * step_um / 1e3 - 1) > _STEP_TOLERANCE:
                msg = (
                    f"{self._port.name}: ${_STEPS_PER_MM + 'xyz'.index(axis)} is "
                    f"{per_mm:g} steps/mm, which makes step_um of {axis} "
                    f"{1e3 / per_mm:.6g}, but the file says {step_um:g}"
                )
                raise ConfigError(msg)
        fastest = [value * 1e3 / 60 for value in self._per_axis(_MAX_MM_PER_MIN)]
        x, y, z = map(min, self._config.speed_um_per_s, fastest)
        self._speed = (x, y, z)
        x, y, z = (value * 1e3 for value in self._per_axis(_MM_PER_S2))
        self._acceleration = (x, y, z)
        if self._speed != self._config.speed_um_per_s:
            logger.warning(
                "%s: the board's $110 to $112 allow %s um/s, less than speed_um_per_s",
                self._port.name,
                fastest,
            )

    def _check_homing(self) -> None:
        """Refuse a homing cycle that would drive z towards the glass."""
        if not self._settings[_HOMING_ON]:
            msg = f"{self._port.name}: homing is off; send $22=1, or homing: none"
            raise ConfigError(msg)
        z_homes_down = bool(int(self._settings[_HOMING_MASK]) & 4)
        if z_homes_down != self._config.invert[2]:
            msg = (
                f"{self._port.name}: by $23 the z axis would home towards the glass; "
                "mount its switch at the far end and change $23, or use homing: none"
            )
            raise ConfigError(msg)

    def _per_axis(self, first: int) -> Triple:
        x, y, z = (self._settings[first + axis] for axis in range(3))
        if min(x, y, z) <= 0:
            msg = f"{self._port.name}: ${first} to ${first + 2} must be positive"
            raise ConfigError(msg)
        return x, y, z


def _parse_homed(line: bytes) -> bool | None:
    """Read the end of a homing cycle; a reset in it is one that was stopped."""
    if codec.REFERENCE_LOST.search(line):
        msg = f"the homing cycle was broken off ({line.decode(errors='replace')})"
        raise ReferenceLostError(msg)
    return codec.parse_ok(line)
