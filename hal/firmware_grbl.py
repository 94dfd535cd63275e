"""Virtual GRBL 1.1 board: `ok` means queued, `?` is answered at once, alarms lock.

Moves are planned block by block, each from rest to rest; arcs, probing and spindle are
not there (error:20). With limit switches the homed corner is at the top end of the
travel, so that the work volume has negative coordinates, as GRBL has it by default.

Source: the interface, commands and jogging pages of gnea/grbl.
"""

import math

from bifocus.hal.firmware_axes import FirmwareAxes
from bifocus.hal.firmware_board import VirtualBoard
from bifocus.hal.firmware_gcode import grbl_words, strip_comments
from bifocus.hal.firmware_grbl_motion import GrblModes, GrblPlanner
from bifocus.hal.firmware_grbl_settings import (
    change_setting,
    grbl_settings,
    setting_text,
)

_LINE_CHARACTERS = 80
_BANNER = "\r\nGrbl 1.1h ['$' for help]"
_LOCKED = "[MSG:'$H'|'$X' to unlock]"
_REPORTS_PER_OFFSET = 10


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
        self._planner = GrblPlanner(axes, self.settings)
        self._soft_forget()
        self._is_locked = has_switches

    def raise_limit_alarm(self, now_s: float) -> None:
        """Kill the motion: alarm 1, the position is lost until the next homing."""
        self._raise_alarm(1, now_s)
        self._is_critical = True
        self._say("[MSG:Reset to continue]", now_s)

    def _raise_alarm(self, number: int, now_s: float) -> None:
        self._planner.drop(now_s)
        self._is_locked = True
        self._say(f"ALARM:{number}", now_s)

    def _soft_forget(self) -> None:
        """Forget what a soft reset forgets: not the position, not the settings."""
        self._planner.forget()
        self._modes = GrblModes()
        self._hold_name = ""
        self._is_homing = False
        self._is_critical = False
        self._is_locked = False
        self._is_checking = False
        self._is_asleep = False
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
                self._planner.drop(now_s)
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
            self._planner.drop(now_s)  # a held jog is a cancelled jog
        elif state == "Run":
            self._planner.hold(now_s)
            self._hold_name = name

    def _resume(self, now_s: float) -> None:
        if self._hold_name:
            self._hold_name = ""
            self._planner.resume(now_s)

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
            return "Jog" if self._planner.is_jogging(now_s) else "Run"
        return "Idle"

    def _status(self, now_s: float) -> str:
        state = self._state(now_s)
        machine = self._planner.machine_mm(self.axes.steps_at(now_s))
        offset = self._planner.offset_mm()
        name, shown = "MPos", machine
        if not int(self.settings[10]) & 1:
            name, shown = "WPos", [a - b for a, b in zip(machine, offset, strict=True)]
        fields = [state, f"{name}:{_triple(shown)}"]
        if int(self.settings[10]) & 2:
            free = self._planner.free_blocks(now_s)
            fields.append(f"Bf:{free},{self._buffer_bytes - len(self._waiting)}")
        feed = self._modes.feed_mm_per_min if state in ("Run", "Jog") else 0.0
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
            self._say(self._modes.text, now_s)
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
            error = change_setting(self.settings, text, is_still=is_still)
            self._answer(error, now_s)
            return
        self._answer(0, now_s)

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
            self.axes.set_steps(self._planner.steps(place), at_s)
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
            is_inches = self._modes.is_inches and 21.0 not in modes
            scale = 25.4 if is_inches or 20.0 in modes else 1.0
            target_mm = self._planner.target_mm(
                numbers,
                scale,
                is_relative=91.0 in modes
                or (self._modes.is_relative and 90.0 not in modes),
                is_machine=53.0 in modes,
            )
            if self.settings[20] and not self._planner.is_within_travel(target_mm):
                self._answer(15, now_s)
                return
            feed = numbers["F"] * scale * 1000 / 60
            self._plan_or_wait(target_mm, feed, now_s, is_jog=True)

    def _gcode(self, text: str, now_s: float) -> None:
        words = grbl_words(text)
        if isinstance(words, int):
            self._answer(words, now_s)
            return
        error = self._modes.take(words)
        if error:
            self._answer(error, now_s)
            return
        numbers = dict(words)
        once = {value for letter, value in words if letter == "G"}
        if 4.0 in once:
            self._dwell(numbers, now_s)
        elif once & {10.0, 92.0, 92.1}:
            unit = self._modes.mm_per_unit
            self._answer(self._planner.set_offset(once, numbers, unit), now_s)
            self._until_offset = 0
        elif not set(numbers) & set("XYZ") or self._is_checking:
            self._answer(0, now_s)
        elif self._modes.motion is None:
            self._answer(31, now_s)
        elif self._modes.motion == 1.0 and self._modes.feed_mm_per_min <= 0:
            self._answer(22, now_s)
        else:
            self._move(numbers, now_s, is_machine=53.0 in once)

    def _move(
        self, numbers: dict[str, float], now_s: float, *, is_machine: bool
    ) -> None:
        """Carry out G0 or G1; beyond the soft limits that is alarm 2."""
        modes = self._modes
        target_mm = self._planner.target_mm(
            numbers,
            modes.mm_per_unit,
            is_relative=modes.is_relative,
            is_machine=is_machine,
        )
        if self.settings[20] and not self._planner.is_within_travel(target_mm):
            self._raise_alarm(2, now_s)
            self._is_critical = True
            self._say("[MSG:Reset to continue]", now_s)
            return
        feed = modes.feed_mm_per_min * 1000 / 60 if modes.motion else math.inf
        self._plan_or_wait(target_mm, feed, now_s, is_jog=False)

    def _dwell(self, numbers: dict[str, float], now_s: float) -> None:
        if "P" not in numbers:
            self._answer(28, now_s)
            return
        end_s = max(now_s, self.axes.busy_until_s()) + max(numbers["P"], 0.0)
        self._block_until(end_s, lambda at_s: self._answer(0, at_s))

    def _plan_or_wait(
        self, target_mm: list[float], feed: float, now_s: float, *, is_jog: bool
    ) -> None:
        """Queue the move and say ok; with the planner full, wait for room first."""
        target = self._planner.steps(target_mm)

        def go_on(at_s: float) -> None:
            self._planner.plan(target, feed, at_s, is_jog=is_jog)
            self._answer(0, at_s)

        room_s = self._planner.room_from_s(now_s)
        if room_s > now_s:
            self._block_until(room_s, go_on)
        else:
            go_on(now_s)

    def _say_offsets(self, now_s: float) -> None:
        for name in ("G54", "G55", "G56", "G57", "G58", "G59", "G28", "G30", "G92"):
            known = {"G54": self._planner.g54_mm, "G92": self._planner.g92_mm}
            place = known.get(name, [0.0] * 3)
            self._say(f"[{name}:{_triple(place)}]", now_s)
        self._say("[TLO:0.000]", now_s)
        self._say("[PRB:0.000,0.000,0.000:0]", now_s)


def _triple(place: list[float]) -> str:
    return ",".join(f"{value:.3f}" for value in place)
