"""What a scan tells while it runs, and how it is told to pause, go on or stop.

The loop publishes; pages and metrics subscribe, from any thread. Publishing never
waits: each subscriber has a bounded queue, from which the oldest event is dropped, and
counted, where somebody reads too slowly.
"""

import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from bifocus.edge.journal import TileEntry

ScanState = Literal["running", "paused", "stopping", "done", "failed"]

_SUBSCRIBER_EVENTS = 4096
_KEPT_FAULTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """A tile is on the disk and in the journal; `done` of `total` tiles are."""

    entry: TileEntry
    done: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fused:
    """A tile's in-focus picture is there; `quality` is 0..1."""

    row: int
    column: int
    quality: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A tile of the slide's pyramid can be read in the file; `version` counts up."""

    level: int
    row: int
    column: int
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Where the time went so far.

    Attributes
    ----------
    waits_s
        Seconds that capture waited, by what it waited for, on the scan's clock.
    timings_ms
        For each stage of the loop: n, mean, p50, p95, p99 and max.
    queued
        For each stage: how many tiles wait for it now.
    """

    elapsed_s: float
    done: int
    total: int
    waits_s: Mapping[str, float]
    timings_ms: Mapping[str, Mapping[str, float]]
    queued: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something went wrong, mended or not; one sentence."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChanged:
    """The scan runs, stands still or has ended; `reason` says why, or is empty."""

    state: ScanState
    reason: str


ScanEvent = Captured | Fused | Published | Snapshot | Fault | StateChanged


@dataclass(frozen=True, slots=True, kw_only=True)
class StampedEvent:
    """An event with its running number, from 1, and Unix time."""

    number: int
    unix_s: float
    event: ScanEvent


class Subscription:
    """One subscriber's bounded queue; close it when done."""

    def __init__(self, events: "ScanEvents", capacity: int) -> None:
        self._events = events
        self._waiting: deque[StampedEvent] = deque(maxlen=capacity)
        self._changed = threading.Condition()
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """Events that were lost because they were not fetched in time."""
        return self._dropped

    def get(self, timeout_s: float | None = 0.0) -> StampedEvent | None:
        """Return the next event, or None if there is none after `timeout_s`.

        None as `timeout_s` waits for as long as it takes.
        """
        with self._changed:
            self._changed.wait_for(lambda: bool(self._waiting), timeout_s)
            return self._waiting.popleft() if self._waiting else None

    def close(self) -> None:
        """Take no more events; may be called twice."""
        self._events.unsubscribe(self)

    def __enter__(self) -> "Subscription":
        """Return the subscription itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def push(self, event: StampedEvent) -> None:
        """Add an event; called by the bus."""
        with self._changed:
            self._dropped += len(self._waiting) == self._waiting.maxlen
            self._waiting.append(event)
            self._changed.notify()


class ScanEvents:
    """The bus between one scan and those who look on; all methods are thread-safe.

    For those who come late it keeps the state, the last snapshot and the faults; the
    tiles so far are in the scan's journal.

    Examples
    --------
    >>> events = ScanEvents()
    >>> with events.subscribe() as subscription:
    ...     events.publish(Fault(text="the lamp flickers"))
    ...     subscription.get().event
    Fault(text='the lamp flickers')
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscribers: list[Subscription] = []
        self._number = 0
        self._state = StateChanged(state="running", reason="")
        self._snapshot: Snapshot | None = None
        self._faults: deque[str] = deque(maxlen=_KEPT_FAULTS)

    @property
    def state(self) -> StateChanged:
        """The last state that was told."""
        return self._state

    @property
    def snapshot(self) -> Snapshot | None:
        """The last snapshot of waits and timings."""
        return self._snapshot

    @property
    def faults(self) -> tuple[str, ...]:
        """The last hundred faults."""
        with self._lock:
            return tuple(self._faults)

    def subscribe(self, capacity: int = _SUBSCRIBER_EVENTS) -> Subscription:
        """Return a queue of all events from now on, at most `capacity` of them."""
        subscription = Subscription(self, capacity)
        with self._lock:
            self._subscribers.append(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Send no more events there; may be called twice."""
        with self._lock:
            if subscription in self._subscribers:
                self._subscribers.remove(subscription)

    def publish(self, event: ScanEvent) -> None:
        """Tell every subscriber; returns at once, whatever they do."""
        with self._lock:
            self._number += 1
            stamped = StampedEvent(number=self._number, unix_s=time.time(), event=event)
            if isinstance(event, StateChanged):
                self._state = event
            elif isinstance(event, Snapshot):
                self._snapshot = event
            elif isinstance(event, Fault):
                self._faults.append(event.text)
            for subscriber in self._subscribers:
                subscriber.push(stamped)


@dataclass(slots=True)
class ScanControl:
    """What a person may ask of a running scan; it obeys between two tiles."""

    _going: threading.Event = field(default_factory=threading.Event)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        """Let the scan run."""
        self._going.set()

    @property
    def is_paused(self) -> bool:
        """Whether the scan was asked to stand still."""
        return not self._going.is_set()

    @property
    def is_stopping(self) -> bool:
        """Whether the scan was asked to end."""
        return self._stopping.is_set()

    def pause(self) -> None:
        """Ask the scan to stand still after the tile it is at."""
        self._going.clear()

    def resume(self) -> None:
        """Let a paused scan go on."""
        self._going.set()

    def stop(self) -> None:
        """Ask the scan to end: what was captured is finished, the slide is closed."""
        self._stopping.set()
        self._going.set()

    def wait_while_paused(self, timeout_s: float) -> bool:
        """Return whether the scan may go on, after `timeout_s` at the latest."""
        return self._going.wait(timeout_s)
