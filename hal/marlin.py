"""A 3D-printer board with Marlin as a stage driver: numbered lines, M400, `Count`.

Every line has a number and a checksum, so that a line sent again is done once. A move
has ended when M400 is answered *and* the step counts have arrived: some firmwares
acknowledge M400 at once. Moves are sent in short pieces, because M410 (quick stop)
loses steps and is heard only by some builds.
"""

import logging
import math

from bifocus.errors import ConfigError, DeviceError, DeviceTimeoutError, ProtocolError
from bifocus.hal import marlin_codec as codec
from bifocus.hal.board_driver import BoardFacts
from bifocus.hal.motion import TrapezoidalMove
from bifocus.hal.serial_port import Answer, Parse, SerialPort
from bifocus.hal.straight_move import straight_move
from bifocus.hal.take_up import Triple
from bifocus.stage_config import MarlinStageConfig

logger = logging.getLogger(__name__)

_POLL_S = 0.02
_RETRY_S = 1.0  # between questions to a board that is still booting
_TRIES = 4  # sendings of one line
_STEP_TOLERANCE = 1e-3  # M92 and the file's step_um are rounded
_PLANNED_UM = 5.0  # half the last digit of M114's millimetres
_LAST_NUMBER = 900_000  # then the numbers begin again, long before they overflow


