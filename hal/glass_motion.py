"""Where the glass truly is while and after the motor moves: the virtual stage's secret.

Motor and glass differ by a wrong scale and an error that repeats with every motor turn,
by play (backlash), by a new small error after every move (repeatability), by ringing
after each stop, and by slow drift in z. Past times can be
asked for too, because a stale frame shows the glass where it then was.
"""

import bisect
import math
import threading
from dataclasses import dataclass, replace

import numpy as np

from bifocus.hal.motion import TrapezoidalMove
from bifocus.hal.take_up import Triple
from bifocus.records import StagePosition
from bifocus.stage_config import Mechanics

_KEPT_LEGS = 512  # far more than a camera queue reaches back
_INVERSIONS = 60  # of the sine, by substitution; a third of a radian needs 30
_RINGING_DECAYS = 12.0  # exp(-12) of the amplitude is nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One straight stretch: axes start together, each under its own time law.

    `glass_from_um` is the glass in commanded um, without repeatability error, ringing
    and drift; `error_*_um` the repeatability error before and after.
    """

    start_s: float
    end_s: float
    motor_from_um: Triple
    moves: tuple[TrapezoidalMove, TrapezoidalMove, TrapezoidalMove]
    glass_from_um: Triple
    error_from_um: Triple
    error_to_um: Triple

    def motor_um(self, t_s: float) -> Triple:
        """Return the motor's place at `t_s`; held before the start, after the end."""
        elapsed_s = min(t_s, self.end_s) - self.start_s
        x, y, z = (
            begin + move.travelled_um(elapsed_s)
            for begin, move in zip(self.motor_from_um, self.moves, strict=True)
        )
        return x, y, z


