"""The time law and the take-up policy against closed forms."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bifocus.hal.motion import TrapezoidalMove
from bifocus.hal.take_up import plan_approach


@pytest.mark.parametrize(
    ("distance_um", "expected_s"),
    [
        (0.0, 0.0),
        (4.0, 2 * math.sqrt(4.0 / 100.0)),  # triangle: accelerate half, brake half
        (100.0, 100.0 / 50.0 + 50.0 / 100.0),  # trapezoid: d / v + v / a
        (-100.0, 2.5),
    ],
)
def test_duration_is_the_closed_form(distance_um: float, expected_s: float) -> None:
    move = TrapezoidalMove(
        distance_um=distance_um, speed_um_per_s=50.0, acceleration_um_per_s2=100.0
    )
    assert move.duration_s == pytest.approx(expected_s)


@given(
    distance_um=st.floats(-1e4, 1e4),
    speed=st.floats(1, 1e4),
    acceleration=st.floats(10, 1e5),
)
def test_motion_respects_its_limits(
    distance_um: float, speed: float, acceleration: float
) -> None:
    move = TrapezoidalMove(
        distance_um=distance_um,
        speed_um_per_s=speed,
        acceleration_um_per_s2=acceleration,
    )
    steps = 64
    dt = move.duration_s / steps
    places = [abs(move.travelled_um(i * dt)) for i in range(steps + 1)]
    assert places[0] == 0
    assert places[-1] == pytest.approx(abs(distance_um))
    slack = 1e-6 * (1 + abs(distance_um))
    for before, after in pairwise(places):
        assert -slack <= after - before <= speed * dt + slack


def test_half_way_in_half_the_time() -> None:
    move = TrapezoidalMove(
        distance_um=-80.0, speed_um_per_s=30.0, acceleration_um_per_s2=55.0
    )
    assert move.travelled_um(move.duration_s / 2) == pytest.approx(-40.0)


HERE = (10.0, 10.0, 10.0)
TAKE_UP = (5.0, 0.0, 3.0)


def test_unknown_engagement_makes_even_a_short_upward_move_a_detour() -> None:
    way = plan_approach(HERE, (11.0, 11.0, 11.0), take_up_um=TAKE_UP)
    assert way.waypoints == ((6.0, 11.0, 8.0), (11.0, 11.0, 11.0))
    assert way.engaged == (True, False, True)


def test_engaged_upward_moves_are_direct() -> None:
    engaged = (True, False, True)
    way = plan_approach(HERE, (11.0, 9.0, 10.0), take_up_um=TAKE_UP, engaged=engaged)
    assert way.waypoints == ((11.0, 9.0, 10.0),)


def test_downward_moves_come_back_from_below() -> None:
    engaged = (True, False, True)
    way = plan_approach(HERE, (10.0, 10.0, 9.5), take_up_um=TAKE_UP, engaged=engaged)
    assert way.waypoints == ((10.0, 10.0, 6.5), (10.0, 10.0, 9.5))


@given(
    start=st.floats(-50, 50),
    targets=st.lists(st.floats(-50, 50), min_size=1, max_size=12),
    gap_um=st.floats(0, 4.9),
    rest=st.floats(0, 1),
)
def test_the_gap_is_closed_at_every_target(
    start: float, targets: list[float], gap_um: float, rest: float
) -> None:
    """Play of any width under the take-up, in any first state, never shows."""
    motor, glass = start, start + rest * gap_um
    engaged = (False, False, False)
    for target in targets:
        way = plan_approach(
            (motor, 0.0, 0.0),
            (target, 0.0, 0.0),
            take_up_um=(5.0, 0.0, 0.0),
            engaged=engaged,
        )
        engaged = way.engaged
        for waypoint in way.waypoints:
            motor = waypoint[0]
            glass = min(max(glass, motor), motor + gap_um)
        assert motor == target
        assert glass == pytest.approx(target)
