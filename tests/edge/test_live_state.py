"""Readers of the live state get each change once, and only its latest value."""

import threading

import numpy as np
import pytest

from bifocus.clock import FakeClock
from bifocus.edge.journal import TileEntry
from bifocus.edge.live_state import LiveState, ScanHeader, SlideShape
from bifocus.edge.scan_events import Captured, Fault, Fused, Snapshot, StateChanged
from bifocus.records import FocalOffset

HEADER = ScanHeader(
    title="scan",
    strategy="two-shot",
    simulated=True,
    grid=(3, 4),
    total=12,
    origin_px=(64.0, 64.0),
    step_px=(230.0, 230.0),
    field_px=(256, 256),
    pixel_um=0.25,
)


def captured(number: int, status: str = "captured", capture_s: float = 0.5) -> Captured:
    entry = TileEntry(
        row=number // 4,
        column=number % 4,
        visit=number,
        x_um=0.0,
        y_um=0.0,
        focus_um=12.0,
        status=status,
        shots=2,
        capture_s=capture_s,
        offset=FocalOffset(offset_um=0.25, sd_um=0.1, confidence=0.9),
        raw_a="a.png",
        raw_b="b.png",
    )
    return Captured(entry=entry, done=number + 1, total=12)


def test_a_reader_sees_each_change_once_and_only_the_latest_value() -> None:
    state = LiveState(HEADER)
    state.follow(captured(0))
    state.follow(captured(1))
    first = state.changes(0)
    assert [cell["column"] for cell in first.cells] == [0, 1]
    state.follow(Fused(row=0, column=1, quality=0.4, seconds=0.2))
    state.follow(Fused(row=0, column=1, quality=0.8, seconds=0.2))
    second = state.changes(first.number)
    assert [(cell["column"], cell["quality"]) for cell in second.cells] == [(1, 0.8)]
    assert state.changes(second.number).cells == []


def test_pace_and_time_left_follow_the_last_tiles() -> None:
    """10 tiles of 3 s each after a slow start: 2 left are 6 s, 20 tiles a minute."""
    clock = FakeClock()
    state = LiveState(HEADER, clock)
    clock.sleep(100)
    for number in range(10):
        clock.sleep(3)
        state.follow(captured(number))
    progress = state.changes(0).progress
    assert progress["left_s"] == pytest.approx(6.0)
    assert progress["tiles_per_minute"] == pytest.approx(20.0)
    assert progress["elapsed_s"] == pytest.approx(130.0)
    state.follow(StateChanged(state="paused", reason="asked to"))
    assert state.changes(0).progress["left_s"] is None
    clock.sleep(50)
    state.follow(StateChanged(state="done", reason=""))
    clock.sleep(1000)
    assert state.changes(0).progress["elapsed_s"] == pytest.approx(180.0)


def test_percentiles_until_the_loop_tells_its_own() -> None:
    state = LiveState(HEADER)
    times_s = [0.1 * (n + 1) for n in range(12)]
    for number, seconds in enumerate(times_s):
        state.follow(captured(number, capture_s=seconds))
    shown = state.changes(0).progress["timings_ms"]["capture"]
    assert shown["p95"] == pytest.approx(1e3 * float(np.percentile(times_s, 95)))
    own = {"capture": {"n": 12, "p50": 1.0, "p95": 2.0, "p99": 3.0}}
    snapshot = Snapshot(
        elapsed_s=1.0,
        done=12,
        total=12,
        waits_s={"stage_s": 2.0},
        timings_ms=own,
        queued={},
    )
    state.follow(snapshot)
    progress = state.changes(0).progress
    assert progress["timings_ms"] == own
    assert progress["waits_s"] == {"stage_s": 2.0}


def test_counts() -> None:
    state = LiveState(HEADER)
    for number, status in enumerate(("blank", "captured", "flagged", "captured")):
        state.follow(captured(number, status))
    state.follow(Fused(row=0, column=1, quality=0.9, seconds=0.1))
    state.follow(Fused(row=2, column=3, quality=0.9, seconds=0.1))  # never captured
    progress = state.changes(0).progress
    counts = {
        name: progress[name] for name in ("captured", "blank", "flagged", "fused")
    }
    assert counts == {"captured": 4, "blank": 1, "flagged": 1, "fused": 1}


def test_many_faults_are_counted_and_the_last_are_kept() -> None:
    state = LiveState(HEADER)
    for number in range(1000):
        state.follow(Fault(text=f"fault {number}"))
    progress = state.changes(0).progress
    assert progress["n_faults"] == 1000
    assert progress["faults"][-1] == "fault 999"
    assert len(progress["faults"]) <= 100


def test_a_new_slide_file_forgets_the_tiles_of_the_old() -> None:
    state = LiveState(HEADER)
    shape = SlideShape(levels=((600, 600), (300, 300)), tile_px=512, generation="a")
    state.slide_opened(shape)
    state.tiles_changed({(0, 0, 0): "a-1", (1, 0, 0): "a-2"})
    assert len(state.changes(0).tiles) == 2
    state.slide_opened(SlideShape(levels=shape.levels, tile_px=512, generation="b"))
    assert state.changes(0).tiles == []
    assert state.changes(0).progress["slide"]["generation"] == "b"


def test_waiting_ends_with_a_change_and_with_the_close() -> None:
    state = LiveState(HEADER)
    woken: list[bool] = []
    thread = threading.Thread(target=lambda: woken.append(state.wait(0, 10.0)))
    thread.start()
    state.follow(captured(0))
    thread.join(5.0)
    assert woken == [True]
    thread = threading.Thread(target=lambda: woken.append(state.wait(99, 10.0)))
    thread.start()
    state.close()
    thread.join(5.0)
    assert woken == [True, False]
    assert not state.wait(99, 10.0)
