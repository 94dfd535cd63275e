"""Virtual GRBL 1.1 board: `ok` means queued, `?` is answered at once, alarms lock.

Moves are planned block by block, each from rest to rest; arcs, probing and spindle are
not there (error:20). With limit switches the homed corner is at the top end of the
travel, so that the work volume has negative coordinates, as GRBL has it by default.

Source: the interface, commands and jogging pages of gnea/grbl.
"""

import math
from collections import deque
from dataclasses import dataclass

from bifocus.hal.firmware_axes import FirmwareAxes, Steps
from bifocus.hal.firmware_board import VirtualBoard
from bifocus.hal.firmware_gcode import Words, grbl_words, strip_comments
from bifocus.hal.firmware_grbl_settings import grbl_settings, setting_text
from bifocus.hal.take_up import Triple

_PLANNER_BLOCKS = 15
_LINE_CHARACTERS = 80
_BANNER = "\r\nGrbl 1.1h ['$' for help]"
_LOCKED = "[MSG:'$H'|'$X' to unlock]"
_IGNORED_G = {17.0, 40.0, 49.0, 54.0, 61.0, 94.0}
_IGNORED_M = {0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 8.0, 9.0, 30.0}
_REPORTS_PER_OFFSET = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """One move in the planner."""

    target: Steps
    path_speed_um_per_s: float
    end_s: float
    is_jog: bool


