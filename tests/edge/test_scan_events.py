"""The bus never waits, drops the oldest where nobody reads, and keeps what counts."""

import threading

from bifocus.edge.scan_events import (
    Fault,
    Published,
    ScanControl,
    ScanEvents,
    Snapshot,
    StateChanged,
)


def published(number: int) -> Published:
    return Published(level=0, row=number, column=0, version=1)


def test_every_subscriber_gets_every_event_in_order() -> None:
    events = ScanEvents()
    with events.subscribe() as first, events.subscribe() as second:
        for number in range(5):
            events.publish(published(number))
        for subscription in (first, second):
            stamped = [subscription.get() for _ in range(5)]
            assert [item.number for item in stamped if item] == [1, 2, 3, 4, 5]
            assert [item.event for item in stamped if item] == [
                published(number) for number in range(5)
            ]
            assert subscription.get() is None
    events.publish(published(9))
    assert first.get() is None


def test_a_slow_reader_loses_the_oldest_and_is_told_how_many() -> None:
    events = ScanEvents()
    with events.subscribe(capacity=3) as subscription:
        for number in range(10):
            events.publish(published(number))
        assert subscription.dropped == 7
        left = [subscription.get() for _ in range(3)]
    assert [item.event for item in left if item] == [published(n) for n in (7, 8, 9)]


def test_who_comes_late_finds_state_snapshot_and_faults() -> None:
    events = ScanEvents()
    assert events.state.state == "running"
    snapshot = Snapshot(
        elapsed_s=1.0, done=1, total=2, waits_s={}, timings_ms={}, queued={}
    )
    events.publish(snapshot)
    events.publish(StateChanged(state="paused", reason="the disk is full"))
    for number in range(200):
        events.publish(Fault(text=f"fault {number}"))
    assert events.snapshot is snapshot
    assert events.state.reason == "the disk is full"
    assert events.faults == tuple(f"fault {number}" for number in range(100, 200))


def test_events_of_many_threads_have_one_order() -> None:
    events = ScanEvents()

    def publish_many() -> None:
        for number in range(200):
            events.publish(published(number))

    with events.subscribe() as subscription:
        threads = [threading.Thread(target=publish_many) for _ in range(4)]
        for thread in threads:
            thread.start()
        numbers: list[int] = []
        while len(numbers) < 800:
            stamped = subscription.get(5.0)
            assert stamped is not None
            numbers.append(stamped.number)
        for thread in threads:
            thread.join()
    assert numbers == list(range(1, 801))


def test_control_pauses_and_stop_ends_a_pause() -> None:
    control = ScanControl()
    assert control.wait_while_paused(0.0)
    control.pause()
    assert control.is_paused
    assert not control.wait_while_paused(0.0)
    control.resume()
    assert control.wait_while_paused(0.0)
    control.pause()
    control.stop()
    assert control.is_stopping
    assert control.wait_while_paused(0.0)
