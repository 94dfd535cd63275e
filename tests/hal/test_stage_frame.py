"""Frames and straight lines: whole steps, turned axes, pieces, the slowest axis."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bifocus.hal.stage_frame import StageFrame, as_position, as_triple
from bifocus.hal.straight_move import straight_move
from bifocus.hal.take_up import Triple
from tests.hal.boards import stage_config

FRAME = StageFrame(stage_config("grbl", invert=(True, False, True)))
STEPS = (0.625, 0.625, 0.3125)
coordinate = st.floats(-500, 500)
places = st.tuples(coordinate, coordinate, coordinate)


@given(places)
def test_whole_steps_are_the_nearest(place: Triple) -> None:
    for value, near, step in zip(place, FRAME.quantised(place), STEPS, strict=True):
        assert abs(value - near) <= step / 2 + 1e-9
        assert near / step == pytest.approx(round(near / step), abs=1e-9)


@given(places)
def test_turning_twice_is_nothing(place: Triple) -> None:
    assert FRAME.turned(FRAME.turned(place)) == pytest.approx(place)
    assert FRAME.turned((1.0, 2.0, 3.0)) == (-1.0, 2.0, -3.0)
    assert as_triple(as_position(place)) == place


@given(places, places, st.integers(1, 30))
def test_pieces_lead_from_begin_to_end(begin: Triple, end: Triple, count: int) -> None:
    begin, end = FRAME.quantised(begin), FRAME.quantised(end)
    pieces = FRAME.pieces(begin, end, count)
    assert len(pieces) <= count
    place = begin
    for start, stop in pieces:
        assert start == place
        assert start != stop
        place = stop
    assert place == end
    way = np.subtract(end, begin)
    for start, stop in pieces:
        # Equal pieces, but for the rounding at both ends.
        assert np.all(np.abs(np.subtract(stop, start) - way / count) <= STEPS) or (
            len(pieces) < count
        )


@given(places, places)
def test_no_axis_exceeds_its_limits(start: Triple, target: Triple) -> None:
    speed, acceleration = (100.0, 50.0, 10.0), (1000.0, 2000.0, 50.0)
    move = straight_move(
        start, target, speed_um_per_s=speed, acceleration_um_per_s2=acceleration
    )
    way = np.abs(np.subtract(target, start))
    length = float(np.linalg.norm(way))
    assert move.distance_um == pytest.approx(length)
    if length < 1e-6:
        return
    shares = way / length
    speeds = move.speed_um_per_s * shares / speed
    accelerations = move.acceleration_um_per_s2 * shares / acceleration
    # One axis is at its limit, and none beyond.
    assert np.max(speeds) == pytest.approx(1.0)
    assert np.max(accelerations) == pytest.approx(1.0)