class Marlin:
    """One Marlin board; see `BoardDriver`."""

    def __init__(self, port: SerialPort, config: MarlinStageConfig) -> None:
        self._port = port
        self._config = config
        self._number = 0
        self._unanswered: bytes | None = None  # the M400 under way

    def connect(self) -> BoardFacts:
        """Wait for the board to boot, identify it, check its settings; never moves."""
        with self._port.resets_expected():
            identity = self._await_firmware()
            self._port.drain()
        for command in ("G21", "G90"):
            self._do(command)
        self._check_steps()
        self._check_soft_endstops()
        self._check_no_offset()
        x_um, y_um, z_um = self._config.step_um
        return BoardFacts(
            identity=identity,
            readback_um=(x_um / 2, y_um / 2, z_um / 2),
            arrival_um=(x_um / 2, y_um / 2, z_um / 2),
            can_stop=False,
            reports_actual_position=False,
            keeps_place_at_reset=False,
            has_manual_control=False,
            poll_s=_POLL_S,
        )

    def duration_s(self, start_um: Triple, target_um: Triple) -> float:
        """Return the time of the straight line within each axis's limits."""
        return self._line(start_um, target_um).duration_s

    def start_move(self, start_um: Triple, target_um: Triple) -> None:
        """Send one absolute move; it is queued when this returns."""
        speed = self._line(start_um, target_um).speed_um_per_s
        self._do(codec.move_command(target_um, speed_um_per_s=speed))
        self._unanswered = None

    def has_ended(self, until_s: float) -> bool:
        """Wait for the answer of M400."""
        with self._port.turn():
            if self._unanswered is None:
                self._unanswered = self._numbered("M400")
                self._port.discard_input()
                self._port.send(self._unanswered)
            try:
                self._await_ok(self._unanswered, until_s, [])
            except DeviceTimeoutError:
                return False
            self._unanswered = None
        return True

    def read_um(self) -> Triple:
        """Return the steps really made, as a place."""
        return self._counted_um(self._place())

    def halt(self) -> None:
        """Do nothing: the piece under way is the last."""

    def resync(self) -> None:
        """Wait for quiet; begin the line numbers anew, as a line may be lost."""
        self._unanswered = None
        self._port.drain()
        self._begin_numbers()

    def home(self, deadline_s: float) -> None:
        """Run z to its switch, away from the glass; then x and y."""
        self._check_z_switch()
        for command in ("G28 Z", "G28 X Y"):
            self._do(command, deadline_s=deadline_s, tries=1)
        self._do("M400", deadline_s=deadline_s)
        self._check_no_offset()

    def _do(
        self, command: str, *, deadline_s: float | None = None, tries: int = _TRIES
    ) -> list[bytes]:
        """Have one line done exactly once; return what was said before its `ok`.

        A line that may have been lost is sent again under its own number: a board that
        has done it already says so by asking for the next.
        """
        port = self._port
        with port.turn():
            self._unanswered = None
            line = self._numbered(command)
            trouble: Exception | None = None
            for _ in range(tries):
                if trouble is not None:
                    port.drain()
                port.discard_input()
                port.send(line)
                end_s = deadline_s or port.clock.monotonic_s() + port.reply_s
                heard: list[bytes] = []
                try:
                    self._await_ok(line, end_s, heard)
                    return heard
                except (DeviceTimeoutError, ProtocolError) as error:
                    trouble = error
                    port.note_event(f"{command}: {error}")
            assert trouble is not None
            raise trouble

    def _await_ok(self, line: bytes, end_s: float, heard: list[bytes]) -> None:
        """Read until the line is acknowledged, sending it again when it is wanted."""
        number = self._number
        resends = 0

        def parse(said: bytes) -> bool | None:
            nonlocal resends
            codec.check_sense(said)
            codec.check_fault(said)
            wanted = codec.parse_resend(said)
            if wanted == number + 1:
                return True  # it has been done: only its answer was lost
            if wanted == number:
                resends += 1
                if resends >= _TRIES:
                    msg = f"{self._port.name}: {line!r} never arrives whole"
                    raise ProtocolError(msg)
                self._port.drain()
                self._port.send(line)
                return None
            if wanted is not None:
                msg = (
                    f"{self._port.name}: the board wants line {wanted} while {number} "
                    "is being sent; it has lost count"
                )
                raise ProtocolError(msg)
            heard.append(said)
            return True if codec.parse_ok(said, number=number) else None

        self._port.wait_for(parse, end_s)

    def _numbered(self, command: str) -> bytes:
        if self._number >= _LAST_NUMBER:
            self._begin_numbers()
        self._number += 1
        return codec.encode_line(self._number, command)

    def _begin_numbers(self) -> None:
        self._number = 0
        line = codec.encode_line(0, "M110 N0")
        port = self._port

        def parse(said: bytes) -> bool | None:
            return True if codec.parse_ok(said, number=0) else None

        port.ask(line, parse)

    def _place(self) -> codec.Place:
        """Ask M114 until its report is whole; `ok` may come before or after it."""
        port = self._port
        with port.turn():
            for _ in range(_TRIES):
                heard = self._do("M114")
                for line in heard:
                    if (place := codec.parse_place(line)) is not None:
                        return place
                try:
                    end_s = port.clock.monotonic_s() + port.reply_s
                    return port.wait_for(codec.parse_place, end_s)
                except DeviceTimeoutError as error:
                    port.note_event(f"M114 without a place: {error}")
            msg = f"{port.name}: M114 tells no place with `Count`; is it Marlin?"
            raise ProtocolError(msg)

    def _counted_um(self, place: codec.Place) -> Triple:
        x, y, z = (
            n * step for n, step in zip(place.steps, self._config.step_um, strict=True)
        )
        return x, y, z

    def _await_firmware(self) -> str:
        port = self._port
        end_s = port.clock.monotonic_s() + self._config.deadlines.boot_s
        while True:
            now_s = port.clock.monotonic_s()
            try:
                port.drain()
                self._begin_numbers()
                heard = self._do("M115", tries=1)
            except (DeviceTimeoutError, ProtocolError) as error:
                if now_s + _RETRY_S >= end_s:
                    msg = (
                        f"{port.name}: no Marlin answered within "
                        f"{self._config.deadlines.boot_s:g} s ({error}); check "
                        "`stage.port` and `stage.baud`"
                    )
                    raise DeviceTimeoutError(msg) from error
                continue
            name = _first(heard, codec.parse_firmware)
            if name is None:
                msg = f"{port.name}: M115 told no firmware name, but {heard!r}"
                raise DeviceError(msg)
            return name

    def _check_steps(self) -> None:
        """Compare the board's steps per millimetre with the file."""
        found = _first(self._do("M92"), codec.parse_steps_per_mm) or _first(
            self._do("M503"), codec.parse_steps_per_mm
        )
        if found is None:
            logger.warning(
                "%s: neither M92 nor M503 tells the steps per mm; the file is trusted",
                self._port.name,
            )
            return
        for axis, per_mm, step_um in zip(
            "xyz", found, self._config.step_um, strict=True
        ):
            if abs(per_mm * step_um / 1e3 - 1) > _STEP_TOLERANCE:
                board_um = 1e3 / per_mm if per_mm else math.inf
                msg = (
                    f"{self._port.name}: M92 says {per_mm:g} steps/mm for {axis}, "
                    f"which makes step_um {board_um:.6g}, but the file says {step_um:g}"
                )
                raise ConfigError(msg)

    def _check_soft_endstops(self) -> None:
        """Refuse a travel that the board would clip without a word."""
        found = _first(self._do("M211"), codec.parse_soft_endstops)
        if found is None or not found.are_on:
            return
        config = self._config
        for number, ends in enumerate((config.x_um, config.y_um, config.safe_z_um)):
            low, high = ends
            if config.invert[number]:
                low, high = -high, -low
            if low < found.low_um[number] or high > found.high_um[number]:
                axis = "xyz"[number]
                msg = (
                    f"{self._port.name}: M211 clips {axis} to "
                    f"{found.low_um[number]:g}..{found.high_um[number]:g} um, the file "
                    f"allows {low:g}..{high:g} um in the board's direction"
                )
                raise ConfigError(msg)

    def _check_no_offset(self) -> None:
        """Make sure that the planned place and the step counts have one origin."""
        place = self._place()
        counted = self._counted_um(place)
        for axis, planned, steps_um, step in zip(
            "xyz", place.planned_um, counted, self._config.step_um, strict=True
        ):
            if abs(planned - steps_um) > _PLANNED_UM + step:
                msg = (
                    f"{self._port.name}: {axis} is planned at {planned:g} um and "
                    f"counted at {steps_um:g} um; clear offsets (M206, G92), or "
                    "restart the board"
                )
                raise DeviceError(msg)

    def _check_z_switch(self) -> None:
        """Refuse G28 Z where the switch is on the side of the glass."""
        found = (codec.parse_switch(line) for line in self._do("M119"))
        names = {switch[0][:5] for switch in found if switch is not None}
        away, towards = ("z_min", "z_max")[:: 1 if self._config.invert[2] else -1]
        if away not in names or towards in names:
            msg = (
                f"{self._port.name}: M119 lists {sorted(names)}; to home z away from "
                f"the glass it must list {away} and not {towards}; use homing: none"
            )
            raise ConfigError(msg)

    def _line(self, start_um: Triple, target_um: Triple) -> TrapezoidalMove:
        return straight_move(
            start_um,
            target_um,
            speed_um_per_s=self._config.speed_um_per_s,
            acceleration_um_per_s2=self._config.acceleration_um_per_s2,
        )


def _first(lines: list[bytes], parse: Parse[Answer]) -> Answer | None:
    """Return the first thing that `parse` finds."""
    return next((found for line in lines if (found := parse(line)) is not None), None)
