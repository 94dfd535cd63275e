"""The stages behind the microscope: measure, save, fuse, stitch, a thread for each.

::

    shot -> measure -> (verdict) -> save          raw shots and journal line, durable
                                 -> fuse -> stitch

Each stage has one thread and a bounded queue. Tiles keep their order in each, so that
what a scan writes does not depend on how fast the stages are. Fusion begins beside
saving, but the stitcher takes a tile only once it is in the journal.
"""

from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import TypeVar

from bifocus.edge.develop import Developed, Developer
from bifocus.edge.fusers import Fuser
from bifocus.edge.journal import Journal, TileEntry, TileLine
from bifocus.edge.live_stitch import LiveStitcher
from bifocus.edge.pair_meter import PairMeter
from bifocus.edge.pair_rereading import PairRereading
from bifocus.edge.quality_layer import TileNote
from bifocus.edge.scan_events import Captured, Fault, Fused, ScanEvents
from bifocus.edge.scan_folder import ScanFolder, raw_name
from bifocus.edge.shots import Capture
from bifocus.edge.tile_notes import write_light, write_poses, write_trace
from bifocus.edge.timings import StageTimings
from bifocus.edge.workers import Worker
from bifocus.records import Frame, StagePosition, UInt8Image

T = TypeVar("T")

# Property of the journal: the light that the meter has learned.
LIGHT = "light"
# Tiles that may wait for each stage; each holds its shots, and until it is fused its
# spectra: 67 MB at 1.25 megapixels. Of such tiles none waits for fusion.
_MOST_WAITING = 1
_SPECTRA_BYTES_PER_PIXEL = 53
_MOST_SPECTRA_BYTES = 50e6


