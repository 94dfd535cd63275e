"""Virtual ASI controller, MS-2000 or Tiger: servo axes that report what they measure.

A move is answered at once and `/` tells `B` while any axis moves; a number left out is
zero, so `M Z` goes to the origin; `HALT` in a move answers `:N-21`, which is no error;
opening the port resets nothing and a reset prints no banner. A Tiger wants commands to
one card with the card's address in front and knows a wrong address (`:N-7`). The
reply syntax without `:A` that newer Tigers can switch to is not simulated.

Source: ASI's serial command pages and the TG-1000 manual.
"""

import math
from collections.abc import Callable

from bifocus.hal.firmware_asi_tables import (
    AXIS_CARD,
    CANONICAL,
    CARDS,
    COMMAND,
    HEX_ADDRESS,
    LOWEST_MM_PER_S,
    PARAMETER,
    SETTINGS,
    UNITS_PER_UM,
)
from bifocus.hal.firmware_axes import FirmwareAxes, Steps
from bifocus.hal.firmware_board import VirtualBoard
from bifocus.hal.take_up import Triple

Parameters = list[tuple[str, str]]


class AsiFirmware(VirtualBoard):
    """One controller with axes X, Y and Z; see `VirtualBoard` for how it is driven."""

    resets_on_open = False

    def __init__(
        self,
        axes: FirmwareAxes,
        *,
        now_s: float,
        is_tiger: bool = False,
        answer_s: float = 0.005,
        boot_s: float = 0.5,
    ) -> None:
        super().__init__(
            axes, now_s=now_s, answer_s=answer_s, boot_s=boot_s, buffer_bytes=256
        )
        self._is_tiger = is_tiger
        self._max_mm_per_s = [v / 1000 for v in axes.facts.speed_um_per_s]
        self._settings: dict[str, list[float]] = {}
        self._actions = self._table()
        self._forget(now_s)

    def raise_limit_alarm(self, now_s: float) -> None:
        """Stop at a limit switch; the encoder knows where."""
        self.axes.halt(now_s)
        self._at_limit = 64

    def _forget(self, now_s: float) -> None:
        self.axes.set_steps((0, 0, 0), now_s)
        self._at_limit = 0
        self._is_enabled = [True, True, True]
        self._decimals = 1
        self._settings = {name: [value[0]] * 3 for name, value in SETTINGS.items()}
        self._settings["S"] = list(self._max_mm_per_s)

    def _greet(self, now_s: float) -> None:
        """Say nothing: the controller has no banner."""

    def _take_line(self) -> bytes | None:
        end = self._waiting.find(b"\r")
        if end < 0:
            if len(self._waiting) > self._buffer_bytes:
                self._waiting.clear()
            return None
        line = bytes(self._waiting[:end])
        del self._waiting[: end + 1]
        return line

    def _execute(self, line: bytes, now_s: float) -> None:
        text = line.decode("latin-1").strip().upper()
        if not text:
            return
        found = COMMAND.match(text)
        address, name, rest = found.groups() if found else ("", "", "")
        address = HEX_ADDRESS.get(address, address)
        action = self._actions.get(CANONICAL.get(name, ""))
        if address not in (CARDS if self._is_tiger else {""}):
            self._refuse(7 if self._is_tiger else 1, now_s)
        elif action is None:
            self._refuse(1, now_s)
        else:
            action(address, PARAMETER.findall(rest), now_s)

    def _refuse(self, error: int, now_s: float) -> None:
        self._say(f":N-{error}", now_s)

    def _accept(self, now_s: float) -> None:
        self._say(":A", now_s)

    def _table(self) -> dict[str, Callable[[str, Parameters, float], None]]:
        def with_axes(
            act: Callable[[dict[int, float], float], None],
        ) -> Callable[[str, Parameters, float], None]:
            def run(_: str, parameters: Parameters, now_s: float) -> None:
                values = self._axis_values(parameters, now_s)
                if values is not None:
                    act(values, now_s)

            return run

        def setting(name: str) -> Callable[[str, Parameters, float], None]:
            return lambda _, parameters, now_s: self._setting(name, parameters, now_s)

        table: dict[str, Callable[[str, Parameters, float], None]] = {
            "M": with_axes(lambda values, now_s: self._move(values, now_s, False)),
            "R": with_axes(lambda values, now_s: self._move(values, now_s, True)),
            "H": with_axes(self._here),
            "!": with_axes(self._home),
            "W": self._where,
            "/": lambda _, __, now_s: self._say(
                "B" if self._busy(now_s) else "N", now_s
            ),
            "RS": self._status,
            "RB": self._status_byte,
            "\\": lambda _, __, now_s: self._halt(now_s),
            "Z": lambda _, __, now_s: self._here({0: 0.0, 1: 0.0, 2: 0.0}, now_s),
            "MC": self._motor_control,
            "V": lambda _, __, now_s: self._say(self._version(), now_s),
            "BU": self._build,
            "CD": lambda _, __, now_s: self._say("Jan 07 2020:10:00:00", now_s),
            "I": self._info,
            "N": lambda _, __, now_s: self._who(now_s),
            "SS": lambda _, __, now_s: self._accept(now_s),
            "~": lambda _, __, now_s: self._restart(now_s),
            "VB": self._verbose,
        }
        return table | {name: setting(name) for name in SETTINGS}

    def _axis_values(
        self, parameters: Parameters, now_s: float
    ) -> dict[int, float] | None:
        """Return the number of each axis named, 0 where none stands; refuse others."""
        values = {}
        for letter, value in parameters:
            if letter not in "XYZ":
                self._refuse(2, now_s)
                return None
            number = value.lstrip("= ")
            values["XYZ".index(letter)] = float(number) if number not in "?+-" else 0.0
        if not values:
            self._refuse(3, now_s)
            return None
        return values

    # Motion.

    def _busy(self, now_s: float) -> bool:
        return now_s < self.axes.busy_until_s()

    def _halt(self, now_s: float) -> None:
        was_busy = self._busy(now_s)
        self.axes.halt(now_s)
        if was_busy:
            self._refuse(21, now_s)
        else:
            self._accept(now_s)

    def _move(self, values: dict[int, float], now_s: float, is_relative: bool) -> None:
        """Start at once; axes on the way to an older target go on to it."""
        goal = self._units(self.axes.planned_steps())
        here = self._units(self.axes.steps_at(now_s))
        for axis, value in values.items():
            goal[axis] = value + here[axis] if is_relative else value
        for axis in range(3):
            low, high = (self._settings[name][axis] * 1e4 for name in ("SL", "SU"))
            goal[axis] = min(max(goal[axis], low), high)
        self._drive(goal, values, now_s)
        self._accept(now_s)

    def _drive(self, goal: list[float], named: dict[int, float], now_s: float) -> None:
        self.axes.halt(now_s)
        self._at_limit = 0
        here = self._units(self.axes.steps_at(now_s))
        for axis in range(3):
            if not self._is_enabled[axis]:
                goal[axis] = here[axis]
        before = list(goal)
        for axis in named:
            if goal[axis] != here[axis]:
                before[axis] -= self._settings["B"][axis] * 1e4
        speed = [v * 1000 for v in self._settings["S"]]
        pull = [
            v / max(ramp_ms / 1000, 1e-3)
            for v, ramp_ms in zip(speed, self._settings["AC"], strict=True)
        ]
        for stop in [before, goal] if before != goal else [goal]:
            self.axes.move(
                now_s,
                self._steps(stop),
                speed_um_per_s=(speed[0], speed[1], speed[2]),
                acceleration_um_per_s2=(pull[0], pull[1], pull[2]),
                is_straight=False,
            )

    def _home(self, values: dict[int, float], now_s: float) -> None:
        """Go to the home place, or as far as the travel lets it."""
        goal = self._units(self.axes.steps_at(now_s))
        here_um = self.axes.motor_um(now_s)
        for axis in values:
            high_um = self.axes.facts.travel_um[axis][1]
            room = (high_um - here_um[axis]) * UNITS_PER_UM
            home = self._settings["HM"][axis] * 1e4
            goal[axis] = min(home, goal[axis] + room)
        self._drive(goal, {}, now_s)
        self._accept(now_s)

    def _here(self, values: dict[int, float], now_s: float) -> None:
        place = self._units(self.axes.steps_at(now_s))
        for axis, value in values.items():
            place[axis] = value
        self.axes.set_steps(self._steps(place), now_s)
        self._accept(now_s)

    def _restart(self, now_s: float) -> None:
        self._accept(now_s)
        answer = self._outbox[-1]
        self.reset(now_s)
        self._outbox.append(answer)

    # Questions.

    def _where(self, _: str, parameters: Parameters, now_s: float) -> None:
        values = self._axis_values(parameters, now_s)
        if values is None:
            return
        place = self._units(self.axes.steps_at(now_s))
        texts = []
        for axis in sorted(values):  # in hardware order, whatever was asked
            text = f"{place[axis]:.{self._decimals}f}"
            texts.append("0" if float(text) == 0 else text)
        self._say(f":A {' '.join(texts)}", now_s)

    def _status_bits(self, axis: int, now_s: float) -> int:
        is_busy = self._busy(now_s)
        enabled = 2 if self._is_enabled[axis] else 0
        return is_busy * 5 + enabled + 8 + (self._at_limit if axis == 2 else 0)

    def _status(self, _: str, parameters: Parameters, now_s: float) -> None:
        if self._axis_values(parameters, now_s) is None:
            return
        texts = [
            ("B" if self._busy(now_s) else "N")
            if flag == "?"
            else f" {self._status_bits('XYZ'.index(letter), now_s)}"
            for letter, flag in parameters
        ]
        self._say(f":A {''.join(texts).strip()}", now_s)

    def _status_byte(self, _: str, parameters: Parameters, now_s: float) -> None:
        values = self._axis_values(parameters, now_s)
        if values is not None:
            data = bytes(self._status_bits(axis, now_s) for axis in sorted(values))
            self._send(b":" + data + b"\r\n", now_s)

    def _setting(self, name: str, parameters: Parameters, now_s: float) -> None:
        values = self._axis_values(parameters, now_s)
        if values is None:
            return
        asked = [letter for letter, flag in parameters if flag == "?"]
        for letter, flag in parameters:
            axis = "XYZ".index(letter)
            if flag == "?":
                continue
            is_place = name in ("SL", "SU", "HM")
            if is_place and flag == "-":  # the factory's value
                self._settings[name][axis] = SETTINGS[name][0]
            elif is_place and not flag.startswith("="):  # this place
                here = self._units(self.axes.steps_at(now_s))[axis] / 1e4
                self._settings[name][axis] = here
            else:
                self._settings[name][axis] = self._allowed(name, axis, values[axis])
        if not asked:
            self._accept(now_s)
            return
        pairs = " ".join(
            f"{letter}={self._settings[name]['XYZ'.index(letter)]:.6f}"
            for letter in asked
        )
        is_reversed = SETTINGS[name][1]
        self._say(f":{pairs} A" if is_reversed else f":A {pairs}", now_s)

    def _allowed(self, name: str, axis: int, value: float) -> float:
        if name == "S":
            return min(max(value, LOWEST_MM_PER_S), self._max_mm_per_s[axis])
        return max(value, 0.0) if name == "AC" else value

    def _motor_control(self, _: str, parameters: Parameters, now_s: float) -> None:
        if self._axis_values(parameters, now_s) is None:
            return
        for letter, flag in parameters:
            if flag in ("+", "-"):
                self._is_enabled["XYZ".index(letter)] = flag == "+"
        self._accept(now_s)

    def _verbose(self, _: str, parameters: Parameters, now_s: float) -> None:
        for letter, value in parameters:
            if letter == "Z" and value.startswith("="):
                self._decimals = min(max(int(float(value[1:])), 0), 6)
        self._accept(now_s)

    def _version(self) -> str:
        return ":A Version: USB-9.2m" if not self._is_tiger else ":A Version: v3.39"

    def _build(self, address: str, parameters: Parameters, now_s: float) -> None:
        if not any(letter == "X" for letter, _ in parameters):
            name = CARDS[address] or ("TIGER_COMM" if self._is_tiger else "STD_XYZ")
            self._say(name, now_s)
            return
        lines = {
            "1": ["STD_XY", "LL COMMANDS", "RING BUFFER"],
            "2": ["STD_Z", "LL COMMANDS", "RING BUFFER"],
        }.get(
            address,
            [
                "TIGER_COMM" if self._is_tiger else "STD_XYZ",
                "Motor Axes: X Y Z",
                "Axis Types: x x z",
                f"Axis Addr: {' '.join(AXIS_CARD.values())}",
                f"Hex Addr: {' '.join('3' + card for card in AXIS_CARD.values())}",
                "Axis Props: 10 10 10",
            ],
        )
        self._say("\r".join(lines), now_s)

    def _info(self, _: str, parameters: Parameters, now_s: float) -> None:
        values = self._axis_values(parameters, now_s)
        if values is None:
            return
        axis = min(values)
        rows = (
            (f"Axis Name ChX: {'XYZ'[axis]}", "Limits Status: f"),
            (f"Input Device : JS_{'XYZ'[axis]} [J]", "Axis Profile  :STD_CP_ROT"),
            (
                f"Max Lim : {self._settings['SU'][axis]:.3f} [SU]",
                f"Min Lim: {self._settings['SL'][axis]:.3f} [SL]",
            ),
            (
                f"Ramp Time: {self._settings['AC'][axis]:.0f} [AC] ms",
                "Ramp Length: 1 enc",
            ),
            (f"Run Speed: {self._settings['S'][axis]:.5f} [S]mm/s", "vmax_enc*16 : 1"),
        )
        self._say("\r".join(f"{a:<33}{b}" for a, b in rows), now_s)

    def _who(self, now_s: float) -> None:
        if not self._is_tiger:
            self._say("ASI-MS2000-XYZ-USB", now_s)
            return
        lines = (
            "At 30: Comm v3.39 TIGER_COMM",
            "At 31: X:XYMotor,Y:XYMotor v3.39 STD_XY",
            "At 32: Z:ZMotor v3.39 STD_Z",
        )
        self._say("\r".join(lines), now_s)

    def _units(self, steps: Steps) -> list[float]:
        return [
            count * step * UNITS_PER_UM
            for count, step in zip(steps, self.axes.facts.step_um, strict=True)
        ]

    def _steps(self, units: list[float] | Triple) -> Steps:
        x, y, z = (
            round(value / UNITS_PER_UM / step) if math.isfinite(value) else 0
            for value, step in zip(units, self.axes.facts.step_um, strict=True)
        )
        return x, y, z
