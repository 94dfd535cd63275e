"""Bring a scan's news to the page's state, each source on a thread of its own.

From the scan's events where it runs in this process, or from the journal where another
one makes it; and in both cases from the slide file.
"""

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from bifocus.edge.live_journal import JournalledTile, read_faults, read_tiles
from bifocus.edge.live_state import LiveState
from bifocus.edge.live_tiles import LiveSlide
from bifocus.edge.scan_events import (
    Captured,
    Fault,
    Fused,
    Published,
    ScanEvents,
    Snapshot,
    StateChanged,
    Subscription,
)
from bifocus.edge.scan_folder import ScanFolder
from bifocus.errors import SlideFileError
from bifocus.records import UInt8Image

logger = logging.getLogger(__name__)

# The slide is looked at when a tile is announced, and this often in any case.
_LOOK_S = 0.1
# Another process's journal is small to read, and no page needs it more often.
_READ_JOURNAL_S = 0.5
# A slow instrument takes seconds per tile; after this, silence is worth telling.
_SILENT_S = 60.0


# Of its time, the share that the feed may spend on reading fused tiles for sketches:
# the scan needs the cores more.
_SKETCH_SHARE = 0.2

LoadTile = Callable[[int, int], UInt8Image]
Places = Mapping[tuple[int, int], tuple[float, float]]


@contextmanager
def feed_from_events(
    state: LiveState,
    slide: LiveSlide,
    events: ScanEvents,
    folder: ScanFolder,
    nominal_px: Places,
) -> Iterator[None]:
    """Follow a scan of this process while the block runs; its last news arrive too.

    What an earlier session captured comes from the journal. Fused tiles are shown at
    once at their nominal place in the slide.
    """
    with ExitStack() as stack:
        subscription = stack.enter_context(events.subscribe())
        if folder.journal.exists():
            _recall(state, read_tiles(folder.journal))
        state.follow(events.state)
        for text in events.faults:
            state.follow(Fault(text=text))
        sketcher = _Sketcher(slide, folder.load_fused, nominal_px)
        follow = _EventFollower(state, slide, subscription, sketcher)
        stack.enter_context(_running(follow.step, "live-feed"))
        yield


@contextmanager
def feed_from_folder(
    state: LiveState, slide: LiveSlide, folder: ScanFolder
) -> Iterator[None]:
    """Follow a scan that another process makes, or has made.

    Raises
    ------
    SlideFileError
        If the folder holds no journal of a scan.
    """
    follow = _FolderFollower(state, slide, folder)
    follow.read()
    state.forget_pace()
    state.forget_start()
    with _running(follow.step, "live-feed"):
        yield


def _recall(state: LiveState, tiles: list[JournalledTile]) -> None:
    """Tell the state of tiles that were captured before anybody looked on."""
    for number, tile in enumerate(tiles, start=1):
        total = max(state.header.total, number)
        state.follow(Captured(entry=tile.entry, done=number, total=total))
        if tile.quality is not None:
            state.follow(_fused(tile))
    state.forget_pace()


class _SlideLook:
    """Looks at the slide; a slide that cannot be read is told once, not each time."""

    def __init__(self, state: LiveState, slide: LiveSlide) -> None:
        self._state = state
        self._slide = slide
        self._problem = ""

    def __call__(self) -> None:
        try:
            self._slide.look()
        except SlideFileError as error:
            if str(error) != self._problem:
                logger.warning("live page: %s", error)
                self._state.follow(Fault(text=str(error)))
            self._problem = str(error)


class _EventFollower:
    """Takes events as they come, and looks at the slide after some of them."""

    def __init__(
        self,
        state: LiveState,
        slide: LiveSlide,
        subscription: Subscription,
        sketcher: "_Sketcher",
    ) -> None:
        self._state = state
        self._sketcher = sketcher
        self._look = _SlideLook(state, slide)
        self._subscription = subscription
        self._dropped = 0

    def step(self, _: threading.Event) -> None:
        """Wait for news for a moment, pass all of them on, then look at the slide."""
        stamped = self._subscription.get(_LOOK_S)
        while stamped is not None:
            if not isinstance(stamped.event, Published):
                self._state.follow(stamped.event)
            if isinstance(stamped.event, Fused):
                self._sketcher.add(stamped.event.row, stamped.event.column)
            stamped = self._subscription.get(0.0)
        if self._subscription.dropped > self._dropped:
            lost = self._subscription.dropped - self._dropped
            self._dropped += lost
            text = f"the page missed {lost} messages of the scan; its counts are low"
            self._state.follow(Fault(text=text))
        self._look()
        self._sketcher.draw()