class GrblFirmware(VirtualBoard):
    """One board; see `VirtualBoard` for how it is driven."""

    def __init__(
        self,
        axes: FirmwareAxes,
        *,
        now_s: float,
        has_switches: bool = True,
        answer_s: float = 0.001,
        boot_s: float = 0.5,
    ) -> None:
        super().__init__(
            axes, now_s=now_s, answer_s=answer_s, boot_s=boot_s, buffer_bytes=128
        )
        self.settings = grbl_settings(axes.facts, has_switches=has_switches)
        self._g54_mm = [0.0, 0.0, 0.0]
        self._soft_forget()
        self._is_locked = has_switches

    def raise_limit_alarm(self, now_s: float) -> None:
        """Kill the motion: alarm 1, the position is lost until the next homing."""
        self._raise_alarm(1, now_s)
        self._is_critical = True
        self._say("[MSG:Reset to continue]", now_s)

    def _raise_alarm(self, number: int, now_s: float) -> None:
        self._drop_plan(now_s)
        self._is_locked = True
        self._say(f"ALARM:{number}", now_s)

    def _soft_forget(self) -> None:
        """Forget what a soft reset forgets: not the position, not the settings."""
        self._blocks: deque[_Block] = deque()
        self._held: list[_Block] = []
        self._hold_name = ""
        self._is_homing = False
        self._is_critical = False
        self._is_locked = False
        self._is_checking = False
        self._is_asleep = False
        self._is_relative = False
        self._is_inches = False
        self._motion: float | None = 0.0
        self._feed_mm_per_min = 0.0
        self._g92_mm = [0.0, 0.0, 0.0]
        self._until_offset = 0

    def _forget(self, now_s: float) -> None:
        self._soft_forget()
        self.axes.set_steps((0, 0, 0), now_s)
        self._is_locked = bool(self.settings[22])

    def _greet(self, now_s: float) -> None:
        self._say(_BANNER, now_s)
        if self._is_locked:
            self._say(_LOCKED, now_s)

    # Real-time bytes: acted on when they come in, never queued.

    def _took_at_once(self, value: int, now_s: float) -> bool:
        if value == 0x18:
            self._soft_reset(now_s)
        elif value == ord("?"):
            if not (self._is_homing or self._is_critical):
                self._say(self._status(now_s), now_s)
        elif value == ord("!"):
            self._hold("Hold:0", now_s)
        elif value == 0x84:
            self._hold("Door:0", now_s)
        elif value == ord("~"):
            self._resume(now_s)
        elif value == 0x85:
            if self._state(now_s) == "Jog":
                self._drop_plan(now_s)
        else:
            return value >= 0x80  # overrides, and what has no meaning
        return True

    def _soft_reset(self, now_s: float) -> None:
        was_moving = now_s < self.axes.busy_until_s() or self._is_homing
        was_locked = self._is_locked or was_moving
        self.axes.halt(now_s)
        self.axes.unstick()
        self._agenda.clear()
        self._waiting.clear()
        self._is_blocked = False
        self._soft_forget()
        self._is_locked = was_locked
        if was_moving:
            self._say("ALARM:3", now_s)
        self._greet(now_s)

    def _hold(self, name: str, now_s: float) -> None:
        state = self._state(now_s)
        if state == "Jog":
            self._drop_plan(now_s)  # a held jog is a cancelled jog
        elif state == "Run":
            self._forget_done(now_s)
            self._held = list(self._blocks)
            self._drop_plan(now_s)
            self._hold_name = name

    def _resume(self, now_s: float) -> None:
        if self._hold_name:
            self._hold_name = ""
            held, self._held = self._held, []
            for block in held:
                self._plan(block.target, block.path_speed_um_per_s, now_s, is_jog=False)

    def _drop_plan(self, now_s: float) -> None:
        self.axes.halt(now_s)
        self._blocks.clear()

    def _state(self, now_s: float) -> str:
        if self._is_asleep:
            return "Sleep"
        if self._is_locked:
            return "Alarm"
        if self._is_homing:
            return "Home"
        if self._is_checking:
            return "Check"
        if self._hold_name:
            return self._hold_name
        if now_s < self.axes.busy_until_s():
            self._forget_done(now_s)
            is_jog = bool(self._blocks) and self._blocks[0].is_jog
            return "Jog" if is_jog else "Run"
        return "Idle"

    def _status(self, now_s: float) -> str:
        state = self._state(now_s)
        machine = self._machine_mm(self.axes.steps_at(now_s))
        offset = self._offset_mm()
        name, shown = "MPos", machine
        if not int(self.settings[10]) & 1:
            name, shown = "WPos", [a - b for a, b in zip(machine, offset, strict=True)]
        fields = [state, f"{name}:{_triple(shown)}"]
        if int(self.settings[10]) & 2:
            free = _PLANNER_BLOCKS - len(self._blocks)
            fields.append(f"Bf:{free},{self._buffer_bytes - len(self._waiting)}")
        feed = self._feed_mm_per_min if state in ("Run", "Jog") else 0.0
        fields.append(f"FS:{feed:.0f},0")
        if self._until_offset <= 0:
            fields.append(f"WCO:{_triple(offset)}")
            self._until_offset = _REPORTS_PER_OFFSET
        self._until_offset -= 1
        return f"<{'|'.join(fields)}>"

    # Lines.

    def _take_line(self) -> bytes | None:
        ends = [at for at in map(self._waiting.find, (b"\n", b"\r")) if at >= 0]
        if not ends:
            return None
        line = bytes(self._waiting[: min(ends)])
        del self._waiting[: min(ends) + 1]
        return line

    def _execute(self, line: bytes, now_s: float) -> None:
        if self._is_critical:
            return
        if len(line) > _LINE_CHARACTERS:
            self._answer(11, now_s)
            return
        text = strip_comments(line.decode("latin-1"))
        if not text:
            self._answer(0, now_s)
        elif text.startswith("$J="):
            self._jog(text, now_s)
        elif text.startswith("$"):
            self._system(text[1:], now_s)
        elif self._is_locked or self._state(now_s) == "Jog":
            self._answer(9, now_s)
        else:
            self._gcode(text, now_s)

    def _answer(self, error: int, now_s: float) -> None:
        self._say(f"error:{error}" if error else "ok", now_s)

    def _system(self, text: str, now_s: float) -> None:
        state = self._state(now_s)
        is_still = state in ("Idle", "Alarm", "Check")
        if text == "":
            self._say(
                "[HLP:$$ $# $G $I $N $x=val $J=line $SLP $C $X $H ~ ! ? ctrl-x]",
                now_s,
            )
        elif text == "$" and is_still:
            for number, value in sorted(self.settings.items()):
                self._say(setting_text(number, value), now_s)
        elif text == "G":
            self._say(self._modes(), now_s)
        elif text == "#" and is_still:
            self._say_offsets(now_s)
        elif text == "I" and is_still:
            self._say("[VER:1.1h.20190825:]", now_s)
            self._say("[OPT:V,15,128]", now_s)
        elif text == "N" and is_still:
            self._say("$N0=", now_s)
            self._say("$N1=", now_s)
        elif text == "X" and is_still:
            if self._is_locked:
                self._is_locked = False
                self._say("[MSG:Caution: Unlocked]", now_s)
        elif text == "H" and is_still:
            self._home(now_s)
            return
        elif text == "C" and state == "Idle":
            self._is_checking = True
            self._say("[MSG:Enabled]", now_s)
        elif text == "C" and state == "Check":
            self._say("[MSG:Disabled]", now_s)
            self._answer(0, now_s)
            self._soft_reset(now_s)
            return
        elif text == "SLP" and is_still:
            self._say("[MSG:Sleeping]", now_s)
            self._is_asleep = True
        elif text in ("$", "#", "I", "N", "X", "H", "C", "SLP"):
            self._answer(8, now_s)
            return
        else:
            self._answer(self._set(text, is_still), now_s)
            return
        self._answer(0, now_s)

    def _set(self, text: str, is_still: bool) -> int:
        """Change a setting; return the error number, 0 for none."""
        name, equals, value = text.partition("=")
        if not (name.isdigit() and equals):
            return 3
        if not is_still:
            return 8
        try:
            number, new = int(name), float(value)
        except ValueError:
            return 2
        if number not in self.settings or not math.isfinite(new):
            return 3
        if new < 0:
            return 4
        if number == 20 and new and not self.settings[22]:
            return 10
        if number in range(100, 123) and new == 0:
            return 3
        self.settings[number] = new
        return 0

    def _home(self, now_s: float) -> None:
        """Seek the switches, z first; answer when done."""
        if not self.settings[22]:
            self._answer(5, now_s)
            return
        pull_um = self.settings[27] * 1000
        tops = [span[1] for span in self.axes.facts.travel_um]
        self._is_locked = False
        if not all(map(math.isfinite, tops)):
            self._raise_alarm(9, now_s)
            return
        self._is_homing = True
        seek_um_per_s = self.settings[25] * 1000 / 60
        speed = (seek_um_per_s, seek_um_per_s, seek_um_per_s)
        x_um, y_um, _ = self.axes.motor_um(self.axes.rest_from_s())
        self.axes.seek(now_s, (x_um, y_um, tops[2] - pull_um), speed)
        corner = (tops[0] - pull_um, tops[1] - pull_um, tops[2] - pull_um)
        end_s = self.axes.seek(now_s, corner, speed)

        def finish(at_s: float) -> None:
            self._is_homing = False
            place = [-self.settings[27]] * 3
            self.axes.set_steps(self._steps(place), at_s)
            self._answer(0, at_s)

        self._block_until(end_s, finish)

    # Motion.

    def _jog(self, text: str, now_s: float) -> None:
        if self._state(now_s) not in ("Idle", "Jog"):
            self._answer(8, now_s)
            return
        words = grbl_words(text[3:])
        if isinstance(words, int):
            self._answer(words, now_s)
            return
        numbers = dict(words)
        modes = [value for letter, value in words if letter == "G"]
        if not set(modes) <= {20.0, 21.0, 53.0, 90.0, 91.0} or "M" in numbers:
            self._answer(16, now_s)
        elif not set(numbers) & set("XYZ"):
            self._answer(26, now_s)
        elif numbers.get("F", 0.0) <= 0:
            self._answer(22, now_s)
        else:
            scale = 25.4 if self._inches_after(modes) else 1.0
            is_relative = 91.0 in modes or (self._is_relative and 90.0 not in modes)
            target_mm = self._target_mm(numbers, scale, is_relative, 53.0 in modes)
            if self.settings[20] and not self._is_within_travel(target_mm):
                self._answer(15, now_s)
                return
            feed = numbers["F"] * scale * 1000 / 60
            self._plan_or_wait(target_mm, feed, now_s, is_jog=True)

    def _gcode(self, text: str, now_s: float) -> None:
        words = grbl_words(text)
        if isinstance(words, int):
            self._answer(words, now_s)
            return
        error = self._take_modes(words)
        if error:
            self._answer(error, now_s)
            return
        numbers = dict(words)
        modes = {value for letter, value in words if letter == "G"}
        scale = 25.4 if self._is_inches else 1.0
        has_axes = bool(set(numbers) & set("XYZ"))
        if "F" in numbers:
            self._feed_mm_per_min = numbers["F"] * scale
        if 4.0 in modes:
            self._dwell(numbers, now_s)
        elif modes & {10.0, 92.0, 92.1}:
            self._answer(self._offset(modes, numbers, scale), now_s)
        elif not has_axes or self._is_checking:
            self._answer(0, now_s)
        elif self._motion is None:
            self._answer(31, now_s)
        elif self._motion == 1.0 and self._feed_mm_per_min <= 0:
            self._answer(22, now_s)
        else:
            target_mm = self._target_mm(
                numbers, scale, self._is_relative, 53.0 in modes
            )
            if self.settings[20] and not self._is_within_travel(target_mm):
                self._raise_alarm(2, now_s)
                self._is_critical = True
                self._say("[MSG:Reset to continue]", now_s)
                return
            feed = self._feed_mm_per_min * 1000 / 60 if self._motion else math.inf
            self._plan_or_wait(target_mm, feed, now_s, is_jog=False)

    def _take_modes(self, words: Words) -> int:
        """Change the modal state; return GRBL's error number, 0 for none."""
        for letter, value in words:
            if letter == "G" and value in (0.0, 1.0, 80.0):
                self._motion = None if value == 80.0 else value
            elif letter == "G" and value in (20.0, 21.0):
                self._is_inches = value == 20.0
            elif letter == "G" and value in (90.0, 91.0):
                self._is_relative = value == 91.0
            elif letter == "G" and value not in _IGNORED_G | {
                4.0,
                10.0,
                53.0,
                92.0,
                92.1,
            }:
                return 20
            elif letter == "M" and value not in _IGNORED_M:
                return 20
            elif letter not in "GMNFSTPLXYZ":
                return 36 if letter in "IJKR" else 20
        return 0

    def _inches_after(self, modes: list[float]) -> bool:
        if 20.0 in modes or 21.0 in modes:
            return 20.0 in modes
        return self._is_inches

    def _dwell(self, numbers: dict[str, float], now_s: float) -> None:
        if "P" not in numbers:
            self._answer(28, now_s)
            return
        end_s = max(now_s, self.axes.busy_until_s()) + max(numbers["P"], 0.0)
        self._block_until(end_s, lambda at_s: self._answer(0, at_s))

    def _offset(
        self, modes: set[float], numbers: dict[str, float], scale: float
    ) -> int:
        if 92.1 in modes:
            self._g92_mm = [0.0, 0.0, 0.0]
            return 0
        is_g92 = 92.0 in modes
        if not is_g92 and numbers.get("L") not in (2.0, 20.0):
            return 20
        machine = self._machine_mm(self.axes.planned_steps())
        for axis, letter in enumerate("XYZ"):
            if letter not in numbers:
                continue
            value = numbers[letter] * scale
            if is_g92:
                self._g92_mm[axis] = machine[axis] - self._g54_mm[axis] - value
            elif numbers["L"] == 2.0:
                self._g54_mm[axis] = value
            else:
                self._g54_mm[axis] = machine[axis] - self._g92_mm[axis] - value
        self._until_offset = 0
        return 0

    def _target_mm(
        self,
        numbers: dict[str, float],
        scale: float,
        is_relative: bool,
        is_machine: bool,
    ) -> list[float]:
        target = self._machine_mm(self.axes.planned_steps())
        offset = self._offset_mm()
        for axis, letter in enumerate("XYZ"):
            if letter not in numbers:
                continue
            value = numbers[letter] * scale
            if is_machine:
                target[axis] = value
            elif is_relative:
                target[axis] += value
            else:
                target[axis] = value + offset[axis]
        return target

    def _plan_or_wait(
        self, target_mm: list[float], feed: float, now_s: float, *, is_jog: bool
    ) -> None:
        """Queue the move and say ok; with the planner full, wait for room first."""
        self._forget_done(now_s)
        target = self._steps(target_mm)
        if len(self._blocks) < _PLANNER_BLOCKS:
            self._plan(target, feed, now_s, is_jog=is_jog)
            self._answer(0, now_s)
            return

        def go_on(at_s: float) -> None:
            self._plan(target, feed, at_s, is_jog=is_jog)
            self._answer(0, at_s)

        self._block_until(self._blocks[0].end_s, go_on)

    def _plan(self, target: Steps, feed: float, now_s: float, *, is_jog: bool) -> None:
        speed = [self.settings[110 + axis] * 1000 / 60 for axis in range(3)]
        pull = [self.settings[120 + axis] * 1000 for axis in range(3)]
        end_s = self.axes.move(
            now_s,
            target,
            speed_um_per_s=(speed[0], speed[1], speed[2]),
            acceleration_um_per_s2=(pull[0], pull[1], pull[2]),
            path_speed_um_per_s=feed,
        )
        self._blocks.append(
            _Block(target=target, path_speed_um_per_s=feed, end_s=end_s, is_jog=is_jog)
        )

    def _forget_done(self, now_s: float) -> None:
        while len(self._blocks) > 1 and self._blocks[0].end_s <= now_s:
            self._blocks.popleft()
        if self._blocks and now_s >= self.axes.busy_until_s():
            self._blocks.clear()

    # Places.

    def _machine_mm(self, steps: Steps) -> list[float]:
        return [count / self.settings[100 + axis] for axis, count in enumerate(steps)]

    def _steps(self, place_mm: list[float]) -> Steps:
        x, y, z = (
            round(place * self.settings[100 + axis])
            for axis, place in enumerate(place_mm)
        )
        return x, y, z

    def _offset_mm(self) -> list[float]:
        return [a + b for a, b in zip(self._g54_mm, self._g92_mm, strict=True)]

    def _is_within_travel(self, target_mm: list[float]) -> bool:
        return all(
            -self.settings[130 + axis] - 1e-9 <= place <= 1e-9
            for axis, place in enumerate(target_mm)
        )

    def _modes(self) -> str:
        motion = "G80" if self._motion is None else f"G{self._motion:.0f}"
        units = "G20" if self._is_inches else "G21"
        distance = "G91" if self._is_relative else "G90"
        feed = f"F{self._feed_mm_per_min:.0f}"
        return f"[GC:{motion} G54 G17 {units} {distance} G94 M5 M9 T0 {feed} S0]"

    def _say_offsets(self, now_s: float) -> None:
        for name in ("G54", "G55", "G56", "G57", "G58", "G59", "G28", "G30", "G92"):
            place = {"G54": self._g54_mm, "G92": self._g92_mm}.get(name, [0.0] * 3)
            self._say(f"[{name}:{_triple(place)}]", now_s)
        self._say("[TLO:0.000]", now_s)
        self._say("[PRB:0.000,0.000,0.000:0]", now_s)


def _triple(place: list[float] | Triple) -> str:
    return ",".join(f"{value:.3f}" for value in place)
