"""Clocks: time never runs back, virtual sleeps add up, and nothing really waits."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bifocus.clock import Clock, FakeClock, RealClock, VirtualClock

durations_s = st.lists(
    st.floats(min_value=-1e6, max_value=1e6, allow_nan=False), max_size=20
)


@given(start_s=st.floats(min_value=0.0, max_value=1e9), sleeps_s=durations_s)
def test_virtual_time_never_runs_back_and_adds_up(
    start_s: float, sleeps_s: list[float]
) -> None:
    clock = VirtualClock(start_s)
    expected_s = start_s
    for duration_s in sleeps_s:
        before_s = clock.monotonic_s()
        clock.sleep(duration_s)
        expected_s += max(0.0, duration_s)
        assert clock.monotonic_s() >= before_s
    assert clock.monotonic_s() == pytest.approx(expected_s)


def test_an_hour_of_virtual_time_costs_no_real_time() -> None:
    clock = VirtualClock()
    began_s = time.monotonic()
    clock.sleep(3600.0)
    assert clock.monotonic_s() == 3600.0
    # A real sleep would be 3600 s; the limit only leaves room for a busy machine.
    assert time.monotonic() - began_s < 10.0


def test_sleeps_of_several_threads_are_all_counted() -> None:
    clock = VirtualClock()

    def sleep_many() -> None:
        for _ in range(500):
            clock.sleep(0.5)

    threads = [threading.Thread(target=sleep_many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock.monotonic_s() == 4 * 500 * 0.5


def test_the_fake_clock_remembers_what_was_asked() -> None:
    clock = FakeClock(start_s=10.0)
    for duration_s in (0.25, 0.0, -1.0, 2.0):
        clock.sleep(duration_s)
    assert clock.sleeps_s == [0.25, 0.0, -1.0, 2.0]
    assert clock.monotonic_s() == 12.25


@pytest.mark.parametrize("duration_s", [0.0, -5.0])
def test_the_real_clock_returns_at_once_for_nothing(duration_s: float) -> None:
    clock = RealClock()
    before_s = clock.monotonic_s()
    clock.sleep(duration_s)
    assert 0.0 <= clock.monotonic_s() - before_s < 4.0


def test_the_real_clock_waits_at_least_what_was_asked() -> None:
    clock = RealClock()
    before_s = clock.monotonic_s()
    clock.sleep(0.01)
    assert clock.monotonic_s() - before_s >= 0.01


@pytest.mark.parametrize("clock", [RealClock(), VirtualClock(), FakeClock()])
def test_every_clock_fits_the_protocol(clock: Clock) -> None:
    assert clock.monotonic_s() <= clock.monotonic_s()
