"""What a running scan tells those who look on: cells, slide tiles, pace and faults.

The scan calls the methods of `LiveState` from any thread and never waits for a reader.
Each thing keeps only its latest value and the running number of its last change, so
memory is bounded by the scan's size, and a reader that was away asks for all that
changed since the number it saw last.
"""

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from bifocus.clock import Clock, RealClock
from bifocus.edge.scan_events import (
    Captured,
    Fault,
    Fused,
    ScanEvent,
    Snapshot,
    StateChanged,
)

# Captures over which the pace is taken, and timings over which percentiles are.
_PACE_TILES = 20
_TIMED = 1000
_SHOWN_FAULTS = 20

SlideTile = tuple[int, int, int]  # level, row, column


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanHeader:
    """What is known of a scan before its first tile.

    `grid` is (rows, columns); `origin_px` the place of the first tile's corner in the
    slide, `step_px` the distance of neighbours (across, down) and `field_px` the
    camera's (width, height).
    """

    title: str
    strategy: str
    simulated: bool
    grid: tuple[int, int]
    total: int
    origin_px: tuple[float, float]
    step_px: tuple[float, float]
    field_px: tuple[int, int]
    pixel_um: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideShape:
    """The pyramid as the page must know it; `generation` changes with the file."""

    levels: tuple[tuple[int, int], ...]
    tile_px: int
    generation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """All that changed after some number; `number` is the newest one."""

    number: int
    progress: dict[str, Any]
    cells: list[dict[str, Any]]
    tiles: list[tuple[int, int, int, str]]


@dataclass(slots=True)
class _Latest:
    """The latest value of each key, in the order of the changes."""

    values: OrderedDict[Any, tuple[int, Any]] = field(default_factory=OrderedDict)

    def put(self, key: object, number: int, value: object) -> None:
        self.values[key] = (number, value)
        self.values.move_to_end(key)

    def since(self, number: int) -> list[Any]:
        found = []
        for changed, value in reversed(self.values.values()):
            if changed <= number:
                break
            found.append(value)
        return found[::-1]


