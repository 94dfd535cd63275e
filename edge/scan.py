"""The scan: microscope and stages brought together, begun, gone on with, ended.

What overlaps with what is told in `capture_loop` and `pipeline`. A tile's shots are on
the disk and in the journal before it counts as captured; however a scan ends, what was
captured is in a slide that can be opened, and `resume` does the rest.
"""

from collections.abc import Mapping, Sequence

from bifocus.clock import Clock
from bifocus.config import Instrument
from bifocus.edge.capture import Microscope
from bifocus.edge.capture_loop import CaptureLoop, Progress
from bifocus.edge.classical_strategies import FocusMap, Stack
from bifocus.edge.disk_guard import DiskGuard
from bifocus.edge.fusers import FrameLocker, Fuser
from bifocus.edge.journal import Journal, TileLine
from bifocus.edge.loop_buffers import LoopBuffers
from bifocus.edge.pipeline import Pipeline
from bifocus.edge.place_check import PlaceCheck, find_reference
from bifocus.edge.plan import ScanPlan, check_travel
from bifocus.edge.scan_events import Fault, ScanControl, ScanEvents, StateChanged
from bifocus.edge.scan_folder import ScanFolder
from bifocus.edge.scan_result import ScanResult
from bifocus.edge.slide_making import ScanSetup, SlideMaking, begin_session
from bifocus.edge.strategies import STRATEGIES, Strategy, TwoShot
from bifocus.edge.truth import note_poses
from bifocus.edge.z_order import is_serpentine_faster
from bifocus.errors import ConfigError, ScanStoppedError
from bifocus.hal.devices import Camera, Stage
from bifocus.hal.virtual_truth import VirtualTruth
from bifocus.records import Frame, InstrumentProfile, StagePosition, UInt8Image

__all__ = ["Progress", "Scan", "ScanResult"]

# Shots as PNG, the in-focus tile and its part of the slide, at their worst.
_TILE_BYTES_PER_PIXEL = 3 * 4


