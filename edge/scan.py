"""The scan: visit, shoot, fuse beside the next visit, register, place, write.

Capture and fusion overlap: one worker develops tiles while the stage moves on, with at
most `_MOST_PENDING` waiting. A tile's shots are on the disk and in the journal before
it counts as captured.
"""

import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime, timezone

from bifocus.clock import Clock
from bifocus.config import Instrument
from bifocus.edge.assemble import place_tiles, write_slide
from bifocus.edge.capture import Microscope
from bifocus.edge.develop import Developed, Developer
from bifocus.edge.focus_tracking import FocusTracker
from bifocus.edge.fusers import Fuser
from bifocus.edge.journal import Journal, TileEntry, TileLine
from bifocus.edge.pair_meter import PairMeter
from bifocus.edge.placement import Placement
from bifocus.edge.plan import ScanPlan, check_travel
from bifocus.edge.scan_folder import ScanFolder
from bifocus.edge.seams import SeamRegister
from bifocus.edge.strategies import Capture, FocusMap, Stack, Strategy, TwoShot
from bifocus.edge.truth import TileTruth, TruthReport, evaluate, observe
from bifocus.errors import BlankSlideError, ConfigError
from bifocus.hal.devices import Camera, Stage
from bifocus.hal.virtual_truth import VirtualTruth
from bifocus.illumination import FlatFieldCorrection
from bifocus.records import InstrumentProfile, UInt8Image

logger = logging.getLogger(__name__)

# Tiles that may wait for the worker; each holds its pair's spectra (about 70 MB at
# 1.25 megapixels).
_MOST_PENDING = 2

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanResult:
    """All that reports need; the pictures are in the folder."""

    folder: ScanFolder
    plan: ScanPlan
    strategy: str
    lines: tuple[TileLine, ...]
    placement: Placement
    tracker: FocusTracker
    elapsed_s: float
    waits_s: dict[str, float]
    shots: int
    slide_px: tuple[int, int]
    model: str
    engine: str
    faults: tuple[str, ...]
    simulated: bool
    truth: TruthReport | None
    untrusted_pairs: int
    half_spacing_um: float


