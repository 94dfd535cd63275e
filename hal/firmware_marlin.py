"""Virtual Marlin board: numbered lines with checksums, `ok` means queued.

Four lines wait in the command queue and sixteen moves in the planner; a long command
says `echo:busy: processing` every two seconds; `M114` tells the planned position with
two decimals, and the counted steps behind `Count`. Targets beyond the soft endstops
are clipped without a word, once the axis is homed: to the low end of x and y, and to
the high end of z, away from the glass.

Sources: Marlin's queue.cpp, M114.cpp and language.h.
"""

import math
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from bifocus.hal.firmware_axes import FirmwareAxes, Steps
from bifocus.hal.firmware_board import VirtualBoard
from bifocus.hal.firmware_gcode import marlin_line, marlin_words

_QUEUE_LINES = 4
_LINE_CHARACTERS = 95  # what is longer is cut
_PLANNER_BLOCKS = 16
_BUSY_EVERY_S = 2.0
_FINISH_S = 0.1  # measured cost of one M400
_HOMING_MM_PER_S = 20.0
_EMERGENCY = re.compile(rb"(?:N\d+\s*)?(M112|M410)\b")

Done = Callable[[float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class MarlinBuild:
    """Choices made when the firmware was compiled."""

    has_emergency_parser: bool = False
    has_advanced_ok: bool = False
    says_ok_after_resend: bool = True


class MarlinFirmware(VirtualBoard):
    """One board; see `VirtualBoard` for how it is driven."""

    def __init__(
        self,
        axes: FirmwareAxes,
        *,
        now_s: float,
        build: MarlinBuild | None = None,
        answer_s: float = 0.002,
        boot_s: float = 0.5,
    ) -> None:
        super().__init__(
            axes, now_s=now_s, answer_s=answer_s, boot_s=boot_s, buffer_bytes=128
        )
        self._build = build or MarlinBuild()
        self._per_mm = [1000 / step for step in axes.facts.step_um]
        self._commands = self._table()
        self._forget(now_s)

    def raise_limit_alarm(self, now_s: float) -> None:
        """Stop at an endstop: the moves are dropped, the count stays true."""
        self.axes.halt(now_s)
        self._block_ends.clear()
        z_mm = self._logical_mm(self.axes.steps_at(now_s))[2]
        self._say(f"echo:endstops hit:  Z:{z_mm:.2f}", now_s)

    def _forget(self, now_s: float) -> None:
        self.axes.set_steps((0, 0, 0), now_s)
        self._queue: deque[tuple[int | None, str]] = deque()
        self._is_running = False
        self._is_killed = False
        self._is_stopped = False
        self._last_number = 0
        self._seen = bytearray()
        self._block_ends: deque[float] = deque()
        self._is_relative = False
        self._has_soft_ends = True
        self._homed = [False, False, False]
        self._feed_mm_per_min = 1500.0
        self._shift_mm = [0.0, 0.0, 0.0]

    def _greet(self, now_s: float) -> None:
        for text in ("start", "echo: External Reset", "echo:Marlin 2.1.2.1"):
            self._say(text, now_s)
        self._say("echo: Free Memory: 4096  PlannerBufferBytes: 1232", now_s)

    # Reading lines: numbers and checksums are looked at before the queue.

    def _took_at_once(self, value: int, now_s: float) -> bool:
        if self._build.has_emergency_parser:
            self._seen.append(value)
            if value in b"\r\n":
                found = _EMERGENCY.match(self._seen)
                self._seen.clear()
                if found and found.group(1) == b"M112":
                    self._kill(now_s)
                elif found:
                    self._quick_stop(now_s)
        return self._is_killed

    def _is_reading(self) -> bool:
        return len(self._queue) < _QUEUE_LINES

    def _take_line(self) -> bytes | None:
        ends = [at for at in map(self._waiting.find, (b"\n", b"\r")) if at >= 0]
        if not ends or self._is_killed:
            return None
        line = bytes(self._waiting[: min(ends)])
        del self._waiting[: min(ends) + 1]
        return line

    def _execute(self, line: bytes, now_s: float) -> None:
        line = line.split(b";")[0].strip()[:_LINE_CHARACTERS]
        if not line:
            return
        numbered = marlin_line(line, self._last_number)
        if isinstance(numbered, str):
            self._ask_again(numbered, now_s)
            return
        number, line = numbered
        if number is not None:
            self._last_number = number
        self._queue.append((number, line.decode("latin-1").strip()))
        self._run(now_s)

    def _ask_again(self, why: str, now_s: float) -> None:
        self._waiting.clear()
        self._say(f"Error:{why}, Last Line: {self._last_number}", now_s)
        self._say(f"Resend: {self._last_number + 1}", now_s)
        if self._build.says_ok_after_resend:
            self._say("ok", now_s)

    # The queue.

    def _run(self, now_s: float) -> None:
        """Execute commands until the queue is empty or one takes its time."""
        while self._queue and not self._is_running and not self._is_killed:
            number, text = self._queue[0]
            self._is_running = True

            def finish(at_s: float, number: int | None = number) -> None:
                self._finish(number, at_s)

            words = marlin_words(text)
            code = next(iter(words), "")
            value = words.get(code)
            name = f"{code}{value:g}" if value is not None else ""
            action = self._commands.get(name)
            if action is None:
                self._say(f'echo:Unknown command: "{text}"', now_s)
                finish(now_s)
            else:
                action(words, now_s, finish)

    def _finish(self, number: int | None, now_s: float) -> None:
        self._queue.popleft()
        self._is_running = False
        text = "ok"
        if self._build.has_advanced_ok:
            text += f" N{number}" if number is not None else ""
            text += f" P{_PLANNER_BLOCKS - 1 - self._planned(now_s)}"
            text += f" B{_QUEUE_LINES - 1 - len(self._queue)}"
        self._say(text, now_s)

    def _wait(self, end_s: float, now_s: float, finish: Done) -> None:
        """Let the running command end at `end_s`, saying that it is busy meanwhile."""

        def look(at_s: float) -> None:
            if at_s >= end_s:
                finish(at_s)
                self._work(at_s)
                self._run(at_s)
                return
            self._say("echo:busy: processing", at_s)
            self._at(min(at_s + _BUSY_EVERY_S, end_s), look)

        self._at(min(now_s + _BUSY_EVERY_S, end_s), look)

    def _planned(self, now_s: float) -> int:
        while self._block_ends and self._block_ends[0] <= now_s:
            self._block_ends.popleft()
        return len(self._block_ends)

    def _kill(self, now_s: float) -> None:
        self.axes.halt(now_s)
        self._agenda.clear()
        self._is_killed = True
        self._say("Error:Printer halted. kill() called!", now_s)

    def _quick_stop(self, now_s: float) -> None:
        self.axes.halt(now_s)
        self._block_ends.clear()

    # Commands: each calls `finish` when its `ok` is due.

    def _table(
        self,
    ) -> dict[str, Callable[[dict[str, float | None], float, Done], None]]:
        def at_once(
            act: Callable[[dict[str, float | None], float], None],
        ) -> Callable[[dict[str, float | None], float, Done], None]:
            def run(words: dict[str, float | None], now_s: float, finish: Done) -> None:
                act(words, now_s)
                finish(now_s)

            return run

        quiet = at_once(lambda words, now_s: None)
        return {
            "G0": self._move,
            "G1": self._move,
            "G4": self._dwell,
            "G28": self._home,
            "M400": lambda words, now_s, finish: self._wait(
                max(now_s, self.axes.busy_until_s()) + _FINISH_S, now_s, finish
            ),
            "G21": quiet,
            "G90": at_once(lambda words, now_s: self._set_relative(False)),
            "G91": at_once(lambda words, now_s: self._set_relative(True)),
            "G92": at_once(lambda words, now_s: self._shift(words)),
            "M17": quiet,
            "M18": at_once(lambda words, now_s: self._release()),
            "M84": at_once(lambda words, now_s: self._release()),
            "M105": at_once(lambda words, now_s: self._say("T:0.00 /0.00", now_s)),
            "M110": at_once(lambda words, now_s: self._renumber(words)),
            "M111": quiet,
            "M112": lambda words, now_s, finish: self._kill(now_s),
            "M113": quiet,
            "M114": at_once(lambda words, now_s: self._say_place(now_s)),
            "M115": at_once(lambda words, now_s: self._say_facts(now_s)),
            "M119": at_once(lambda words, now_s: self._say_ends(now_s)),
            "M211": at_once(self._soft_ends),
            "M410": at_once(lambda words, now_s: self._quick_stop(now_s)),
            "M503": at_once(lambda words, now_s: self._say_settings(now_s)),
            "M92": at_once(lambda words, now_s: self._say_settings(now_s)),
            "M999": at_once(lambda words, now_s: None),
        }

    def _set_relative(self, is_relative: bool) -> None:
        self._is_relative = is_relative

    def _release(self) -> None:
        self._homed = [False, False, False]

    def _renumber(self, words: dict[str, float | None]) -> None:
        self._last_number = int(words.get("N") or 0)

    def _move(self, words: dict[str, float | None], now_s: float, finish: Done) -> None:
        self._planned(now_s)
        if len(self._block_ends) >= _PLANNER_BLOCKS:
            self._wait(
                self._block_ends[0],
                now_s,
                lambda at_s: self._move(words, at_s, finish),
            )
            return
        feed = words.get("F")
        if feed:
            self._feed_mm_per_min = max(feed, 0.1)
        target = self._logical_mm(self.axes.planned_steps())
        for axis, letter in enumerate("XYZ"):
            value = words.get(letter)
            if value is not None:
                target[axis] = value + (target[axis] if self._is_relative else 0.0)
        end_s = self.axes.move(
            now_s,
            self._clipped(target),
            path_speed_um_per_s=self._feed_mm_per_min * 1000 / 60,
        )
        if end_s > now_s:
            self._block_ends.append(end_s)
        finish(now_s)

    def _clipped(self, target_mm: list[float]) -> Steps:
        steps = []
        for axis, place in enumerate(target_mm):
            native = place - self._shift_mm[axis]
            if self._has_soft_ends and self._homed[axis]:
                low, high = self.axes.facts.travel_um[axis]
                native = min(max(native, low / 1000), high / 1000)
            steps.append(round(native * self._per_mm[axis]))
        return steps[0], steps[1], steps[2]

    def _dwell(
        self, words: dict[str, float | None], now_s: float, finish: Done
    ) -> None:
        dwell_s = (words.get("P") or 0.0) / 1000 + (words.get("S") or 0.0)
        end_s = max(now_s, self.axes.busy_until_s()) + max(dwell_s, 0.0)
        self._wait(end_s, now_s, finish)

    def _home(self, words: dict[str, float | None], now_s: float, finish: Done) -> None:
        """Seek the endstops, z first; the axes named, or all of them."""
        named = [axis for axis, letter in enumerate("XYZ") if letter in words]
        chosen = named or [0, 1, 2]
        travel = self.axes.facts.travel_um
        places_um = [travel[0][0], travel[1][0], travel[2][1]]
        if not all(math.isfinite(places_um[axis]) for axis in chosen):
            self._say("Error:Homing Failed", now_s)
            self._kill(now_s)
            return
        speed = (_HOMING_MM_PER_S * 1000,) * 3
        start_s = max(now_s, self.axes.busy_until_s())
        goal = list(self.axes.motor_um(start_s))
        for group in ([2], [0, 1]):
            for axis in group:
                if axis in chosen:
                    goal[axis] = places_um[axis]
            end_s = self.axes.seek(start_s, (goal[0], goal[1], goal[2]), speed)

        def arrive(at_s: float) -> None:
            steps = list(self.axes.steps_at(at_s))
            for axis in chosen:
                steps[axis] = round(places_um[axis] / 1000 * self._per_mm[axis])
                self._homed[axis] = True
                self._shift_mm[axis] = 0.0
            self.axes.set_steps((steps[0], steps[1], steps[2]), at_s)
            self._say_place(at_s)
            finish(at_s)

        self._wait(end_s, now_s, arrive)

    def _shift(self, words: dict[str, float | None]) -> None:
        here = self._logical_mm(self.axes.planned_steps())
        for axis, letter in enumerate("XYZ"):
            value = words.get(letter)
            if value is not None:
                self._shift_mm[axis] += value - here[axis]

    def _soft_ends(self, words: dict[str, float | None], now_s: float) -> None:
        chosen = words.get("S")
        if chosen is not None:
            self._has_soft_ends = chosen != 0
        ends = [[f"{end / 1000:.2f}" for end in span] for span in self._travel()]
        low = " ".join(f"{a}{end[0]}" for a, end in zip("XYZ", ends, strict=True))
        high = " ".join(f"{a}{end[1]}" for a, end in zip("XYZ", ends, strict=True))
        state = "ON " if self._has_soft_ends else "OFF"
        self._say(f"Soft endstops: {state}  Min:  {low}   Max:  {high}", now_s)

    def _travel(self) -> list[tuple[float, float]]:
        return [
            (max(low, -1e9), min(high, 1e9)) for low, high in self.axes.facts.travel_um
        ]

    def _say_place(self, now_s: float) -> None:
        x, y, z = self._logical_mm(self.axes.planned_steps())
        i, j, k = self.axes.steps_at(now_s)
        self._say(
            f"X:{x:.2f} Y:{y:.2f} Z:{z:.2f} E:0.00 Count X:{i} Y:{j} Z:{k}", now_s
        )

    def _say_facts(self, now_s: float) -> None:
        self._say(
            "FIRMWARE_NAME:Marlin 2.1.2.1 (virtual) SOURCE_CODE_URL:none "
            "PROTOCOL_VERSION:1.0 MACHINE_TYPE:Virtual stage EXTRUDER_COUNT:0",
            now_s,
        )
        for name, value in (
            ("EEPROM", 0),
            ("AUTOREPORT_POS", 0),
            ("EMERGENCY_PARSER", int(self._build.has_emergency_parser)),
        ):
            self._say(f"Cap:{name}:{value}", now_s)

    def _say_ends(self, now_s: float) -> None:
        self._say("Reporting endstop status", now_s)
        here = self.axes.motor_um(now_s)
        travel = self.axes.facts.travel_um
        places = {
            "x_min": here[0] <= travel[0][0],
            "y_min": here[1] <= travel[1][0],
            "z_max": here[2] >= travel[2][1],
        }
        for name, is_closed in places.items():
            self._say(f"{name}: {'TRIGGERED' if is_closed else 'open'}", now_s)

    def _say_settings(self, now_s: float) -> None:
        x, y, z = self._per_mm
        self._say(f"echo:  M92 X{x:.2f} Y{y:.2f} Z{z:.2f} E100.00", now_s)

    def _logical_mm(self, steps: Steps) -> list[float]:
        return [
            count / per_mm + shift
            for count, per_mm, shift in zip(
                steps, self._per_mm, self._shift_mm, strict=True
            )
        ]
