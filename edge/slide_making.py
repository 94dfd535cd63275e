"""From tiles to the finished slide: what a scan shares with its being done again.

Everything here works without a device.
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone

from bifocus.config import Instrument
from bifocus.edge.develop import Developer
from bifocus.edge.focus_tracking import FocusTracker
from bifocus.edge.fusers import Fuser, PairReader
from bifocus.edge.journal import Journal, TileLine
from bifocus.edge.live_stitch import QUALITY_NAME, LiveStitcher, plan_canvas
from bifocus.edge.loop_buffers import LoopBuffers
from bifocus.edge.pair_meter import PairMeter
from bifocus.edge.pair_rereading import PairRereading
from bifocus.edge.pipeline import LIGHT, Pipeline
from bifocus.edge.placement import Placement
from bifocus.edge.plan import ScanPlan
from bifocus.edge.scan_events import Published, ScanEvents
from bifocus.edge.scan_folder import ScanFolder
from bifocus.edge.scan_result import ScanResult
from bifocus.edge.slide_file import write_thumbnail
from bifocus.edge.slide_settings import describe_slide, stitch_options
from bifocus.edge.tile_notes import read_light
from bifocus.edge.timings import StageTimings
from bifocus.edge.truth import TruthReport, evaluate, observe
from bifocus.errors import BlankSlideError
from bifocus.hal.virtual_truth import VirtualTruth
from bifocus.illumination import FlatFieldCorrection, GlassLevels
from bifocus.records import InstrumentProfile, UInt8Image

# Properties of the journal.
ACQUIRED, SESSIONS = "acquired_utc", "sessions"
NOTE = "note: "


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanSetup:
    """What a scan is made with, besides devices.

    `strategy` is one of `STRATEGIES`, `label` a picture of the slide's label.
    """

    config: Instrument
    profile: InstrumentProfile
    plan: ScanPlan
    folder: ScanFolder
    strategy: str = "two-shot"
    label: UInt8Image | None = None


def begin_session(journal: Journal) -> None:
    """Note that a scan is gone on with."""
    journal.set(SESSIONS, str(int(journal.properties()[SESSIONS]) + 1))


class SlideMaking:
    """The workshop of one slide: measures, fuses, stitches, compares, counts."""

    def __init__(
        self,
        setup: ScanSetup,
        fuser: Fuser,
        events: ScanEvents,
        buffers: LoopBuffers | None = None,
    ) -> None:
        """Prepare; `buffers` lend a scan's pairs their memory."""
        self.setup = setup
        self.fuser = fuser
        self.events = events
        self.timings = StageTimings()
        config, plan, profile = setup.config, setup.plan, setup.profile
        shape = (plan.field_px[1], plan.field_px[0])
        self.correction = FlatFieldCorrection.of_profile(
            profile, shape, config.optics.tone_curve
        )
        self.meter = self._new_meter(buffers)
        first = (profile.focus_x_um, profile.focus_y_um, profile.focus_um.value)
        self.tracker = FocusTracker(first, max(plan.step_um))
        self._stitcher: LiveStitcher | None = None

    def new_properties(self) -> dict[str, str]:
        """Return what the journal of a new scan says from the start."""
        now_utc = datetime.now(timezone.utc).isoformat(timespec="seconds")
        notes = {NOTE + name: value for name, value in self._notes().items()}
        return {
            "strategy": self.setup.strategy,
            "simulated": str(self.setup.config.is_simulated),
            ACQUIRED: now_utc,
            SESSIONS: "1",
            **notes,
        }

    def begin(self, journal: Journal) -> Pipeline:
        """Create the slide and start the stages."""
        setup, properties = self.setup, journal.properties()
        light = read_light(properties.get(LIGHT))
        if light is not None:
            self.meter.optics = dataclasses.replace(self.meter.optics, light=light)
        canvas = plan_canvas(setup.plan)
        notes = {
            key.removeprefix(NOTE): value
            for key, value in properties.items()
            if key.startswith(NOTE)
        }
        self._stitcher = LiveStitcher(
            setup.plan,
            describe_slide(
                setup.config,
                setup.plan,
                (canvas.width_px, canvas.height_px),
                acquired_utc=properties[ACQUIRED],
                notes=notes,
            ),
            setup.folder.slide,
            setup.folder.load_fused,
            stitch_options(setup.config.scan, setup.label),
            self._tell_published,
        )
        return Pipeline(
            folder=setup.folder,
            journal=journal,
            fuser=self.fuser,
            developer=Developer(self.fuser, self.correction, setup.plan.overlap_px),
            meter=self.meter,
            # In new memory: fusion, which waits for them, must not wait for what the
            # loop ahead of it holds.
            rereading=PairRereading(
                setup.folder.load_raw, self._new_meter(), self.correction
            ),
            stitcher=self._stitcher,
            timings=self.timings,
            events=self.events,
            total=len(setup.plan.visits),
            tile_px=setup.plan.field_px[0] * setup.plan.field_px[1],
        )

    def close(self, journal: Journal) -> Placement | None:
        """Write what is left of the slide; None if there is no tile to show."""
        if self._stitcher is None:
            return None
        with self.timings.measure("finish"):
            if not any(True for _ in journal.lines()):
                self._stitcher.abandon()
                return None
            placement = self._stitcher.finish()
        journal.set_placed(placement.tiles)
        write_thumbnail(self.setup.folder.slide, self.setup.folder.thumbnail)
        return placement

    def abandon(self) -> None:
        """Close the slide as it is, after an error of its own stages."""
        if self._stitcher is not None:
            self._stitcher.abandon()

    def check_not_blank(self, lines: Iterable[TileLine]) -> None:
        """Raise `BlankSlideError`, and drop the slide, if no tile shows tissue."""
        statuses = [line.entry.status for line in lines]
        if all(status == "blank" for status in statuses):
            folder = self.setup.folder
            folder.slide.unlink(missing_ok=True)
            folder.slide.with_name(QUALITY_NAME).unlink(missing_ok=True)
            folder.thumbnail.unlink(missing_ok=True)
            msg = (
                f"{folder.root}: all {len(statuses)} tiles are blank; the shots are "
                "in raw/. Check the slide, the region and the focus"
            )
            raise BlankSlideError(msg)

    def result(
        self,
        journal: Journal,
        placement: Placement,
        *,
        elapsed_s: float,
        waits_s: dict[str, float],
        truth: VirtualTruth | None,
    ) -> ScanResult:
        """Compare with the truth where there is one, and put all together."""
        setup, lines = self.setup, tuple(journal.lines())
        compared = None
        if truth is not None:
            compared = self._compare(truth, placement, lines)
        stitcher = self._stitcher
        canvas = plan_canvas(setup.plan)
        is_fused = setup.strategy == "two-shot"
        return ScanResult(
            folder=setup.folder,
            plan=setup.plan,
            strategy=setup.strategy,
            lines=lines,
            placement=placement,
            tracker=self.tracker,
            elapsed_s=elapsed_s,
            waits_s=waits_s,
            shots=sum(line.entry.shots for line in lines),
            slide_px=(canvas.width_px, canvas.height_px),
            model=self.fuser.model if is_fused else "none",
            engine=self.fuser.engine if is_fused else "none",
            faults=journal.faults(),
            simulated=setup.config.is_simulated,
            truth=compared,
            untrusted_pairs=stitcher.untrusted_pairs if stitcher else 0,
            half_spacing_um=self.meter.optics.half_spacing_um,
            timings_ms=self.timings.snapshot_ms(),
            sessions=int(journal.properties().get(SESSIONS, "1")),
        )

    def _new_meter(self, buffers: LoopBuffers | None = None) -> PairMeter:
        profile = self.setup.profile
        return PairMeter(
            self.setup.config.optics,
            profile.stage_spacing_um,
            profile.optics,
            self.fuser if isinstance(self.fuser, PairReader) else None,
            buffers.spectra.lend if buffers else None,
        )

    def _tell_published(self, level: int, row: int, column: int, version: int) -> None:
        event = Published(level=level, row=row, column=column, version=version)
        self.events.publish(event)

    def _notes(self) -> dict[str, str]:
        return {
            "strategy": self.setup.strategy,
            "model": self.fuser.model,
            "engine": self.fuser.engine,
            **self.setup.profile.summary(),
        }

    def _compare(
        self, truth: VirtualTruth, placement: Placement, lines: tuple[TileLine, ...]
    ) -> TruthReport:
        by_cell = {(line.entry.row, line.entry.column): line for line in lines}

        def load_sharper(row: int, column: int) -> UInt8Image:
            entry = by_cell[row, column].entry
            path, offset = entry.raw_a, entry.offset
            if entry.raw_b and offset is not None and offset.offset_um > 0:
                path = entry.raw_b
            return self.correction.apply(self.setup.folder.load_raw(path))

        config, (columns, rows) = self.setup.config, self.setup.plan.field_px
        glass = GlassLevels.of_profile(self.setup.profile)
        white = FlatFieldCorrection(
            None, (rows, columns), config.optics.tone_curve, glass
        )
        seen = [observe(truth, line) for line in lines]
        return evaluate(
            truth,
            [tile for tile in seen if tile is not None],
            folder=self.setup.folder,
            plan=self.setup.plan,
            placement=placement,
            load_sharper=load_sharper,
            whiten=white.apply,
            settings=config.scan,
        )
