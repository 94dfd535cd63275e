"""The time law of one axis: constant acceleration, cruise, constant deceleration.

Pure. Short moves never reach full speed and have a triangular speed profile.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TrapezoidalMove:
    """One axis's move over `distance_um` (signed), starting and ending at rest.

    Examples
    --------
    >>> move = TrapezoidalMove(
    ...     distance_um=100.0, speed_um_per_s=50.0, acceleration_um_per_s2=50.0
    ... )
    >>> move.duration_s, move.travelled_um(0.5 * move.duration_s)
    (3.0, 50.0)
    """

    distance_um: float
    speed_um_per_s: float
    acceleration_um_per_s2: float

    @property
    def peak_speed_um_per_s(self) -> float:
        """Highest speed reached: the limit, or sqrt(distance x acceleration)."""
        reachable = math.sqrt(abs(self.distance_um) * self.acceleration_um_per_s2)
        return min(self.speed_um_per_s, reachable)

    @property
    def duration_s(self) -> float:
        """Distance over peak speed, plus one ramp's time; 0 for no distance."""
        peak = self.peak_speed_um_per_s
        if peak == 0:
            return 0.0
        return abs(self.distance_um) / peak + peak / self.acceleration_um_per_s2

    def travelled_um(self, elapsed_s: float) -> float:
        """Return the signed distance covered `elapsed_s` after the start, clamped."""
        if elapsed_s <= 0:
            return 0.0
        if elapsed_s >= self.duration_s:
            return self.distance_um
        acceleration, peak = self.acceleration_um_per_s2, self.peak_speed_um_per_s
        ramp_s = peak / acceleration
        left_s = self.duration_s - elapsed_s
        if elapsed_s <= ramp_s:
            covered = 0.5 * acceleration * elapsed_s**2
        elif left_s <= ramp_s:
            covered = abs(self.distance_um) - 0.5 * acceleration * left_s**2
        else:
            covered = peak * (elapsed_s - 0.5 * ramp_s)
        return math.copysign(covered, self.distance_um)
