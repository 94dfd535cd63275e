"""The loop that owns stage and camera: visit, shoot, and judge the tile before.

While the microscope goes to a tile and shoots it, the shot of the tile before is
measured; it is judged when this one has been shot. So decisions lag by one tile, on
every machine and clock alike, unless the strategy asks to wait. A tile that must be
shot again is visited next.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bifocus.edge.capture import Microscope
from bifocus.edge.disk_guard import DiskGuard
from bifocus.edge.pipeline import Pipeline
from bifocus.edge.scan_events import ScanControl, ScanEvents, Snapshot, StateChanged
from bifocus.edge.shots import Attempt, Capture, Reading, Shot, Verdict
from bifocus.edge.strategies import Strategy
from bifocus.edge.timings import StageTimings
from bifocus.records import Frame, StagePosition, TileVisit

if TYPE_CHECKING:
    from concurrent.futures import Future

NotePoses = Callable[[Sequence[Frame]], tuple[StagePosition, ...]]
Progress = Callable[[int, int], None]

_PAUSE_POLL_S = 0.2
_SNAPSHOT_EVERY_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """A tile to visit: for the first time, or again with what was tried before."""

    number: int
    visit: TileVisit
    again: Verdict | None = None
    trace: tuple[Attempt, ...] = ()
    n_frames: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pending:
    """A shot that is being measured."""

    job: _Job
    shot: Shot
    reading: "Future[Reading]"
    poses: tuple[StagePosition, ...]


class CaptureLoop:
    """Captures the tiles of a plan that are not captured yet; use `run` once."""

    def __init__(
        self,
        *,
        microscope: Microscope,
        strategy: Strategy,
        pipeline: Pipeline,
        control: ScanControl,
        guard: DiskGuard,
        events: ScanEvents,
        timings: StageTimings,
        note_poses: NotePoses,
        progress: Progress | None,
    ) -> None:
        self._microscope = microscope
        self._strategy = strategy
        self._pipeline = pipeline
        self._control = control
        self._guard = guard
        self._events = events
        self._timings = timings
        self._note_poses = note_poses
        self._progress = progress
        self._again: deque[_Job] = deque()
        self._todo: deque[_Job] = deque()
        self._done = self._total = 0
        self._snapshot_s = 0.0

    def run(self, visits: Sequence[TileVisit], done: set[tuple[int, int]]) -> None:
        """Visit all tiles that are not `done`, until told to stop.

        Raises
        ------
        DeviceError
            If stage or camera fail.
        BaseException
            What broke a stage of the pipeline.
        """
        self._done, self._total = len(done), len(visits)
        self._todo.extend(
            _Job(number=number, visit=visit)
            for number, visit in enumerate(visits)
            if (visit.row, visit.column) not in done
        )
        if not self._todo:
            return
        first = self._todo[0].visit.target
        low_um = first.z_um - self._strategy.reach_um
        self._microscope.approach(first.x_um, first.y_um, low_um)
        self._strategy.survey([job.visit for job in self._todo])
        self._visit_all()
        self._tell_snapshot()

    def _visit_all(self) -> None:
        pending: _Pending | None = None
        while self._may_go_on():
            job = self._next_job()
            must_wait = job is None or self._strategy.awaits(job.visit)
            if pending is not None and must_wait:
                self._judge(pending)
                pending = None
                continue
            if job is None:
                return
            (self._again or self._todo).popleft()
            before, pending = pending, self._shoot(job)
            if before is not None:
                self._judge(before)
            # A tile that is judged must not be held while the next one is shot.
            before = None
        if pending is not None:
            self._judge(pending)

    def _next_job(self) -> _Job | None:
        queue = self._again or self._todo
        return queue[0] if queue else None

    def _may_go_on(self) -> bool:
        """Stand still while paused or while the disk is full; False to stop."""
        start_s = self._microscope.clock.monotonic_s()
        if self._control.is_paused:
            self._events.publish(StateChanged(state="paused", reason="on request"))
            while not self._control.wait_while_paused(_PAUSE_POLL_S):
                pass
            self._tell_running()
        self._guard.wait_for_room(self._control)
        self._microscope.waits.pause_s += self._microscope.clock.monotonic_s() - start_s
        return not self._control.is_stopping

    def _shoot(self, job: _Job) -> _Pending:
        attempt = len(job.trace)
        shot = self._strategy.shoot(job.visit, job.again, attempt)
        self._timings.add("capture", shot.seconds)
        start_s = self._microscope.clock.monotonic_s()
        reading = self._pipeline.measure(lambda: self._strategy.measure(shot))
        self._microscope.waits.fuse_s += self._microscope.clock.monotonic_s() - start_s
        return _Pending(
            job=job, shot=shot, reading=reading, poses=self._note_poses(shot.frames)
        )

    def _judge(self, pending: _Pending) -> None:
        clock, waits = self._microscope.clock, self._microscope.waits
        start_s = clock.monotonic_s()
        reading = pending.reading.result()
        waits.measure_s += clock.monotonic_s() - start_s
        job, shot = pending.job, pending.shot
        verdict = self._strategy.judge(shot, reading)
        trace = (*job.trace, _attempt(shot, reading, verdict))
        n_frames, seconds = job.n_frames + shot.n_frames, job.seconds + shot.seconds
        if verdict.status == "again":
            again = _Job(
                number=job.number,
                visit=job.visit,
                again=verdict,
                trace=trace,
                n_frames=n_frames,
                seconds=seconds,
            )
            self._again.append(again)
            return
        capture = Capture(
            visit=shot.visit,
            frames=shot.frames,
            focus_um=shot.focus_um,
            status=verdict.status,
            n_frames=n_frames,
            seconds=seconds,
            at_s=shot.at_s,
            offset=reading.offset,
            measured=reading.measured,
            trace=trace,
        )
        start_s = clock.monotonic_s()
        self._pipeline.keep(capture, job.number, self._done, pending.poses)
        waits.fuse_s += clock.monotonic_s() - start_s
        self._done += 1
        self._tell()

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(self._done, self._total)
        if time.monotonic() >= self._snapshot_s + _SNAPSHOT_EVERY_S:
            self._tell_snapshot()

    def _tell_running(self) -> None:
        self._events.publish(StateChanged(state="running", reason=""))

    def _tell_snapshot(self) -> None:
        self._snapshot_s = time.monotonic()
        self._events.publish(
            Snapshot(
                elapsed_s=self._microscope.scan_s(),
                done=self._done,
                total=self._total,
                waits_s=self._microscope.waits.as_dict(),
                timings_ms=self._timings.snapshot_ms(),
                queued=self._pipeline.queued,
            )
        )


def _attempt(shot: Shot, reading: Reading, verdict: Verdict) -> Attempt:
    offset = reading.offset
    return Attempt(
        focus_um=shot.focus_um,
        expected_sd_um=shot.expected_sd_um,
        offset_um=offset.offset_um if offset else None,
        sd_um=offset.sd_um if offset else None,
        confidence=offset.confidence if offset else None,
        status=verdict.status,
        reason=verdict.reason,
    )