class Pipeline:
    """Develops captures while the next ones are shot; close it by `finish` or `abort`.

    `keep` and `replay` are for one thread. Everything that touches the fuser runs in
    one thread, and everything that touches the stitcher in another.
    """

    def __init__(
        self,
        *,
        folder: ScanFolder,
        journal: Journal,
        fuser: Fuser,
        developer: Developer,
        meter: PairMeter,
        rereading: PairRereading,
        stitcher: LiveStitcher,
        timings: StageTimings,
        events: ScanEvents,
        total: int,
        tile_px: int,
    ) -> None:
        """Start the threads; a tile has `tile_px` pixels."""
        self._folder = folder
        self._journal = journal
        self._fuser = fuser
        self._developer = developer
        self._meter = meter
        self._rereading = rereading
        self._stitcher = stitcher
        self._timings = timings
        self._events = events
        self._total = total
        self._done = 0
        self._n_faults = len(fuser.faults)
        self._is_light_noted = LIGHT in journal.properties()
        self._measuring = Worker("measure", _MOST_WAITING, timings)
        self._saving = Worker("save", _MOST_WAITING, timings)
        is_big = _SPECTRA_BYTES_PER_PIXEL * tile_px > _MOST_SPECTRA_BYTES
        self._fusing = Worker("fuse", 0 if is_big else _MOST_WAITING, timings)
        self._stitching = Worker("stitch", _MOST_WAITING, timings)

    @property
    def queued(self) -> dict[str, int]:
        """Tiles that wait for each stage."""
        return {worker.name: worker.queued for worker in self._workers}

    @property
    def error(self) -> BaseException | None:
        """What broke a stage: the first cause, not what followed from it."""
        errors = [worker.error for worker in self._workers if worker.error is not None]
        causes = [error for error in errors if not isinstance(error, CancelledError)]
        return next(iter([*causes, *errors]), None)

    def measure(self, work: Callable[[], T]) -> "Future[T]":
        """Measure a shot beside the next move."""
        return self._measuring.submit(work)

    def keep(
        self,
        capture: Capture,
        number: int,
        sequence: int,
        poses: tuple[StagePosition, ...],
    ) -> None:
        """Save, fuse and stitch a tile; wait while the queues are full.

        Parameters
        ----------
        number
            Of the tile's visit in the plan.
        sequence
            How many tiles were finished before this one.
        poses
            On a virtual instrument, where the glass truly was at each shot.
        """
        # What waits to be saved must not hold the pair's spectra.
        entry = _entry(capture, number, sequence, poses)
        name, frames = capture.visit.name, capture.frames
        saved = self._saving.submit(partial(self._save, entry, name, frames))
        self._fusing.submit(partial(self._fuse, capture, saved))

    def replay(self, line: TileLine) -> None:
        """Take a tile from the disk: as it was fused, or else from its raw shots."""
        self._fusing.submit(partial(self._fuse_again, line))

    def take(self, line: TileLine, pixels: UInt8Image) -> None:
        """Take a tile that was fused elsewhere, with what its line says of it."""
        self._fusing.submit(partial(self._pass_on, line, pixels))

    def finish(self) -> None:
        """Do all that waits and end the threads; raises what broke a stage."""
        try:
            for worker in self._workers:
                worker.finish()
        except BaseException as error:
            self.abort()
            cause = self.error
            if cause is not None and cause is not error:
                raise cause from None
            raise

    def abort(self) -> None:
        """Drop all that waits and end the threads."""
        for worker in self._workers:
            worker.abort()

    @property
    def _workers(self) -> tuple[Worker, ...]:
        return self._measuring, self._saving, self._fusing, self._stitching

    def _save(
        self, entry: TileEntry, name: str, frames: tuple[Frame, ...]
    ) -> TileEntry:
        for end, frame in zip(_ends(frames), frames, strict=True):
            self._folder.save_raw(f"{name}_{end}", frame.pixels)
        self._journal.add_tile(entry)
        light = self._meter.optics.light
        if light is not None and not self._is_light_noted:
            self._journal.set(LIGHT, write_light(light) or "")
            self._is_light_noted = True
        self._tell(entry)
        return entry

    def _tell(self, entry: TileEntry) -> None:
        self._done += 1
        event = Captured(entry=entry, done=self._done, total=self._total)
        self._events.publish(event)

    def _fuse(self, capture: Capture, saved: "Future[TileEntry]") -> None:
        developed = self._developer.develop(capture)
        self._note_faults()
        self._stitching.submit(partial(self._stitch, developed, saved))

    def _fuse_again(self, line: TileLine) -> None:
        entry = line.entry
        pixels = None
        if line.fused_crc is not None:
            find = self._folder.find_fused
            pixels = find(entry.row, entry.column, line.fused_crc)
        if pixels is not None:
            self._pass_on(line, pixels)
            return
        developed = self._developer.develop(self._rereading.capture(entry))
        self._note_faults()
        self._hand_over(developed, entry)

    def _pass_on(self, line: TileLine, pixels: UInt8Image) -> None:
        self._hand_over(self._developer.take_kept(line, pixels), line.entry)

    def _hand_over(self, developed: Developed, entry: TileEntry) -> None:
        """Stitch a tile whose shots are on the disk since long."""
        saved: Future[TileEntry] = Future()
        saved.set_result(entry)
        self._tell(entry)
        self._stitching.submit(partial(self._stitch, developed, saved))

    def _stitch(self, developed: Developed, saved: "Future[TileEntry]") -> None:
        row, column = developed.row, developed.column
        crc = self._folder.save_fused(row, column, developed.pixels)
        entry = saved.result()
        offset = entry.offset if entry.status != "blank" else None
        note = TileNote(
            status=entry.status,
            focus_um=entry.focus_um,
            offset_um=offset.offset_um if offset else None,
            quality=developed.quality,
        )
        self._stitcher.add(row, column, developed.strips, note)
        self._journal.set_fused(
            row,
            column,
            quality=developed.quality,
            fuse_s=developed.fuse_s,
            sharpness=developed.sharpness,
            picked=developed.picked,
            fused_crc=crc,
        )
        fused = Fused(
            row=row,
            column=column,
            quality=developed.quality,
            seconds=developed.fuse_s,
        )
        self._events.publish(fused)

    def _note_faults(self) -> None:
        faults = self._fuser.faults
        for text in faults[self._n_faults :]:
            self._journal.add_fault(text)
            self._events.publish(Fault(text=text))
        self._n_faults = len(faults)


def _ends(frames: tuple[Frame, ...]) -> tuple[str, ...]:
    return ("minus", "plus") if len(frames) == 2 else ("focus",)


def _entry(
    capture: Capture, number: int, sequence: int, poses: tuple[StagePosition, ...]
) -> TileEntry:
    """Return the journal line of a capture, with the places where its shots will be."""
    visit, measured = capture.visit, capture.measured
    raw = [raw_name(f"{visit.name}_{end}") for end in _ends(capture.frames)]
    return TileEntry(
        row=visit.row,
        column=visit.column,
        visit=number,
        x_um=visit.target.x_um,
        y_um=visit.target.y_um,
        focus_um=capture.focus_um,
        status=capture.status,
        shots=capture.n_frames,
        capture_s=capture.seconds,
        offset=capture.offset,
        raw_a=raw[0],
        raw_b=raw[1] if len(raw) == 2 else None,
        sequence=sequence,
        at_s=capture.at_s,
        light=write_light(measured.optics.light if measured else None),
        poses=write_poses(poses),
        trace=write_trace(capture.trace),
    )
