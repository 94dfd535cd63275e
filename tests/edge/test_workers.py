"""Workers keep the order, push back, hand errors on, and leave no thread behind."""

import threading
from functools import partial

import pytest

from bifocus.edge.timings import StageTimings
from bifocus.edge.workers import Worker
from bifocus.errors import EngineError


def fail() -> None:
    msg = "the engine fell over"
    raise EngineError(msg)


def test_work_is_done_in_order_in_one_other_thread() -> None:
    timings = StageTimings()
    worker = Worker("fuse", 2, timings)

    def identify(number: int) -> tuple[int, int]:
        return number, threading.get_ident()

    futures = [worker.submit(partial(identify, number)) for number in range(20)]
    results = [future.result(5) for future in futures]
    worker.finish()
    worker.finish()
    assert [number for number, _ in results] == list(range(20))
    (thread,) = {thread for _, thread in results}
    assert thread != threading.get_ident()
    assert timings.snapshot_ms()["fuse"]["n"] == 20


def test_whoever_hands_over_waits_while_the_queue_is_full() -> None:
    """One piece runs, two wait: the fourth is taken when the first one is done."""
    may_end, began = threading.Event(), threading.Semaphore(0)

    def wait() -> None:
        began.release()
        assert may_end.wait(10)

    worker = Worker("fuse", 2, StageTimings())
    for _ in range(3):
        worker.submit(wait)
    assert began.acquire(timeout=5)
    assert worker.queued == 2
    fourth = threading.Thread(target=lambda: worker.submit(wait))
    fourth.start()
    fourth.join(0.05)
    assert fourth.is_alive()
    may_end.set()
    fourth.join(5)
    assert not fourth.is_alive()
    worker.finish()
    assert worker.queued == 0


def test_an_error_reaches_its_future_those_that_wait_and_all_who_come() -> None:
    may_fail = threading.Event()

    def fail_when_told() -> None:
        assert may_fail.wait(10)
        fail()

    worker = Worker("fuse", 4, StageTimings())
    first, second = worker.submit(fail_when_told), worker.submit(lambda: 1)
    may_fail.set()
    for future in (first, second):
        with pytest.raises(EngineError, match="fell over"):
            future.result(5)
    with pytest.raises(EngineError, match="fell over"):
        worker.submit(lambda: 1)
    with pytest.raises(EngineError, match="fell over"):
        worker.finish()
    assert isinstance(worker.error, EngineError)
    worker.abort()


def test_abort_drops_what_waits() -> None:
    began, may_end = threading.Event(), threading.Event()

    def wait() -> bool:
        began.set()
        return may_end.wait(10)

    worker = Worker("fuse", 4, StageTimings())
    running = worker.submit(wait)
    assert began.wait(5)
    waiting = worker.submit(lambda: pytest.fail("it was done after all"))
    threading.Timer(0.05, may_end.set).start()
    worker.abort()
    assert running.result(5)
    assert waiting.cancelled()
    with pytest.raises(RuntimeError, match="closed"):
        worker.submit(lambda: 1)


def test_a_stage_that_hangs_is_told_by_name() -> None:
    may_end = threading.Event()
    worker = Worker("fuse", 1, StageTimings(), stalled_after_s=0.05)
    worker.submit(lambda: may_end.wait(10))
    with pytest.raises(EngineError, match=r"stage 'fuse' has made no progress"):
        for _ in range(3):
            worker.submit(lambda: None)
    may_end.set()
    worker.finish()
