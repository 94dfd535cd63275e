"""Modal state, work offsets and planner of a virtual GRBL board."""

from collections import deque
from dataclasses import dataclass

from bifocus.hal.firmware_axes import FirmwareAxes, Steps
from bifocus.hal.firmware_gcode import Words

PLANNER_BLOCKS = 15
_IGNORED_G = {17.0, 40.0, 49.0, 54.0, 61.0, 94.0}
_ONCE_G = {4.0, 10.0, 53.0, 92.0, 92.1}
_IGNORED_M = {0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 8.0, 9.0, 30.0}


class GrblModes:
    """What stays in force from line to line: motion, units, distances, feed."""

    def __init__(self) -> None:
        self.motion: float | None = 0.0  # G0, G1, or None for G80
        self.is_relative = False
        self.is_inches = False
        self.feed_mm_per_min = 0.0

    def take(self, words: Words) -> int:
        """Change the modes; return GRBL's error number, 0 for none."""
        for letter, value in words:
            if letter == "G":
                if not self._took_g(value):
                    return 20
            elif letter == "M" and value not in _IGNORED_M:
                return 20
            elif letter not in "GMNFSTPLXYZ":
                return 36 if letter in "IJKR" else 20
        feed = dict(words).get("F")
        if feed is not None:
            self.feed_mm_per_min = feed * self.mm_per_unit
        return 0

    @property
    def mm_per_unit(self) -> float:
        """Length of the unit in force."""
        return 25.4 if self.is_inches else 1.0

    @property
    def text(self) -> str:
        """The answer to `$G`."""
        motion = "G80" if self.motion is None else f"G{self.motion:.0f}"
        units = "G20" if self.is_inches else "G21"
        distance = "G91" if self.is_relative else "G90"
        feed = f"F{self.feed_mm_per_min:.0f}"
        return f"[GC:{motion} G54 G17 {units} {distance} G94 M5 M9 T0 {feed} S0]"

    def _took_g(self, value: float) -> bool:
        if value in (0.0, 1.0, 80.0):
            self.motion = None if value == 80.0 else value
        elif value in (20.0, 21.0):
            self.is_inches = value == 20.0
        elif value in (90.0, 91.0):
            self.is_relative = value == 91.0
        else:
            return value in _IGNORED_G | _ONCE_G
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """One move in the planner."""

    target: Steps
    path_speed_um_per_s: float
    end_s: float
    is_jog: bool


