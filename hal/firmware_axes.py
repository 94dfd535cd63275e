"""The motors behind a virtual board: what it counts, and where the glass truly is.

Two motions run side by side: the one that the firmware counts in whole steps, and the
one that the motors really make. They part when steps are lost, at a hard stop, or when
a reset makes the firmware forget; only the second moves the glass.
"""

import math
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from bifocus.hal.glass_motion import GlassMotion
from bifocus.hal.motion import TrapezoidalMove
from bifocus.hal.take_up import Triple
from bifocus.records import StagePosition
from bifocus.stage_config import Mechanics

Steps = tuple[int, int, int]
Span = tuple[float, float]
Laws = tuple[TrapezoidalMove, TrapezoidalMove, TrapezoidalMove]

_NO_END: tuple[Span, Span, Span] = ((-math.inf, math.inf),) * 3


@dataclass(frozen=True, slots=True, kw_only=True)
class AxesFacts:
    """What is bolted to the board; micrometres in the frame of the glass.

    `start_um` is where the motors stand when the power comes on, which a board that
    remembers nothing calls zero. The motors stall at the ends of `travel_um`. A closed
    loop counts what an encoder on the motor measures.
    """

    step_um: Triple
    speed_um_per_s: Triple
    acceleration_um_per_s2: Triple
    start_um: Triple = (0.0, 0.0, 0.0)
    travel_um: tuple[Span, Span, Span] = _NO_END
    mechanics: Mechanics = field(default_factory=Mechanics)
    is_closed_loop: bool = False


class MoveFaults(Protocol):
    """What a fault plan may do to the move with a running number, from 0."""

    def lost_steps(self, number: int) -> Steps:
        """Return how many steps each axis loses on the way."""
        ...

    def stuck_s(self, number: int) -> float:
        """Return for how long the board takes the motors to be busy after the end."""
        ...

    def on_move(self, number: int, start_s: float, end_s: float) -> None:
        """Note that the move is under way."""
        ...


