"""Backlash take-up: every target is approached from below, so the gap is always closed.

Pure policy. An axis is *engaged* when its last motion was upward over at least its
take-up distance; that is unknown (not engaged) at the start and after a stop.
"""

from dataclasses import dataclass

Triple = tuple[float, float, float]
Engagement = tuple[bool, bool, bool]

NOT_ENGAGED: Engagement = (False, False, False)
_STILL_UM = 1e-6  # rounding of whole steps in float, no motion


@dataclass(frozen=True, slots=True, kw_only=True)
class Approach:
    """The way to a target: waypoints in order, the last being the target itself."""

    waypoints: tuple[Triple, ...]
    engaged: Engagement


def plan_approach(
    current_um: Triple,
    target_um: Triple,
    *,
    take_up_um: Triple | None,
    engaged: Engagement = NOT_ENGAGED,
) -> Approach:
    """Return the waypoints that reach `target_um` with every gap closed upward.

    An axis with `take_up_um` 0 goes straight. Others go straight when they move up and
    are engaged already, or move up far enough to engage on the way; else they go first
    to `target - take_up`. An engaged axis that need not move stays. With `take_up_um`
    None all axes go straight, and those that move are not engaged afterwards.

    Examples
    --------
    >>> plan_approach((0, 0, 10), (0, 0, 8), take_up_um=(0, 0, 5)).waypoints
    ((0, 0, 3), (0, 0, 8))
    >>> plan_approach((0, 0, 0), (0, 0, 8), take_up_um=(0, 0, 5)).waypoints
    ((0, 0, 8),)
    >>> plan_approach((0, 0, 9), (0, 0, 8), take_up_um=None, engaged=(True,) * 3)
    Approach(waypoints=((0, 0, 8),), engaged=(True, True, False))
    """
    if take_up_um is None:
        return Approach(
            waypoints=(target_um,), engaged=_unmoved(current_um, target_um, engaged)
        )
    axes = zip(current_um, target_um, take_up_um, engaged, strict=True)
    first = tuple(
        target - take_up if _needs_detour(target - current, take_up, held) else target
        for current, target, take_up, held in axes
    )
    waypoints: tuple[Triple, ...] = (target_um,)
    if first != target_um:
        waypoints = ((first[0], first[1], first[2]), target_um)
    state = tuple(take_up > 0 for take_up in take_up_um)
    return Approach(waypoints=waypoints, engaged=(state[0], state[1], state[2]))


def _needs_detour(distance_um: float, take_up_um: float, held: bool) -> bool:
    if take_up_um == 0 or distance_um >= take_up_um:
        return False
    return distance_um < 0 or not held


def _unmoved(current_um: Triple, target_um: Triple, engaged: Engagement) -> Engagement:
    axes = zip(current_um, target_um, engaged, strict=True)
    x, y, z = (held and abs(target - at) < _STILL_UM for at, target, held in axes)
    return x, y, z
