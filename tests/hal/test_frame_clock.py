"""Camera times on the system's clock: never later than the truth."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bifocus.errors import ProtocolError
from bifocus.hal.frame_clock import (
    DRIFT,
    ArrivalClock,
    CameraClock,
    MonotonicStamps,
)


@settings(max_examples=100, deadline=None)
@given(
    depth=st.integers(0, 6),
    period_s=st.floats(0.01, 0.1),
    backlog=st.integers(0, 30),
    held=st.lists(st.integers(0, 6), min_size=20, max_size=60),
)
def test_order_of_arrival_never_makes_a_frame_too_young(
    depth: int, period_s: float, backlog: int, held: list[int]
) -> None:
    """Frame n begins at n periods, ends a period later, and is held back at random.

    When reading begins, `backlog` frames lie in some queue, and come all at once.
    """
    clock = ArrivalClock(stale_frames=depth, period_s=period_s)
    arrival_s = backlog * period_s
    for number, frames in enumerate(held):
        start_s = number * period_s
        # At most `depth` frames wait, so frame n has come when frame n + depth is done.
        delay_s = min(frames, depth) * period_s
        arrival_s = max(arrival_s + 1e-6, start_s + period_s + delay_s)
        told_s = clock.earliest_start_s(arrival_s)
        assert told_s is None or told_s <= start_s + number * 1e-6 + 1e-9


def test_after_a_restart_nothing_is_known() -> None:
    clock = ArrivalClock(stale_frames=0, period_s=1.0)
    clock.earliest_start_s(1.0)
    assert clock.earliest_start_s(2.0) == 1.0
    clock.restart()
    assert clock.earliest_start_s(3.0) is None


@settings(max_examples=100, deadline=None)
@given(
    offset_s=st.floats(-1e6, 1e6),
    drift=st.floats(-DRIFT, DRIFT),
    gaps_s=st.lists(st.floats(0.01, 100.0), min_size=1, max_size=20),
    latencies_s=st.lists(st.floats(0.0, 0.2), min_size=20, max_size=20),
)
def test_a_camera_s_clock_is_bracketed(
    offset_s: float, drift: float, gaps_s: list[float], latencies_s: list[float]
) -> None:
    clock, true_s = CameraClock(), 1000.0
    for gap_s, latency_s in zip(gaps_s, latencies_s, strict=False):
        true_s += gap_s
        camera_s = (true_s - 1000.0) * (1 + drift) + offset_s
        clock.observe(camera_s, after_s=true_s - latency_s, before_s=true_s + 0.01)
        told_s = clock.earliest_s(camera_s)
        slack_s = 1e-6 + DRIFT * gap_s
        assert told_s <= true_s + slack_s
        assert told_s >= true_s - latency_s - slack_s
        assert clock.uncertainty_s <= latency_s + 0.01 + 1e-6


def test_before_any_observation_a_frame_is_infinitely_old() -> None:
    assert CameraClock().earliest_s(5.0) == -math.inf


def test_a_camera_that_was_reset_is_told() -> None:
    clock = CameraClock()
    clock.observe(5000.0, after_s=10.0, before_s=10.1)
    with pytest.raises(ProtocolError, match="went back by 4999"):
        clock.observe(0.5, after_s=20.0, before_s=20.1)


def test_a_clock_that_jumps_is_told() -> None:
    clock = CameraClock()
    clock.observe(100.0, after_s=10.0, before_s=10.1)
    with pytest.raises(ProtocolError, match="jumped"):
        clock.observe(101.0, after_s=15.0, before_s=15.1)


def test_kernel_stamps_are_taken_for_the_end_of_the_exposure() -> None:
    stamps = MonotonicStamps()
    start_s = stamps.earliest_start_s(50.0, arrival_s=50.02, exposure_s=0.01)
    assert start_s == pytest.approx(49.99)


@pytest.mark.parametrize("stamp_s", [0.0, 71.0, 1.8e9])
def test_stamps_of_another_clock_are_refused(stamp_s: float) -> None:
    with pytest.raises(ProtocolError, match="timestamps: arrival"):
        MonotonicStamps().earliest_start_s(stamp_s, arrival_s=70.0, exposure_s=0)