class LiveState:
    """The state of one scan for its readers; thread-safe."""

    def __init__(self, header: ScanHeader, clock: Clock | None = None) -> None:
        self.header = header
        self._clock = clock or RealClock()
        self._changed = threading.Condition()
        self._number = 0
        self._is_closed = False
        self._cells: dict[tuple[int, int], dict[str, Any]] = {}
        self._counts: Counter[str] = Counter()
        self._cell_changes = _Latest()
        self._tile_changes = _Latest()
        self._slide: SlideShape | None = None
        self._state = StateChanged(state="running", reason="")
        self._snapshot: Snapshot | None = None
        self._total = header.total
        self._faults: deque[str] = deque(maxlen=_SHOWN_FAULTS)
        self._n_faults = 0
        self._times_ms: dict[str, deque[float]] = {}
        self._captured_s: deque[float] = deque(maxlen=_PACE_TILES)
        self._start_s: float | None = self._clock.monotonic_s()
        self._end_s: float | None = None

    def follow(self, event: ScanEvent) -> None:
        """Take over what the scan told."""
        with self._changed:
            if isinstance(event, Captured):
                self._note_captured(event)
            elif isinstance(event, Fused):
                self._note_fused(event)
            elif isinstance(event, Snapshot):
                self._snapshot = event
            elif isinstance(event, Fault):
                self._faults.append(event.text)
                self._n_faults += 1
            elif isinstance(event, StateChanged):
                self._note_state(event)
            self._number += 1
            self._changed.notify_all()

    def forget_pace(self) -> None:
        """Count no pace from the tiles so far: they are older than they seem."""
        with self._changed:
            self._captured_s.clear()

    def forget_start(self) -> None:
        """Let the time of the scan be what the scan itself tells: it began earlier."""
        with self._changed:
            self._start_s = None

    # What the slide's watcher tells.

    def slide_opened(self, shape: SlideShape) -> None:
        """Note that the slide file exists, or was replaced by another."""
        with self._changed:
            self._slide = shape
            self._tile_changes = _Latest()
            self._number += 1
            self._changed.notify_all()

    def tiles_changed(self, tiles: Mapping[SlideTile, str]) -> None:
        """Note slide tiles that show something new, with their versions."""
        with self._changed:
            self._number += 1
            for key, version in tiles.items():
                self._tile_changes.put(key, self._number, (*key, version))
            self._changed.notify_all()

    # What readers ask.

    @property
    def number(self) -> int:
        """The running number of the newest change."""
        with self._changed:
            return self._number

    def wait(self, after: int, timeout_s: float) -> bool:
        """Block until something newer than `after`, the close, or the timeout.

        Returns
        -------
        bool
            False once the state is closed.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._number > after or self._is_closed, timeout_s
            )
            return not self._is_closed

    def changes(self, after: int, tiles_after: int | None = None) -> Changes:
        """Return what is newer than `after`; tiles perhaps after another number."""
        with self._changed:
            since = after if tiles_after is None else tiles_after
            return Changes(
                number=self._number,
                progress=self._progress(),
                cells=self._cell_changes.since(after),
                tiles=self._tile_changes.since(since),
            )

    def close(self) -> None:
        """Let every waiting reader go."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _note_captured(self, event: Captured) -> None:
        entry, offset = event.entry, event.entry.offset
        self._total = event.total
        self._captured_s.append(self._clock.monotonic_s())
        self._time("capture", entry.capture_s)
        self._put_cell(
            {
                "row": entry.row,
                "column": entry.column,
                "status": entry.status,
                "shots": entry.shots,
                "focus_um": entry.focus_um,
                "offset_um": offset.offset_um if offset else None,
                "sd_um": offset.sd_um if offset else None,
                "quality": None,
            }
        )

    def _note_fused(self, event: Fused) -> None:
        cell = self._cells.get((event.row, event.column))
        if cell is None:
            return  # captured before this page began, and not yet in the journal
        if event.seconds > 0:
            self._time("fuse", event.seconds)
        self._put_cell({**cell, "quality": event.quality})

    def _note_state(self, event: StateChanged) -> None:
        self._state = event
        if event.state in ("done", "failed") and self._end_s is None:
            self._end_s = self._clock.monotonic_s()

    def _put_cell(self, cell: dict[str, Any]) -> None:
        key = cell["row"], cell["column"]
        for known, change in ((self._cells.get(key), -1), (cell, 1)):
            if known is not None:
                self._counts[known["status"]] += change
                self._counts["fused"] += change * (known["quality"] is not None)
        self._cells[key] = cell
        self._cell_changes.put(key, self._number + 1, cell)

    def _time(self, stage: str, seconds: float) -> None:
        times_ms = self._times_ms.setdefault(stage, deque(maxlen=_TIMED))
        times_ms.append(seconds * 1e3)

    def _progress(self) -> dict[str, Any]:
        pace_s = self._pace_s()
        captured, snapshot = len(self._cells), self._snapshot
        is_going = self._state.state == "running" and captured < self._total
        return {
            "state": self._state.state,
            "reason": self._state.reason,
            "total": self._total,
            "captured": captured,
            "fused": self._counts["fused"],
            "blank": self._counts["blank"],
            "flagged": self._counts["flagged"],
            "elapsed_s": self._elapsed_s(),
            "left_s": (self._total - captured) * pace_s
            if pace_s and is_going
            else None,
            "tiles_per_minute": 60 / pace_s if pace_s and is_going else None,
            "waits_s": dict(snapshot.waits_s) if snapshot else {},
            "queued": dict(snapshot.queued) if snapshot else {},
            "timings_ms": {
                name: dict(times) for name, times in snapshot.timings_ms.items()
            }
            if snapshot and snapshot.timings_ms
            else self._percentiles(),
            "faults": list(self._faults),
            "n_faults": self._n_faults,
            "slide": asdict(self._slide) if self._slide else None,
        }

    def _elapsed_s(self) -> float | None:
        if self._start_s is None:
            return self._snapshot.elapsed_s if self._snapshot else None
        return (self._end_s or self._clock.monotonic_s()) - self._start_s

    def _pace_s(self) -> float | None:
        """Return the seconds per tile of late, by the clock of who looks on."""
        if len(self._captured_s) < 2:
            return None
        span_s = self._captured_s[-1] - self._captured_s[0]
        return max(span_s / (len(self._captured_s) - 1), 1e-3)

    def _percentiles(self) -> dict[str, dict[str, float]]:
        return {
            stage: {
                "n": float(len(times_ms)),
                **{
                    f"p{share}": float(np.percentile(list(times_ms), share))
                    for share in (50, 95, 99)
                },
            }
            for stage, times_ms in self._times_ms.items()
        }