class Scan:
    """One scan of a planned region with open devices; use `run` once."""

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
    ) -> None:
        self._config = config
        self._profile = profile
        self._plan = plan
        self._folder = folder
        self._fuser = fuser
        self._truth = truth
        self._microscope = Microscope(stage, camera, clock)
        shape = (plan.field_px[1], plan.field_px[0])
        self._correction = FlatFieldCorrection.of_profile(
            profile, shape, config.optics.tone_curve
        )
        self._meter = PairMeter(
            config.optics, profile.half_spacing_um.value, profile.optics
        )
        first = (profile.focus_x_um, profile.focus_y_um, profile.focus_um.value)
        self._tracker = FocusTracker(first, max(plan.step_um))
        self._strategy = self._choose(strategy)
        self._developer = Developer(fuser, self._correction, folder, plan.overlap_px)
        step_px = (plan.step_um[0] / plan.pixel_um, plan.step_um[1] / plan.pixel_um)
        self._seams = SeamRegister(step_px)
        self._tile_truths: list[TileTruth] = []

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
        """
        reach_um = self._z_reach_um()
        check_travel(self._plan.visits, self._microscope.stage.limits, reach_um)
        if self._strategy.name == "two-shot":
            self._fuser.check_optics(self._meter.optics)
        self._folder.create()
        self._microscope.camera.configure(exposure_s=self._config.camera.exposure_s)
        acquired_utc = datetime.now(timezone.utc).isoformat(timespec="seconds")
        with Journal(self._folder.journal) as journal:
            journal.set("strategy", self._strategy.name)
            journal.set("simulated", str(self._config.is_simulated))
            start_s = self._microscope.clock.monotonic_s()
            self._capture_all(journal, progress)
            elapsed_s = self._microscope.clock.monotonic_s() - start_s
            placement = place_tiles(self._plan, self._seams.pairs)
            journal.set_placed(placement.tiles)
            lines = tuple(journal.lines())
        if all(line.entry.status == "blank" for line in lines):
            msg = (
                f"{self._folder.root}: all {len(lines)} tiles are blank; the shots are "
                "in raw/. Check the slide, the region and the focus"
            )
            raise BlankSlideError(msg)
        return self._finish(acquired_utc, elapsed_s, placement, lines)

    def _capture_all(self, journal: Journal, progress: Progress | None) -> None:
        with ThreadPoolExecutor(1, thread_name_prefix="fuse") as worker:
            try:
                self._visit_all(worker, journal, progress)
            except BaseException:
                # First of all the stage: leaving the executor waits for its work.
                self._microscope.stage.stop()
                worker.shutdown(wait=False, cancel_futures=True)
                raise

    def _visit_all(
        self, worker: ThreadPoolExecutor, journal: Journal, progress: Progress | None
    ) -> None:
        visits = self._plan.visits
        first = visits[0].target
        first_z_um = first.z_um - self._z_reach_um()
        self._microscope.approach(first.x_um, first.y_um, first_z_um)
        self._strategy.survey(visits)
        pending: deque[tuple[Capture, Future[Developed]]] = deque()
        for number, visit in enumerate(visits):
            capture = self._strategy.shoot(visit)
            journal.add_tile(self._save(capture, number))
            self._log(capture)
            pending.append((capture, worker.submit(self._developer.develop, capture)))
            while len(pending) > _MOST_PENDING:
                self._collect(journal, *pending.popleft())
            if progress is not None:
                progress(number + 1, len(visits))
        while pending:
            self._collect(journal, *pending.popleft())

    def _save(self, capture: Capture, number: int) -> TileEntry:
        name = capture.visit.name
        ends = ("minus", "plus") if len(capture.frames) == 2 else ("focus",)
        paths = [
            self._folder.save_raw(f"{name}_{end}", frame.pixels)
            for end, frame in zip(ends, capture.frames, strict=True)
        ]
        return TileEntry(
            row=capture.visit.row,
            column=capture.visit.column,
            visit=number,
            x_um=capture.visit.target.x_um,
            y_um=capture.visit.target.y_um,
            focus_um=capture.focus_um,
            status=capture.status,
            shots=capture.shots,
            capture_s=capture.seconds,
            offset=capture.offset,
            raw_a=paths[0],
            raw_b=paths[1] if len(paths) == 2 else None,
        )

    def _collect(
        self, journal: Journal, capture: Capture, future: Future[Developed]
    ) -> None:
        clock = self._microscope.clock
        start_s = clock.monotonic_s()
        done = future.result()
        self._microscope.waits.fuse_s += clock.monotonic_s() - start_s
        self._seams.add(done.row, done.column, done.strips)
        journal.set_fused(
            done.row,
            done.column,
            quality=done.quality,
            fuse_s=done.fuse_s,
            sharpness=done.sharpness,
        )
        if self._truth is not None:
            self._tile_truths.append(observe(self._truth, capture, done.picked))

    def _finish(
        self,
        acquired_utc: str,
        elapsed_s: float,
        placement: Placement,
        lines: tuple[TileLine, ...],
    ) -> ScanResult:
        notes = self._notes()
        slide_px = write_slide(
            self._folder,
            self._config,
            self._plan,
            placement,
            acquired_utc=acquired_utc,
            notes=notes,
        )
        truth = self._compare(placement, lines)
        self._folder.remove_fused()
        is_fused = self._strategy.name == "two-shot"
        return ScanResult(
            folder=self._folder,
            plan=self._plan,
            strategy=self._strategy.name,
            lines=lines,
            placement=placement,
            tracker=self._tracker,
            elapsed_s=elapsed_s,
            waits_s=asdict(self._microscope.waits),
            shots=self._microscope.shots,
            slide_px=slide_px,
            model=self._fuser.model if is_fused else "none",
            engine=self._fuser.engine if is_fused else "none",
            faults=self._fuser.faults,
            simulated=self._config.is_simulated,
            truth=truth,
            untrusted_pairs=sum(not pair.is_trusted for pair in self._seams.pairs),
            half_spacing_um=self._meter.optics.half_spacing_um,
        )

    def _compare(
        self, placement: Placement, lines: tuple[TileLine, ...]
    ) -> TruthReport | None:
        if self._truth is None:
            return None
        by_cell = {(line.entry.row, line.entry.column): line for line in lines}

        def load_sharper(row: int, column: int) -> UInt8Image:
            line = by_cell[row, column]
            entry, offset = line.entry, line.entry.offset
            plus = entry.raw_b is not None and offset is not None
            path = entry.raw_a
            if plus and offset is not None and offset.offset_um > 0:
                path = entry.raw_b or path
            return self._correction.apply(self._folder.load_raw(path))

        return evaluate(
            self._truth,
            self._tile_truths,
            folder=self._folder,
            plan=self._plan,
            placement=placement,
            load_sharper=load_sharper,
            settings=self._config.scan,
        )

    def _choose(self, name: str) -> Strategy:
        microscope, tracker = self._microscope, self._tracker
        if name == "two-shot":
            return TwoShot(microscope, tracker, self._meter, self._correction)
        stack = Stack(microscope, tracker, self._config.scan)
        if name == "stack":
            return stack
        if name == "focus-map":
            return FocusMap(microscope, stack)
        msg = f"no strategy '{name}'; choose two-shot, stack or focus-map"
        raise ConfigError(msg)

    def _z_reach_um(self) -> float:
        if self._strategy.name == "two-shot":
            return self._meter.optics.half_spacing_um
        scan = self._config.scan
        return scan.stack_step_um * (scan.stack_planes - 1) / 2

    def _notes(self) -> dict[str, str]:
        focus = self._profile.focus_um
        return {
            "strategy": self._strategy.name,
            "model": self._fuser.model,
            "engine": self._fuser.engine,
            "half_spacing_um": f"{self._meter.optics.half_spacing_um:g}",
            "focus_um": f"{focus.value:.3f} +- {focus.standard_uncertainty:.3f}",
            "profile_sha256": self._profile.raw_sha256,
        }

    def _log(self, capture: Capture) -> None:
        offset = capture.offset
        logger.info(
            "%s %s F %.2f um offset %s um, %d shots in %.2f s",
            capture.visit.name,
            capture.status,
            capture.focus_um,
            f"{offset.offset_um:+.2f}" if offset else "-",
            capture.shots,
            capture.seconds,
        )