class GlassMotion:
    """Keeps the legs of the motor and tells the true pose of the glass at any time.

    Conventions: driven upward the glass is where the motor is; driven downward it is
    higher by the backlash, in commanded um. Safe to use from several threads.
    """

    def __init__(
        self,
        mechanics: Mechanics,
        *,
        start_um: Triple,
        start_s: float,
        full_speed_um_per_s: Triple,
        rng: np.random.Generator,
    ) -> None:
        self._mechanics = mechanics
        self._origin_um = start_um
        self._start_s = start_s
        self._full_speed = full_speed_um_per_s
        self._rng = rng
        self._lock = threading.Lock()
        # Nobody knows how the gap lay when the power came on.
        x, y, z = (
            at + gap * rng.uniform()
            for at, gap in zip(
                self._driven_um(start_um), mechanics.backlash_um, strict=True
            )
        )
        self._legs = [_rest(start_s, start_um, (x, y, z))]

    def add_leg(
        self,
        start_s: float,
        moves: tuple[TrapezoidalMove, TrapezoidalMove, TrapezoidalMove],
    ) -> Leg:
        """Append a leg that begins where the last one ends; return it."""
        with self._lock:
            last = self._legs[-1]
            spread = self._mechanics.repeatability_um
            drawn = self._rng.standard_normal(3).tolist()
            ex, ey, ez = (
                old if move.distance_um == 0 else sd * noise
                for old, move, sd, noise in zip(
                    last.error_to_um, moves, spread, drawn, strict=True
                )
            )
            leg = Leg(
                start_s=start_s,
                end_s=start_s + max(move.duration_s for move in moves),
                motor_from_um=last.motor_um(last.end_s),
                moves=moves,
                glass_from_um=self._played_um(last, last.end_s),
                error_from_um=last.error_to_um,
                error_to_um=(ex, ey, ez),
            )
            self._legs.append(leg)
            del self._legs[:-_KEPT_LEGS]
        return leg

    def halt(self, t_s: float) -> None:
        """Freeze the motor at `t_s`: the leg under way ends, later ones vanish."""
        with self._lock:
            while len(self._legs) > 1 and self._legs[-1].start_s >= t_s:
                self._legs.pop()
            last = self._legs[-1]
            if last.end_s > t_s:
                self._legs[-1] = replace(last, end_s=t_s)

    def motor_um(self, t_s: float) -> Triple:
        """Return where the motor is at `t_s`."""
        with self._lock:
            return self._leg_at(t_s)[1].motor_um(t_s)

    def busy_until_s(self) -> float:
        """Return when the last leg ends (or ended)."""
        with self._lock:
            return self._legs[-1].end_s

    def true_pose_at(self, t_s: float) -> StagePosition:
        """Return the true pose of the glass at `t_s`, past, present or planned."""
        with self._lock:
            index, leg = self._leg_at(t_s)
            x, y, z = self._scaled_um(self._played_um(leg, t_s))
            progress = 0.0 if t_s < leg.start_s else 1.0
            if leg.start_s <= t_s < leg.end_s:
                progress = (t_s - leg.start_s) / (leg.end_s - leg.start_s)
            ex, ey, ez = (
                old + progress * (new - old)
                for old, new in zip(leg.error_from_um, leg.error_to_um, strict=True)
            )
            rx, ry, rz = self._ringing_um(index, t_s)
        z_um = z + ez + rz + self.z_drift_um(t_s)
        return StagePosition(x_um=x + ex + rx, y_um=y + ey + ry, z_um=z_um)

    def z_drift_um(self, t_s: float) -> float:
        """Return how far the glass has crept upward since the start."""
        hours = (t_s - self._start_s) / 3600
        return self._mechanics.z_drift_um_per_hour * hours

    def ideal_um(self, motor_um: Triple) -> Triple:
        """Return where the glass is when driven upward to a place of the motor."""
        return self._scaled_um(self._driven_um(motor_um))

    def motor_for_um(self, glass_um: Triple) -> Triple:
        """Return the place to drive upward to for the glass to be at `glass_um`."""
        scales = self._mechanics.scale
        x, y, z = (
            origin + (at - origin) / scale
            for at, origin, scale in zip(glass_um, self._origin_um, scales, strict=True)
        )
        driven = motor = (x, y, z)
        for _ in range(_INVERSIONS):
            x, y, z = (
                there + wanted - got
                for there, wanted, got in zip(
                    motor, driven, self._driven_um(motor), strict=True
                )
            )
            motor = (x, y, z)
        return motor

    def _driven_um(self, motor_um: Triple) -> Triple:
        """Return what the screws make of the motors' angles, in commanded um."""
        mechanics = self._mechanics
        x, y, z = (
            at + amplitude * math.sin(2 * math.pi * at / period)
            for at, amplitude, period in zip(
                motor_um,
                mechanics.periodic_um,
                mechanics.periodic_period_um,
                strict=True,
            )
        )
        return x, y, z

    def _scaled_um(self, place_um: Triple) -> Triple:
        """Turn commanded um into true ones."""
        x, y, z = (
            at if scale == 1 else origin + scale * (at - origin)
            for at, origin, scale in zip(
                place_um, self._origin_um, self._mechanics.scale, strict=True
            )
        )
        return x, y, z

    def _leg_at(self, t_s: float) -> tuple[int, Leg]:
        """Return the last leg begun at `t_s`; before the first one, the first."""
        index = bisect.bisect_right(self._legs, t_s, key=lambda leg: leg.start_s) - 1
        index = max(index, 0)
        return index, self._legs[index]

    def _played_um(self, leg: Leg, t_s: float) -> Triple:
        """Push the glass through the gap: it stays within [nut, nut + backlash]."""
        x, y, z = (
            min(max(glass, motor), motor + gap)
            for glass, motor, gap in zip(
                leg.glass_from_um,
                self._driven_um(leg.motor_um(t_s)),
                self._mechanics.backlash_um,
                strict=True,
            )
        )
        return x, y, z

    def _ringing_um(self, index: int, t_s: float) -> Triple:
        """Sum the decaying oscillations that the last stops left behind.

        A stop from less than full speed rings less, in proportion.
        """
        mechanics = self._mechanics
        total = [0.0, 0.0, 0.0]
        if mechanics.ring_amplitude_um == 0:
            return 0.0, 0.0, 0.0
        for leg in reversed(self._legs[: index + 1]):
            since_s = t_s - leg.end_s
            if since_s < 0:
                continue
            if since_s > _RINGING_DECAYS * mechanics.ring_decay_s:
                break
            wave = math.exp(-since_s / mechanics.ring_decay_s) * math.sin(
                2 * math.pi * mechanics.ring_frequency_hz * since_s
            )
            for axis, (move, full) in enumerate(
                zip(leg.moves, self._full_speed, strict=True)
            ):
                part = move.peak_speed_um_per_s / full
                sign = math.copysign(1.0, move.distance_um)
                total[axis] += sign * part * mechanics.ring_amplitude_um * wave
        return total[0], total[1], total[2]


def _rest(at_s: float, motor_um: Triple, glass_um: Triple) -> Leg:
    """Return the leg before the first: no motion."""
    still = TrapezoidalMove(
        distance_um=0.0, speed_um_per_s=1.0, acceleration_um_per_s2=1.0
    )
    return Leg(
        start_s=at_s,
        end_s=at_s,
        motor_from_um=motor_um,
        moves=(still, still, still),
        glass_from_um=glass_um,
        error_from_um=(0.0, 0.0, 0.0),
        error_to_um=(0.0, 0.0, 0.0),
    )
