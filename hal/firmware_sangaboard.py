"""Virtual Sangaboard, firmware 0.5 and 1.0, with its traps.

Version 0.5: a move blocks everything until it has ended; a line that never ends is
executed after one second; words may have anything behind them; a reset brings back the
position saved after the last whole move. There is no stop, no busy query, no limit.
Version 1.0 moves without blocking, tells `moving?` and can stop.

Sources: the text commands of openflexure_nano_motor_controller (0.5); the published
clients `sangaboard` 0.4.1 and Micro-Manager's OpenFlexure adapter (1.0).
"""

import re
from collections.abc import Callable

from bifocus.hal.firmware_axes import FirmwareAxes, Steps
from bifocus.hal.firmware_board import VirtualBoard

_READ_TIMEOUT_S = 1.0  # Arduino's Serial.setTimeout
_COMMAND_BYTES = 63  # one less than the 64 of the command buffer
_AT_ONCE_S = 1e-6  # of ramp: without `ramp_time` the motors jump to full speed
_NUMBER = re.compile(rb"\s*([+-]?\d+)")
_UNKNOWN_0_5 = "Type 'help' for a list of commands."


class SangaboardFirmware(VirtualBoard):
    """One board; see `VirtualBoard` for how it is driven."""

    def __init__(
        self,
        axes: FirmwareAxes,
        *,
        now_s: float,
        is_v1: bool = False,
        answer_s: float = 0.003,
        boot_s: float = 0.5,
    ) -> None:
        super().__init__(
            axes,
            now_s=now_s,
            answer_s=answer_s,
            boot_s=boot_s,
            buffer_bytes=63,
        )
        self._is_v1 = is_v1
        self._saved: Steps = axes.steps_at(now_s)
        # The fastest axis at full speed sets the step delay.
        steps_per_s = axes.facts.speed_um_per_s[0] / axes.facts.step_um[0]
        self._step_delay_us = round(1e6 / steps_per_s)
        self._ramp_us = 0
        self._last_move: Steps = (0, 0, 0)
        self._line_number = 0
        self._moves_block = True
        self._lamp = 0.0
        self._commands = self._table()
        self._forget(now_s)

    def raise_limit_alarm(self, now_s: float) -> None:
        """Stall: the motors stop, and nothing tells the firmware, which counts on."""
        self.axes.stall(now_s)

    def _forget(self, now_s: float) -> None:
        self.axes.set_steps(self._saved, now_s)
        self._moves_block = True
        self._line_number += 1

    def _greet(self, now_s: float) -> None:
        self._say(f"Sangaboard Firmware v{'1.0.4' if self._is_v1 else '0.5.1'}", now_s)

    def _take_line(self) -> bytes | None:
        end = self._waiting.find(b"\n")
        if end < 0 and len(self._waiting) < _COMMAND_BYTES:
            return None
        if end < 0 or end > _COMMAND_BYTES:
            line = bytes(self._waiting[:_COMMAND_BYTES])
            del self._waiting[:_COMMAND_BYTES]
        else:
            line = bytes(self._waiting[:end])
            del self._waiting[: end + 1]
        return line

    def _after_input(self, now_s: float) -> None:
        if self._is_blocked or not self._waiting or self._is_v1:
            return
        self._line_number += 1
        number = self._line_number

        def give_up(at_s: float) -> None:
            if number == self._line_number and self._waiting and not self._is_blocked:
                line = bytes(self._waiting)
                self._waiting.clear()
                self._execute(line, at_s)

        self._at(now_s + _READ_TIMEOUT_S, give_up)

    def _execute(self, line: bytes, now_s: float) -> None:
        self._line_number += 1
        line = line.rstrip(b"\r")
        for prefix, action in self._commands:
            if line.startswith(prefix):
                action(line[len(prefix) :], now_s)
                return
        if not self._is_v1:
            self._say(_UNKNOWN_0_5, now_s)
        else:
            text = line.decode("latin-1")
            self._say(
                f"Command not recognised: '{text}', Type 'help' for a list", now_s
            )

    def _table(self) -> list[tuple[bytes, Callable[[bytes, float], None]]]:
        """Return prefixes in the order in which they are tried."""
        shared: list[tuple[bytes, Callable[[bytes, float], None]]] = [
            (b"mrx ", lambda rest, now_s: self._move_one(0, rest, now_s)),
            (b"mry ", lambda rest, now_s: self._move_one(1, rest, now_s)),
            (b"mrz ", lambda rest, now_s: self._move_one(2, rest, now_s)),
            (b"move_rel", self._move_all),
            (b"mr", self._move_all),
            (b"release", lambda _, now_s: self._say("motors released", now_s)),
            (b"position?", self._tell_position),
            (b"p?", self._tell_position),
            (b"ramp_time?", self._tell_ramp),
            (b"ramp_time", self._set_ramp),
            (b"min_step_delay?", self._tell_delay),
            (b"dt?", self._tell_delay),
            (b"min_step_delay", self._set_delay),
            (b"dt", self._set_delay),
            (b"zero", self._set_zero),
            (b"version", lambda _, now_s: self._greet(now_s)),
            (b"board", self._tell_board),
            (b"list_modules", self._list_modules),
            (b"help", self._help),
        ]
        if not self._is_v1:
            return shared
        return [
            *shared,
            (b"p", self._tell_position),
            (b"blocking_moves ", self._set_blocking),
            (b"moving?", self._tell_moving),
            (b"notify_on_stop", self._notify),
            (b"stop", self._stop),
            (b"n_motors?", lambda _, now_s: self._say("n_motors 3", now_s)),
            (b"led_channels?", lambda _, now_s: self._say("CC:1 PWM:0", now_s)),
            (b"led_cc?", self._tell_lamp),
            (b"led_cc ", self._set_lamp),
        ]

    def _move_one(self, axis: int, rest: bytes, now_s: float) -> None:
        found = _NUMBER.match(rest)
        by = [0, 0, 0]
        by[axis] = int(found.group(1)) if found else 0
        self._move((by[0], by[1], by[2]), now_s, "done")

    def _move_all(self, rest: bytes, now_s: float) -> None:
        by: list[int] = []
        while len(by) < 3 and (found := _NUMBER.match(rest)):
            by.append(int(found.group(1)))
            rest = rest[found.end() :]
        if len(by) < 3:
            # The real firmware complains, and then moves by what was left in memory.
            self._say("Error: command is mr <int> <int> <int>", now_s)
            by += self._last_move[len(by) :]
        self._move((by[0], by[1], by[2]), now_s, "done.")

    def _move(self, by: Steps, now_s: float, answer: str) -> None:
        self._last_move = by
        here = self.axes.planned_steps()
        target = (here[0] + by[0], here[1] + by[1], here[2] + by[2])
        speed = [1e6 / self._step_delay_us * step for step in self.axes.facts.step_um]
        ramp_s = max(self._ramp_us * 1e-6, _AT_ONCE_S)
        self.axes.move(
            now_s,
            target,
            speed_um_per_s=(speed[0], speed[1], speed[2]),
            acceleration_um_per_s2=(
                speed[0] / ramp_s,
                speed[1] / ramp_s,
                speed[2] / ramp_s,
            ),
        )

        def finish(at_s: float) -> None:
            self._saved = self.axes.steps_at(at_s)
            if self._moves_block:
                self._say(answer, at_s)

        end_s = max(self.axes.busy_until_s(), now_s)
        if not self._is_v1:
            self._block_until(end_s, finish)
        else:
            self._at(end_s, finish)
            if not self._moves_block:
                self._say("done.", now_s)

    def _stop(self, _: bytes, now_s: float) -> None:
        self.axes.halt(now_s)
        self._saved = self.axes.steps_at(now_s)
        self._say("Move aborted", now_s)

    def _notify(self, _: bytes, now_s: float) -> None:
        self._at(
            max(self.axes.busy_until_s(), now_s),
            lambda at_s: self._say("done.", at_s),
        )

    def _tell_moving(self, _: bytes, now_s: float) -> None:
        is_moving = now_s < self.axes.busy_until_s()
        self._say("true" if is_moving else "false", now_s)

    def _set_blocking(self, rest: bytes, now_s: float) -> None:
        self._moves_block = not rest.startswith(b"false")
        self._say("done.", now_s)

    def _tell_position(self, _: bytes, now_s: float) -> None:
        x, y, z = self.axes.steps_at(now_s)
        self._say(f"{x} {y} {z}", now_s)

    def _set_zero(self, _: bytes, now_s: float) -> None:
        self.axes.set_steps((0, 0, 0), now_s)
        self._saved = (0, 0, 0)
        self._say("position reset to 0 0 0", now_s)

    def _tell_delay(self, _: bytes, now_s: float) -> None:
        self._say(f"minimum step delay {self._step_delay_us}", now_s)

    def _set_delay(self, rest: bytes, now_s: float) -> None:
        value = self._positive(rest, now_s)
        if value is not None:
            self._step_delay_us = max(value, 1)

    def _tell_ramp(self, _: bytes, now_s: float) -> None:
        self._say(f"ramp time {self._ramp_us}", now_s)

    def _set_ramp(self, rest: bytes, now_s: float) -> None:
        value = self._positive(rest, now_s)
        if value is not None:
            self._ramp_us = value

    def _positive(self, rest: bytes, now_s: float) -> int | None:
        found = _NUMBER.match(rest)
        if not found or int(found.group(1)) < 0:
            self._say("Bad command.", now_s)
            return None
        self._say("done.", now_s)
        return min(int(found.group(1)), 2**31 - 1)

    def _tell_board(self, _: bytes, now_s: float) -> None:
        is_old = not self._is_v1
        self._say("Sangaboard v0.3" if is_old else "Sangaboard v0.5.5", now_s)

    def _list_modules(self, _: bytes, now_s: float) -> None:
        if self._is_v1:
            self._say("Stage: 3 axes", now_s)
            self._say("Illumination: 1 CC", now_s)
        self._say("--END--", now_s)

    def _help(self, _: bytes, now_s: float) -> None:
        self._say("Commands:", now_s)
        for prefix, _action in self._commands:
            self._say(prefix.decode("ascii").strip(), now_s)
        self._say("--END--", now_s)

    def _tell_lamp(self, _: bytes, now_s: float) -> None:
        self._say(f"CC LED:{self._lamp:.2f}", now_s)

    def _set_lamp(self, rest: bytes, now_s: float) -> None:
        try:
            self._lamp = min(max(float(rest), 0.0), 1.0)
        except ValueError:
            self._say("Bad command.", now_s)
            return
        self._tell_lamp(rest, now_s)
