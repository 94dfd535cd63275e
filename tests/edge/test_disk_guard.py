"""A disk that fills, and one that gets room again; no real time passes."""

from pathlib import Path

import pytest

from bifocus.edge.disk_guard import DiskGuard, free_bytes
from bifocus.edge.scan_events import Fault, ScanControl, ScanEvents, StateChanged
from bifocus.errors import SlideFileError


class Disk:
    """Tells free bytes, one answer for each second that is slept."""

    def __init__(self, *free: int) -> None:
        self.free_bytes = list(free)
        self.slept_s = 0.0

    def free(self, _: Path) -> int:
        return self.free_bytes[min(int(self.slept_s), len(self.free_bytes) - 1)]

    def sleep(self, duration_s: float) -> None:
        self.slept_s += duration_s


def guard(disk: Disk, events: ScanEvents, most_wait_s: float = 60.0) -> DiskGuard:
    return DiskGuard(
        Path("/scans"),
        reserve_bytes=1000,
        tile_bytes=500,
        most_wait_s=most_wait_s,
        events=events,
        free=disk.free,
        sleep=disk.sleep,
    )


def test_with_room_nothing_is_said() -> None:
    disk, events = Disk(1500), ScanEvents()
    with events.subscribe() as told:
        guard(disk, events).wait_for_room(ScanControl())
        assert told.get() is None
    assert disk.slept_s == 0


def test_the_scan_stands_still_until_there_is_room() -> None:
    disk, events = Disk(1499, 1499, 0, 1500), ScanEvents()
    with events.subscribe() as told:
        guard(disk, events).wait_for_room(ScanControl())
        seen = [item.event for item in iter(told.get, None)]
    assert disk.slept_s == 3
    assert isinstance(seen[0], Fault)
    assert "stands still" in seen[0].text
    states = [event.state for event in seen if isinstance(event, StateChanged)]
    assert states == ["paused", "running"]


def test_a_disk_that_stays_full_ends_the_scan() -> None:
    disk = Disk(10)
    with pytest.raises(SlideFileError, match=r"has been full for 5 s.*is kept"):
        guard(disk, ScanEvents(), most_wait_s=5).wait_for_room(ScanControl())
    assert disk.slept_s == 5


def test_a_stop_ends_the_wait() -> None:
    control = ScanControl()
    control.stop()
    guard(Disk(10), ScanEvents()).wait_for_room(control)


def test_the_real_disk_has_some_room(tmp_path: Path) -> None:
    assert free_bytes(tmp_path) > 0