class GrblPlanner:
    """Queues moves, each from rest to rest; places in mm by the settings' steps."""

    def __init__(self, axes: FirmwareAxes, settings: dict[int, float]) -> None:
        self._axes = axes
        self._settings = settings
        self._blocks: deque[_Block] = deque()
        self._held: list[_Block] = []
        self.g54_mm = [0.0, 0.0, 0.0]
        self.g92_mm = [0.0, 0.0, 0.0]

    def forget(self) -> None:
        """Empty the queue, and G92, as a soft reset does."""
        self._blocks.clear()
        self._held.clear()
        self.g92_mm = [0.0, 0.0, 0.0]

    def plan(
        self, target: Steps, path_speed_um_per_s: float, now_s: float, *, is_jog: bool
    ) -> None:
        """Queue a straight move within the settings' speeds and accelerations."""
        speed = [self._settings[110 + axis] * 1000 / 60 for axis in range(3)]
        pull = [self._settings[120 + axis] * 1000 for axis in range(3)]
        end_s = self._axes.move(
            now_s,
            target,
            speed_um_per_s=(speed[0], speed[1], speed[2]),
            acceleration_um_per_s2=(pull[0], pull[1], pull[2]),
            path_speed_um_per_s=path_speed_um_per_s,
        )
        block = _Block(
            target=target,
            path_speed_um_per_s=path_speed_um_per_s,
            end_s=end_s,
            is_jog=is_jog,
        )
        self._blocks.append(block)

    def room_from_s(self, now_s: float) -> float:
        """Return when a block is free; `now_s` if one is."""
        self._forget_done(now_s)
        full = len(self._blocks) >= PLANNER_BLOCKS
        return self._blocks[0].end_s if full else now_s

    def free_blocks(self, now_s: float) -> int:
        """Return how many more moves may be queued."""
        self._forget_done(now_s)
        return PLANNER_BLOCKS - len(self._blocks)

    def is_jogging(self, now_s: float) -> bool:
        """Return whether the move under way is a jog."""
        self._forget_done(now_s)
        return bool(self._blocks) and self._blocks[0].is_jog

    def drop(self, now_s: float) -> None:
        """Stop, and forget the queue."""
        self._axes.halt(now_s)
        self._blocks.clear()

    def hold(self, now_s: float) -> None:
        """Stop, and keep the queue for `resume`."""
        self._forget_done(now_s)
        self._held = list(self._blocks)
        self.drop(now_s)

    def resume(self, now_s: float) -> None:
        """Go on with what `hold` kept."""
        held, self._held = self._held, []
        for block in held:
            self.plan(block.target, block.path_speed_um_per_s, now_s, is_jog=False)

    def machine_mm(self, steps: Steps) -> list[float]:
        """Return a count in millimetres."""
        return [count / self._settings[100 + axis] for axis, count in enumerate(steps)]

    def steps(self, place_mm: list[float]) -> Steps:
        """Return a machine place as a count."""
        x, y, z = (
            round(place * self._settings[100 + axis])
            for axis, place in enumerate(place_mm)
        )
        return x, y, z

    def offset_mm(self) -> list[float]:
        """Return machine minus work coordinates."""
        return [a + b for a, b in zip(self.g54_mm, self.g92_mm, strict=True)]

    def target_mm(
        self,
        numbers: dict[str, float],
        mm_per_unit: float,
        *,
        is_relative: bool,
        is_machine: bool,
    ) -> list[float]:
        """Return the machine place that the axis words of a line mean."""
        target = self.machine_mm(self._axes.planned_steps())
        offset = self.offset_mm()
        for axis, letter in enumerate("XYZ"):
            if letter not in numbers:
                continue
            value = numbers[letter] * mm_per_unit
            if is_machine:
                target[axis] = value
            elif is_relative:
                target[axis] += value
            else:
                target[axis] = value + offset[axis]
        return target

    def is_within_travel(self, target_mm: list[float]) -> bool:
        """Return whether the soft limits allow a machine place."""
        return all(
            -self._settings[130 + axis] - 1e-9 <= place <= 1e-9
            for axis, place in enumerate(target_mm)
        )

    def set_offset(
        self, modes: set[float], numbers: dict[str, float], mm_per_unit: float
    ) -> int:
        """Carry out G10, G92 or G92.1; return GRBL's error number, 0 for none."""
        if 92.1 in modes:
            self.g92_mm = [0.0, 0.0, 0.0]
            return 0
        is_g92 = 92.0 in modes
        if not is_g92 and numbers.get("L") not in (2.0, 20.0):
            return 20
        machine = self.machine_mm(self._axes.planned_steps())
        for axis, letter in enumerate("XYZ"):
            if letter not in numbers:
                continue
            value = numbers[letter] * mm_per_unit
            if is_g92:
                self.g92_mm[axis] = machine[axis] - self.g54_mm[axis] - value
            elif numbers["L"] == 2.0:
                self.g54_mm[axis] = value
            else:
                self.g54_mm[axis] = machine[axis] - self.g92_mm[axis] - value
        return 0

    def _forget_done(self, now_s: float) -> None:
        while len(self._blocks) > 1 and self._blocks[0].end_s <= now_s:
            self._blocks.popleft()
        if self._blocks and now_s >= self._axes.busy_until_s():
            self._blocks.clear()
