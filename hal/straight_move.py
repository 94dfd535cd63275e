"""The time law of a straight line in space, when every axis has limits of its own.

Pure. The axis that needs longest sets the pace and the others keep to the line.
"""

import math

from bifocus.hal.motion import TrapezoidalMove
from bifocus.hal.take_up import Triple


def straight_move(
    start_um: Triple,
    target_um: Triple,
    *,
    speed_um_per_s: Triple,
    acceleration_um_per_s2: Triple,
) -> TrapezoidalMove:
    """Return the move along the line: as fast as no axis exceeds its limits.

    Examples
    --------
    >>> move = straight_move(
    ...     (0, 0, 0), (30, 40, 0),
    ...     speed_um_per_s=(10, 10, 1), acceleration_um_per_s2=(100, 100, 10),
    ... )
    >>> move.distance_um, move.speed_um_per_s
    (50.0, 12.5)
    """
    way = [end - begin for begin, end in zip(start_um, target_um, strict=True)]
    length_um = math.hypot(*way)
    parts = [abs(part) / length_um if length_um else 0.0 for part in way]
    return TrapezoidalMove(
        distance_um=length_um,
        speed_um_per_s=_along(parts, speed_um_per_s),
        acceleration_um_per_s2=_along(parts, acceleration_um_per_s2),
    )


def _along(parts: list[float], limits: Triple) -> float:
    """Return the largest value along the line that keeps each axis in its limit."""
    shares = [limit / part for limit, part in zip(limits, parts, strict=True) if part]
    return min(shares, default=min(limits))