class FirmwareAxes:
    """Counts steps, and carries the glass; times are those of the caller's clock."""

    def __init__(self, facts: AxesFacts, *, now_s: float, seed: int) -> None:
        self.facts = facts
        self.faults: MoveFaults | None = None
        self.n_moves = 0
        self._zero_um = facts.start_um
        self._stuck_until_s = now_s
        self._real = _motion(facts, facts.mechanics, now_s, seed)
        self._counted = self._real
        if not facts.is_closed_loop:
            self._counted = _motion(facts, Mechanics(), now_s, seed)

    def steps_at(self, t_s: float) -> Steps:
        """Return the firmware's count at `t_s`."""
        return self._steps(self._counted.motor_um(t_s))

    def planned_steps(self) -> Steps:
        """Return the count when every move in the queue has ended."""
        return self._steps(self._counted.motor_um(self._counted.busy_until_s()))

    def set_steps(self, steps: Steps, t_s: float) -> None:
        """Call the place at `t_s` by another number; nothing moves."""
        here_um = self._counted.motor_um(t_s)
        x, y, z = (
            here - step * count
            for here, step, count in zip(
                here_um, self.facts.step_um, steps, strict=True
            )
        )
        self._zero_um = (x, y, z)

    def motor_um(self, t_s: float) -> Triple:
        """Return where the motors really are."""
        return self._real.motor_um(t_s)

    def true_pose_at(self, t_s: float) -> StagePosition:
        """Return where the glass really is."""
        return self._real.true_pose_at(t_s)

    def glass_for_um(self, counted_um: Triple) -> Triple:
        """Return where the glass is when driven up to a count, no step being lost."""
        x, y, z = (
            at + zero for at, zero in zip(counted_um, self._zero_um, strict=True)
        )
        return self._real.ideal_um((x, y, z))

    def z_drift_um(self, t_s: float) -> float:
        """Return how far the glass has crept upward by `t_s`."""
        return self._real.z_drift_um(t_s)

    def counted_for_um(self, glass_um: Triple) -> Triple:
        """Return the count, in um, to drive up to for the glass to be there."""
        motor_um = self._real.motor_for_um(glass_um)
        x, y, z = (at - zero for at, zero in zip(motor_um, self._zero_um, strict=True))
        return x, y, z

    def busy_until_s(self) -> float:
        """Return when the firmware will take the motors to be at rest."""
        return max(self._counted.busy_until_s(), self._stuck_until_s)

    def rest_from_s(self) -> float:
        """Return when the motors really come to rest."""
        return max(self._counted.busy_until_s(), self._real.busy_until_s())

    def halt(self, t_s: float) -> None:
        """Stop the motors at `t_s` and forget the moves in the queue."""
        self._counted.halt(t_s)
        self._real.halt(t_s)

    def stall(self, t_s: float) -> None:
        """Stop the motors at `t_s` while the count goes on, as at a hard stop."""
        self._real.halt(t_s)

    def unstick(self) -> None:
        """End a busy flag that hangs, as a reset does."""
        self._stuck_until_s = -math.inf

    def move(
        self,
        start_s: float,
        target: Steps,
        *,
        speed_um_per_s: Triple | None = None,
        acceleration_um_per_s2: Triple | None = None,
        path_speed_um_per_s: float = math.inf,
        is_straight: bool = True,
    ) -> float:
        """Queue a move to a count, after those in the queue; return when it ends.

        On a straight line the slowest axis sets the time; otherwise each axis goes at
        its own speed.
        """
        speed = speed_um_per_s or self.facts.speed_um_per_s
        acceleration = acceleration_um_per_s2 or self.facts.acceleration_um_per_s2
        start_s = max(start_s, self.rest_from_s())
        from_um = self._counted.motor_um(start_s)
        x, y, z = (
            zero + step * count - at
            for zero, step, count, at in zip(
                self._zero_um, self.facts.step_um, target, from_um, strict=True
            )
        )
        if self._steps(from_um) == target:
            return start_s
        make = _straight if is_straight else _separate
        counted = make((x, y, z), speed, acceleration, path_speed_um_per_s)
        lost = self.faults.lost_steps(self.n_moves) if self.faults else (0, 0, 0)
        real_um = self._reachable(start_s, (x, y, z), lost)
        real = make(real_um, speed, acceleration, path_speed_um_per_s)
        end_s = self._add(start_s, counted, real)
        if self.faults:
            stuck_s = self.faults.stuck_s(self.n_moves)
            if stuck_s > 0:
                self._stuck_until_s = end_s + stuck_s
            self.faults.on_move(self.n_moves, start_s, end_s)
        self.n_moves += 1
        return end_s

    def seek(self, start_s: float, switch_um: Triple, speed_um_per_s: Triple) -> float:
        """Drive until switches at these true places close; return when they have.

        The count runs on as it would; the caller gives the place its number.
        """
        start_s = max(start_s, self.rest_from_s())
        at_um = self._real.motor_um(start_s)
        x, y, z = (to - at for to, at in zip(switch_um, at_um, strict=True))
        laws = _separate(
            (x, y, z), speed_um_per_s, self.facts.acceleration_um_per_s2, math.inf
        )
        return self._add(start_s, laws, laws)

    def _add(self, start_s: float, counted: Laws, real: Laws) -> float:
        """Append the motion of count and motors; return when the longer one ends."""
        end_s = self._real.add_leg(start_s, real).end_s
        if self._counted is not self._real:
            end_s = max(end_s, self._counted.add_leg(start_s, counted).end_s)
        return end_s

    def _steps(self, place_um: Triple) -> Steps:
        x, y, z = (
            round((at - zero) / step)
            for at, zero, step in zip(
                place_um, self._zero_um, self.facts.step_um, strict=True
            )
        )
        return x, y, z

    def _reachable(self, start_s: float, distance_um: Triple, lost: Steps) -> Triple:
        """Return what the motors manage: steps are lost, and a hard stop holds."""
        from_um = self._real.motor_um(start_s)
        managed = []
        for at, by, step, n_lost, (low, high) in zip(
            from_um,
            distance_um,
            self.facts.step_um,
            lost,
            self.facts.travel_um,
            strict=True,
        ):
            kept = math.copysign(max(abs(by) - n_lost * step, 0.0), by)
            managed.append(min(max(at + kept, low), high) - at)
        return managed[0], managed[1], managed[2]


def _motion(
    facts: AxesFacts, mechanics: Mechanics, now_s: float, seed: int
) -> GlassMotion:
    return GlassMotion(
        mechanics,
        start_um=facts.start_um,
        start_s=now_s,
        full_speed_um_per_s=facts.speed_um_per_s,
        rng=np.random.default_rng([seed, 0xF1B3]),
    )


def _straight(
    distance_um: Triple, speed: Triple, acceleration: Triple, path_speed: float
) -> Laws:
    """Return laws of equal duration: no axis beyond its own speed or acceleration."""
    length_um = math.hypot(*distance_um)
    if length_um == 0:
        return _separate(distance_um, speed, acceleration, path_speed)
    shares = [abs(by) / length_um for by in distance_um]
    moving = [axis for axis in range(3) if shares[axis] > 0]
    v = min(path_speed, *(speed[axis] / shares[axis] for axis in moving))
    a = min(acceleration[axis] / shares[axis] for axis in moving)
    x, y, z = (
        TrapezoidalMove(
            distance_um=by,
            speed_um_per_s=v * share or 1.0,
            acceleration_um_per_s2=a * share or 1.0,
        )
        for by, share in zip(distance_um, shares, strict=True)
    )
    return x, y, z


def _separate(
    distance_um: Triple, speed: Triple, acceleration: Triple, path_speed: float
) -> Laws:
    """Return a law for each axis on its own."""
    x, y, z = (
        TrapezoidalMove(
            distance_um=by,
            speed_um_per_s=min(v, path_speed),
            acceleration_um_per_s2=a,
        )
        for by, v, a in zip(distance_um, speed, acceleration, strict=True)
    )
    return x, y, z
