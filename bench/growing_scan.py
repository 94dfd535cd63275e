"""A scan that only pretends: grows a real slide, journal and events at a given pace.

For tests and measurements of the live page, where the optics do not matter. Pictures
are drawn, not simulated; everything else is written by the loop's own code.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from bifocus.edge.canvas import plan_canvas
from bifocus.edge.journal import Journal, TileEntry
from bifocus.edge.plan import ScanPlan, plan_scan
from bifocus.edge.scan_events import (
    Captured,
    Fused,
    Published,
    ScanControl,
    ScanEvents,
    Snapshot,
    StateChanged,
)
from bifocus.edge.scan_folder import ScanFolder
from bifocus.edge.slide_file import SlideDescription, SlideWriter
from bifocus.edge.tile_codec import SlideCodec
from bifocus.records import FocalOffset, TileVisit, UInt8Image

PIXEL_UM = 0.25
_OVERLAP = 0.1


@dataclass(slots=True, kw_only=True)
class GrowingScan:
    """Tiles of `field_px` in `rows` x `columns`; use `run` once.

    `published_s` has the Unix time at which each tile of the slide could be read.
    """

    root: Path
    rows: int = 6
    columns: int = 8
    field_px: int = 512
    slide_tile_px: int = 512
    codec: SlideCodec = "jpeg"
    events: ScanEvents = field(default_factory=ScanEvents)
    control: ScanControl = field(default_factory=ScanControl)
    published_s: dict[tuple[int, int], float] = field(default_factory=dict)
    folder: ScanFolder = field(init=False)
    plan: ScanPlan = field(init=False)

    def __post_init__(self) -> None:
        """Plan, and make the folder."""
        field_um = self.field_px * PIXEL_UM
        step_um = field_um * (1 - _OVERLAP)
        self.plan = plan_scan(
            (
                0.0,
                0.0,
                field_um + (self.columns - 1) * step_um,
                field_um + (self.rows - 1) * step_um,
            ),
            field_px=(self.field_px, self.field_px),
            pixel_um=PIXEL_UM,
            overlap=_OVERLAP,
            focus_um=150.0,
        )
        self.folder = ScanFolder(self.root)
        self.folder.create()

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of the slide."""
        canvas = plan_canvas(self.plan)
        return canvas.width_px, canvas.height_px

    def run(self, *, pause_s: float = 0.0) -> None:
        """Capture, fuse and publish tile after tile; obeys the control."""
        picture = draw_tissue(*self.size_px)
        with (
            Journal(self.folder.journal) as journal,
            SlideWriter(
                self.folder.slide,
                describe(*self.size_px),
                tile_px=self.slide_tile_px,
                codec=self.codec,
                sync_every=1,
            ) as writer,
        ):
            journal.set("strategy", "two-shot")
            waiting = list(self._slide_tiles())
            start_s = time.monotonic()
            for number, visit in enumerate(self.plan.visits):
                if not self._may_go_on():
                    break
                self._capture(journal, number, visit, picture)
                share = (number + 1) / len(self.plan.visits)
                keep = round((1 - share) * self._n_slide_tiles())
                while len(waiting) > keep:
                    self._publish(writer, *waiting.pop(0), picture)
                due_s = start_s + (number + 1) * pause_s
                time.sleep(max(0.0, due_s - time.monotonic()))
        self.events.publish(StateChanged(state="done", reason=""))

    def _may_go_on(self) -> bool:
        if self.control.is_paused:
            self.events.publish(StateChanged(state="paused", reason="asked to"))
            while not self.control.wait_while_paused(0.05):
                pass
            self.events.publish(StateChanged(state="running", reason=""))
        if self.control.is_stopping:
            self.events.publish(StateChanged(state="stopping", reason="asked to"))
        return not self.control.is_stopping

    def _capture(
        self, journal: Journal, number: int, visit: TileVisit, picture: UInt8Image
    ) -> None:
        corner_px = plan_canvas(self.plan).nominal[visit.row, visit.column]
        left, top = map(round, corner_px)
        shot = picture[top : top + self.field_px, left : left + self.field_px]
        entry = TileEntry(
            row=visit.row,
            column=visit.column,
            visit=number,
            x_um=visit.target.x_um,
            y_um=visit.target.y_um,
            focus_um=150.0 + 0.2 * visit.row - 0.1 * visit.column,
            status=_status(visit.row, visit.column),
            shots=2,
            capture_s=0.4 + 0.02 * (number % 7),
            offset=FocalOffset(
                offset_um=float(np.sin(visit.row + 0.7 * visit.column)),
                sd_um=0.1,
                confidence=0.9,
            ),
            raw_a=self.folder.save_raw(f"{visit.name}_minus", _blurred(shot, 5)),
            raw_b=self.folder.save_raw(f"{visit.name}_plus", _blurred(shot, 3)),
        )
        journal.add_tile(entry)
        self.folder.save_fused(visit.row, visit.column, shot)
        total = len(self.plan.visits)
        self.events.publish(Captured(entry=entry, done=number + 1, total=total))
        quality = 0.55 + 0.4 * float(np.cos(0.5 * visit.row + visit.column)) ** 2
        journal.set_fused(
            visit.row, visit.column, quality=quality, fuse_s=0.3, sharpness=(1.0, 1.5)
        )
        self.events.publish(
            Fused(row=visit.row, column=visit.column, quality=quality, seconds=0.3)
        )
        self.events.publish(
            Snapshot(
                elapsed_s=0.5 * (number + 1),
                done=number + 1,
                total=total,
                waits_s={"stage_s": 0.3 * number, "camera_s": 0.1 * number},
                timings_ms={"capture": _times(400.0), "fuse": _times(300.0)},
                queued={"fuse": 1},
            )
        )

    def _publish(
        self, writer: SlideWriter, row: int, column: int, picture: UInt8Image
    ) -> None:
        side = self.slide_tile_px
        tile = picture[row * side : (row + 1) * side, column * side :][:, :side]
        writer.write_tile(row, column, tile)
        self.published_s[row, column] = time.time()
        self.events.publish(Published(level=0, row=row, column=column, version=1))

    def _slide_tiles(self) -> Iterator[tuple[int, int]]:
        width_px, height_px = self.size_px
        for row in range(-(-height_px // self.slide_tile_px)):
            for column in range(-(-width_px // self.slide_tile_px)):
                yield row, column

    def _n_slide_tiles(self) -> int:
        return len(list(self._slide_tiles()))


def draw_tissue(width_px: int, height_px: int, seed: int = 5) -> UInt8Image:
    """Return a drawing with the colours of stained tissue, and detail everywhere."""
    rng = np.random.default_rng(seed)
    picture: UInt8Image = np.full((height_px, width_px, 3), (243, 238, 243), np.uint8)
    centre = width_px / 2, height_px / 2
    axes = round(0.46 * width_px), round(0.44 * height_px)
    middle = round(centre[0]), round(centre[1])
    cv2.ellipse(picture, middle, axes, 0, 0, 360, (226, 160, 196), -1)
    for _ in range(width_px * height_px // 900):
        x, y = rng.integers(width_px), rng.integers(height_px)
        away = ((x - centre[0]) / axes[0]) ** 2 + ((y - centre[1]) / axes[1]) ** 2
        if away < 0.96:
            shade = int(rng.integers(60, 120))
            spot = (int(x), int(y)), int(rng.integers(3, 9))
            cv2.circle(picture, *spot, (shade + 20, shade - 10, shade + 60), -1)
    return picture


def describe(width_px: int, height_px: int) -> SlideDescription:
    """Return the description of a slide that nothing real was put on."""
    return SlideDescription(
        width_px=width_px,
        height_px=height_px,
        pixel_um=PIXEL_UM,
        objective="drawn",
        magnification=20.0,
        na=0.5,
        instrument="growing scan",
        software="bifocus bench",
        acquired_utc="2026-03-01T12:00:00+00:00",
        simulated=True,
        wavelengths_um=(0.62, 0.53, 0.46),
    )


def _blurred(pixels: UInt8Image, side_px: int) -> UInt8Image:
    return np.asarray(cv2.blur(pixels, (side_px, side_px)), dtype=np.uint8)


def _status(row: int, column: int) -> str:
    if (row, column) == (0, 0):
        return "blank"
    return "flagged" if (row, column) == (2, 3) else "captured"


def _times(middle_ms: float) -> dict[str, float]:
    return {
        "n": 9.0,
        "mean": middle_ms,
        "p50": middle_ms,
        "p95": 1.3 * middle_ms,
        "p99": 1.5 * middle_ms,
        "max": 1.6 * middle_ms,
    }