class _Sketcher:
    """Draws fused tiles where they will lie, the newest first, within its share."""

    def __init__(
        self, slide: LiveSlide, load_fused: LoadTile, nominal_px: Places
    ) -> None:
        self._slide = slide
        self._load = load_fused
        self._nominal_px = nominal_px
        self._waiting: deque[tuple[int, int]] = deque(maxlen=64)
        self._next_s = 0.0

    def add(self, row: int, column: int) -> None:
        """Note a tile to draw."""
        self._waiting.append((row, column))

    def draw(self) -> None:
        """Draw one tile, if the last ones have not cost too much."""
        start_s = time.monotonic()
        if not self._waiting or start_s < self._next_s:
            return
        cell = self._waiting.pop()
        try:
            pixels = self._load(*cell)
        except SlideFileError as error:
            # The scan removes fused tiles at its end, when the slide has them all.
            logger.debug("live page: no sketch: %s", error)
            self._waiting.clear()
            return
        if cell in self._nominal_px:
            self._slide.sketch(*self._nominal_px[cell], pixels)
        spent_s = time.monotonic() - start_s
        self._next_s = start_s + spent_s / _SKETCH_SHARE


class _FolderFollower:
    """Reads the journal afresh and passes on the tiles that are new or changed."""

    def __init__(self, state: LiveState, slide: LiveSlide, folder: ScanFolder) -> None:
        self._state = state
        self._look = _SlideLook(state, slide)
        self._folder = folder
        self._seen: dict[tuple[int, int], JournalledTile] = {}
        self._told: StateChanged | None = None
        self._n_faults = 0

    def step(self, stopping: threading.Event) -> None:
        """Read what is new, then leave the disk alone for a while."""
        self.read()
        stopping.wait(_READ_JOURNAL_S)

    def read(self) -> None:
        """Pass on what is new in the journal and in the slide.

        Raises
        ------
        SlideFileError
            If there is no journal, or none of ours.
        """
        tiles = read_tiles(self._folder.journal)
        total = max(self._state.header.total, len(tiles))
        for tile in tiles:
            key = tile.entry.row, tile.entry.column
            before = self._seen.get(key)
            if before is None or before.entry != tile.entry:
                done = len(self._seen) + (before is None)
                entry = tile.entry
                self._state.follow(Captured(entry=entry, done=done, total=total))
            is_fused = tile.quality is not None and tile.fuse_s is not None
            if is_fused and (before is None or before.quality != tile.quality):
                self._state.follow(_fused(tile))
            self._seen[key] = tile
        for text in read_faults(self._folder.journal)[self._n_faults :]:
            self._n_faults += 1
            self._state.follow(Fault(text=text))
        self._tell_state()
        self._look()

    def _tell_state(self) -> None:
        """Tell whether it is done: a report is the last thing that a scan writes."""
        if self._folder.report.exists():
            now = StateChanged(state="done", reason="")
            if now != self._told:
                self._pass_on_report()
        else:
            silent_s = time.time() - _last_written(self._folder)
            reason = "run by another program"
            if silent_s > _SILENT_S:
                reason = "no report and no news for a minute: perhaps it was cut short"
            now = StateChanged(state="running", reason=reason)
        if now != self._told:
            self._told = now
            self._state.follow(now)

    def _pass_on_report(self) -> None:
        try:
            report = json.loads(self._folder.report.read_bytes())
        except (OSError, ValueError) as error:
            text = f"{self._folder.report}: cannot be read: {error}"
            self._state.follow(Fault(text=text))
            return
        if "elapsed_s" in report:
            total = int(report.get("tiles", self._state.header.total))
            self._state.follow(
                Snapshot(
                    elapsed_s=float(report["elapsed_s"]),
                    done=int(report.get("captured", total)),
                    total=total,
                    waits_s=report.get("waits_s", {}),
                    timings_ms={},
                    queued={},
                )
            )


def _fused(tile: JournalledTile) -> Fused:
    return Fused(
        row=tile.entry.row,
        column=tile.entry.column,
        quality=tile.quality or 0.0,
        seconds=tile.fuse_s or 0.0,
    )


def _last_written(folder: ScanFolder) -> float:
    """Return the Unix time of the journal's last change."""
    log = folder.journal.with_name(folder.journal.name + "-wal")
    return max(path.stat().st_mtime for path in (folder.journal, log) if path.exists())


@contextmanager
def _running(step: Callable[[threading.Event], None], name: str) -> Iterator[None]:
    """Repeat `step` on a thread while the block runs, and once more at its end."""
    stopping = threading.Event()

    def work() -> None:
        while not stopping.is_set():
            step(stopping)
        step(stopping)

    thread = threading.Thread(target=work, name=name)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