class Scan:
    """One scan of a planned region with open devices; use `run` or `resume` once.

    Parameters
    ----------
    label
        A picture of the slide's label, for the slide file.
    events
        Is told of every tile, wait and fault.
    control
        Pauses, resumes or stops the scan between two tiles.
    properties
        More for the journal, such as what `bifocus resume` needs.
    """

    def __init__(
        self,
        *,
        stage: Stage,
        camera: Camera,
        clock: Clock,
        config: Instrument,
        profile: InstrumentProfile,
        plan: ScanPlan,
        folder: ScanFolder,
        fuser: Fuser,
        strategy: str = "two-shot",
        truth: VirtualTruth | None = None,
        label: UInt8Image | None = None,
        events: ScanEvents | None = None,
        control: ScanControl | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        if strategy not in STRATEGIES:
            msg = f"no strategy '{strategy}'; choose two-shot, stack or focus-map"
            raise ConfigError(msg)
        self._setup = ScanSetup(
            config=config,
            profile=profile,
            plan=plan,
            folder=folder,
            strategy=strategy,
            label=label,
        )
        self._truth = truth
        self._events = events or ScanEvents()
        self._control = control or ScanControl()
        self._properties = properties or {}
        self._buffers = LoopBuffers(plan.field_px)
        self._making = SlideMaking(self._setup, fuser, self._events, self._buffers)
        self._microscope = Microscope(
            stage,
            camera,
            clock,
            is_z_serpentine=strategy == "two-shot" and is_serpentine_faster(config),
            frames=self._buffers.frames,
        )
        self._strategy = self._choose(strategy)

    def run(self, progress: Progress | None = None) -> ScanResult:
        """Scan, stitch and write the slide.

        Parameters
        ----------
        progress
            Called with (tiles captured, tiles in all) after each tile.

        Raises
        ------
        OutOfTravelError
            Before anything moves, if the plan leaves the stage's travel.
        EngineError
            Before anything moves, if the fuser is not made for such optics; later, if
            it fails at work: the stage has been told to stop.
        SlideFileError
            If the folder cannot be written; what was captured stays in it.
        BlankSlideError
            If no tile showed any tissue.
        DeviceError
            If stage or camera fail; the stage has been told to stop.
        ScanStoppedError
            If `control` stopped it.
        """
        self._check()
        self._setup.folder.create()
        properties = {**self._making.new_properties(), **self._properties}
        with Journal.create(self._setup.folder.journal, properties) as journal:
            return self._work(journal, progress)

    def resume(self, progress: Progress | None = None) -> ScanResult:
        """Go on with the scan in the folder; parameters and errors as `run`."""
        self._check()
        with Journal(self._setup.folder.journal) as journal:
            begin_session(journal)
            return self._work(journal, progress)

    def _check(self) -> None:
        limits = self._microscope.stage.limits
        check_travel(self._setup.plan.visits, limits, self._strategy.reach_um)
        if self._strategy.name == "two-shot":
            self._making.fuser.check_optics(self._making.meter.optics)

    def _work(self, journal: Journal, progress: Progress | None) -> ScanResult:
        settings = self._setup.config.camera
        self._microscope.camera.configure(exposure_s=settings.exposure_s)
        before = tuple(journal.lines_as_finished())
        self._microscope.begin(max((line.entry.at_s for line in before), default=0.0))
        self._events.publish(StateChanged(state="running", reason=""))
        if isinstance(self._making.fuser, FrameLocker):
            self._making.fuser.lock_frames(self._frames_to_fuse())
        pipeline = self._making.begin(journal)
        try:
            self._recall(pipeline, journal, before)
            self._capture_all(pipeline, before, progress)
        except BaseException as error:
            # First of all the stage: leaving the pipeline waits for its work.
            self._microscope.stage.stop()
            self._end_early(pipeline, journal, error)
            raise
        finally:
            self._microscope.end()
        elapsed_s = self._microscope.scan_s()
        self._finish(pipeline)
        placement = self._making.close(journal)
        lines = tuple(journal.lines())
        if len(lines) < len(self._setup.plan.visits) or placement is None:
            self._events.publish(StateChanged(state="done", reason="stopped"))
            msg = f"stopped after {len(lines)} of {len(self._setup.plan.visits)} tiles"
            raise ScanStoppedError(msg)
        self._making.check_not_blank(lines)
        result = self._making.result(
            journal,
            placement,
            elapsed_s=elapsed_s,
            waits_s=self._microscope.waits.as_dict(),
            truth=self._truth,
        )
        self._setup.folder.remove_fused()
        self._events.publish(StateChanged(state="done", reason=""))
        return result

    def _recall(
        self, pipeline: Pipeline, journal: Journal, before: Sequence[TileLine]
    ) -> None:
        """Take up what was captured before a break, and make sure of the stage."""
        entries = [line.entry for line in before]
        self._strategy.recall(entries)
        for line in before:
            pipeline.replay(line)
        if not 0 < len(entries) < len(self._setup.plan.visits):
            return
        check = PlaceCheck(
            self._microscope,
            self._strategy,
            self._setup.folder.load_raw,
            self._setup.plan.pixel_um,
        )
        said = check.run(find_reference(entries))
        if said is not None:
            journal.add_fault(said)
            self._events.publish(Fault(text=said))

    def _capture_all(
        self, pipeline: Pipeline, before: Sequence[TileLine], progress: Progress | None
    ) -> None:
        plan, scan = self._setup.plan, self._setup.config.scan
        pixels = plan.field_px[0] * plan.field_px[1]
        guard = DiskGuard(
            self._setup.folder.root,
            reserve_bytes=round(scan.disk_reserve_mb * 1e6),
            tile_bytes=_TILE_BYTES_PER_PIXEL * pixels,
            most_wait_s=scan.disk_wait_s,
            events=self._events,
        )
        CaptureLoop(
            microscope=self._microscope,
            strategy=self._strategy,
            pipeline=pipeline,
            control=self._control,
            guard=guard,
            events=self._events,
            timings=self._making.timings,
            note_poses=self._note_poses,
            progress=progress,
        ).run(plan.visits, {(line.entry.row, line.entry.column) for line in before})

    def _finish(self, pipeline: Pipeline) -> None:
        if self._control.is_stopping:
            self._events.publish(StateChanged(state="stopping", reason="on request"))
        try:
            pipeline.finish()
        except BaseException as error:
            self._microscope.stage.stop()
            self._fail(pipeline, error)
            raise

    def _end_early(
        self, pipeline: Pipeline, journal: Journal, error: BaseException
    ) -> None:
        """Bring what was captured into the slide, if the stages still work."""
        if pipeline.error is not None:
            self._fail(pipeline, error)
            return
        try:
            pipeline.finish()
            self._making.close(journal)
        except BaseException as second:
            self._fail(pipeline, second)
            raise second from error
        self._events.publish(StateChanged(state="failed", reason=str(error)))

    def _fail(self, pipeline: Pipeline, error: BaseException) -> None:
        self._buffers.close()
        pipeline.abort()
        self._making.abandon()
        self._events.publish(StateChanged(state="failed", reason=str(error)))

    def _choose(self, name: str) -> Strategy:
        microscope, tracker = self._microscope, self._making.tracker
        if name == "two-shot":
            making = self._making
            spacing_um = self._setup.profile.commanded_spacing_um
            return TwoShot(
                microscope,
                tracker,
                making.meter,
                making.correction,
                spacing_um,
                self._buffers.shots.lend,
            )
        stack = Stack(microscope, tracker, self._setup.config.scan)
        return stack if name == "stack" else FocusMap(microscope, stack)

    def _frames_to_fuse(self) -> tuple[UInt8Image, ...]:
        is_corrected = self._making.correction.changes_pictures
        pool = self._buffers.shots if is_corrected else self._buffers.frames
        return pool.arrays

    def _note_poses(self, frames: Sequence[Frame]) -> tuple[StagePosition, ...]:
        return () if self._truth is None else note_poses(self._truth, frames)
