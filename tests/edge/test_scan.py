"""Whole scans of a small virtual scanner, and scans that break."""

import json
import math
import sqlite3
import threading
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
import tifffile

from bifocus.edge.engine_choice import choose_fuser
from bifocus.edge.fusers import Fuser, PhysicsFuser
from bifocus.edge.plan import ScanPlan
from bifocus.edge.scan import Scan, ScanResult
from bifocus.edge.scan_folder import ScanFolder
from bifocus.edge.scan_report import write_reports
from bifocus.errors import (
    BlankSlideError,
    ConfigError,
    DeviceTimeoutError,
    EngineError,
    OutOfTravelError,
    SlideFileError,
)
from bifocus.hal.devices import Camera, Stage
from bifocus.hal.open_instrument import OpenInstrument
from bifocus.physics_fusion import MeasuredPair
from bifocus.records import FusedTile
from tests.scanner import (
    REGION_UM,
    RecordingCamera,
    RecordingStage,
    glass_only,
    ideal_profile,
    open_scanner,
    plan_region,
    scanner_config,
)

TILTED = {"tilt_mrad": (3.0, 0.0), "relief_um": 1.0}
SMALL_REGION_UM = (440.0, 340.0, 110.0, 60.0)  # 2 x 1 tiles


def make_scan(
    instrument: OpenInstrument,
    root: Path,
    *,
    stage: Stage | None = None,
    camera: Camera | None = None,
    region_um: tuple[float, float, float, float] = SMALL_REGION_UM,
    fuser: Fuser | None = None,
    **changes: Any,
) -> tuple[Scan, ScanPlan]:
    profile = ideal_profile(instrument)
    plan = plan_region(instrument.config, profile.focus_um.value, region_um)
    scan = Scan(
        stage=stage or instrument.stage,
        camera=camera or instrument.camera,
        clock=instrument.clock,
        config=instrument.config,
        profile=profile,
        plan=plan,
        folder=ScanFolder(root),
        fuser=fuser or choose_fuser(),
        **{"truth": instrument.truth, **changes},
    )
    return scan, plan


@dataclass(frozen=True)
class Scanned:
    """A finished scan: its folder, result and report, and what the devices saw."""

    root: Path
    result: ScanResult
    report: dict[str, Any]
    camera: RecordingCamera
    progress: list[tuple[int, int]]


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Scanned:
    """Scan 4 x 3 tiles of tissue that is tilted by 3 mrad and 2 um uneven."""
    root = tmp_path_factory.mktemp("scan") / "slide 1"
    progress: list[tuple[int, int]] = []
    with open_scanner(scanner_config(virtual_slide=TILTED)) as instrument:
        camera = RecordingCamera(instrument.camera)
        scan, _ = make_scan(instrument, root, camera=camera, region_um=REGION_UM)
        result = scan.run(lambda done, of: progress.append((done, of)))
    return Scanned(root, result, write_reports(result), camera, progress)


def test_every_tile_is_captured_and_told(scanned: Scanned) -> None:
    assert (scanned.result.plan.columns, scanned.result.plan.rows) == (4, 3)
    assert {line.entry.status for line in scanned.result.lines} == {"captured"}
    assert scanned.progress == [(done, 12) for done in range(1, 13)]


def test_the_report_has_the_promised_keys(scanned: Scanned) -> None:
    stored = json.loads((scanned.root / "report.json").read_text(encoding="utf-8"))
    promised = (
        "tiles captured fused blank flagged elapsed_s capture_s_per_tile "
        "fuse_s_per_tile waits_s strategy model engine simulated faults truth"
    )
    assert set(promised.split()) <= set(stored)
    truth = "psnr_db sharper_psnr_db offset_error_um stitch_error_px harm_rate"
    assert set(truth.split()) <= set(stored["truth"])
    assert (stored["tiles"], stored["captured"], stored["fused"]) == (12, 12, 12)
    assert (stored["strategy"], stored["model"]) == ("two-shot", "base")
    assert stored["simulated"] is True
    assert stored["shots"] >= 24
    # On a virtual clock only the devices take time: their waits are all there is.
    assert stored["elapsed_s"] == pytest.approx(sum(stored["waits_s"].values()))
    assert (scanned.root / "report.html").stat().st_size > 10_000


def test_the_slide_is_near_the_truth(scanned: Scanned) -> None:
    truth = scanned.report["truth"]
    assert truth["tiles_compared"] == 12
    assert truth["offset_error_um"]["mean"] <= 0.3
    assert truth["stitch_error_px"]["max"] <= 1.0
    assert truth["psnr_db"] > truth["sharper_psnr_db"] + 0.5
    assert truth["harm_rate"] <= 0.1


def test_focus_tracking_follows_the_tilt(scanned: Scanned) -> None:
    """A fixed focus would be 0.3 um off on average for the tilt alone, and more."""
    slopes = scanned.result.tracker.fit_plane()
    assert scanned.result.tracker.n_measured == 12
    assert np.isfinite([slopes.slope_x_mrad, slopes.slope_y_mrad]).all()
    late = [abs(line.entry.offset.offset_um) for line in scanned.result.lines[4:]
            if line.entry.offset]  # fmt: skip
    assert float(np.mean(late)) < 0.5


def test_readers_open_the_slide(scanned: Scanned) -> None:
    path = scanned.root / "slide.ome.tiff"
    width_px, height_px = scanned.result.slide_px
    # The planned region is what the slide shows, with a margin for the stage's errors.
    margin_px = 2 * 64 + 2 * math.ceil(0.005 * (REGION_UM[2] / 0.25 - 256))
    assert width_px == pytest.approx(REGION_UM[2] / 0.25 + margin_px, abs=1)
    assert height_px == pytest.approx(REGION_UM[3] / 0.25 + margin_px, abs=1)
    with openslide.OpenSlide(path) as slide:
        assert slide.dimensions == (width_px, height_px)
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.25)
        assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(0.25)
        seen = np.array(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_ome
        pixels = tiff.series[0].asarray()
        xml = tiff.ome_metadata
    assert np.abs(pixels.astype(int) - seen).max() <= 4  # two JPEG decoders
    assert xml is not None
    assert 'PhysicalSizeX="0.25"' in xml


def test_the_journal_is_complete(scanned: Scanned) -> None:
    with closing(sqlite3.connect(scanned.root / "scan.sqlite")) as journal:
        properties = dict(journal.execute("SELECT key, value FROM scan").fetchall())
        rows = journal.execute(
            "SELECT row, column, visit, shots, raw_a, raw_b, quality, mosaic_x_px"
            " FROM tile ORDER BY visit"
        ).fetchall()
    assert (properties["strategy"], properties["simulated"]) == ("two-shot", "True")
    assert properties["sessions"] == "1"
    assert properties["note: model"] == "base"
    visits = scanned.result.plan.visits
    assert [row[:3] for row in rows] == [
        (visit.row, visit.column, number) for number, visit in enumerate(visits)
    ]
    assert all(None not in row for row in rows)
    assert sum(row[3] for row in rows) == scanned.result.shots
    assert all((scanned.root / row[4]).is_file() for row in rows)
    assert all((scanned.root / row[5]).is_file() for row in rows)


def test_the_raw_pictures_are_the_frames(scanned: Scanned) -> None:
    by_pixels = {frame.pixels.tobytes(): frame for frame in scanned.camera.frames}
    half_um = scanned.result.half_spacing_um
    for line in scanned.result.lines:
        entry = line.entry
        for path, side in ((entry.raw_a, -1), (entry.raw_b or "", 1)):
            pixels = scanned.result.folder.load_raw(path)
            frame = by_pixels[pixels.tobytes()]
            z_um = entry.focus_um + side * half_um
            assert frame.pose.z_um == pytest.approx(z_um, abs=0.03)
    assert len(list((scanned.root / "raw").iterdir())) == 24


def test_nothing_temporary_is_left(scanned: Scanned) -> None:
    names = {path.name for path in scanned.root.iterdir()}
    files = "scan.sqlite raw slide.ome.tiff thumbnail.jpg report.json report.html"
    assert names == {*files.split(), "quality.ome.tiff"}


def test_the_sharpness_gain_is_written_down(scanned: Scanned) -> None:
    gains = [
        (line.sharpness_after or 0) / (line.sharpness_before or 1)
        for line in scanned.result.lines
    ]
    assert float(np.median(gains)) > 1.0


def test_a_folder_takes_one_scan(scanned: Scanned) -> None:
    with open_scanner(scanner_config()) as instrument:
        stage = RecordingStage(instrument.stage)
        scan, _ = make_scan(instrument, scanned.root, stage=stage)
        with pytest.raises(SlideFileError, match="holds a scan already"):
            scan.run()
    assert stage.targets == []


@pytest.mark.parametrize("strategy", ["stack", "focus-map"])
def test_the_classical_ways_make_a_slide_too(strategy: str, tmp_path: Path) -> None:
    config = scanner_config(scan={"stack_planes": 9})
    with open_scanner(config) as instrument:
        scan, plan = make_scan(instrument, tmp_path / "scan", strategy=strategy)
        result = scan.run()
    report = write_reports(result)
    assert len(plan.visits) == 2
    assert report["shots"] == 2 * 10
    assert (report["fused"], report["model"], report["engine"]) == (0, "none", "none")
    assert report["truth"]["offset_error_um"] is None
    assert report["truth"]["stitch_error_px"]["max"] <= 1.0
    assert report["truth"]["psnr_db"] > 30
    raw = sorted(path.name for path in (tmp_path / "scan" / "raw").iterdir())
    assert raw == ["r000_c000_focus.png", "r000_c001_focus.png"]
    with openslide.OpenSlide(tmp_path / "scan" / "slide.ome.tiff") as slide:
        assert slide.dimensions == result.slide_px


def test_an_unknown_strategy_names_the_known_ones(tmp_path: Path) -> None:
    with (
        open_scanner(scanner_config()) as instrument,
        pytest.raises(ConfigError, match="two-shot, stack or focus-map"),
    ):
        make_scan(instrument, tmp_path / "scan", strategy="two-shots")


def test_a_plan_beyond_the_travel_moves_nothing(tmp_path: Path) -> None:
    with open_scanner(scanner_config()) as instrument:
        stage = RecordingStage(instrument.stage)
        scan, _ = make_scan(
            instrument,
            tmp_path / "scan",
            stage=stage,
            region_um=(900.0, 340.0, 200.0, 60.0),
        )
        with pytest.raises(OutOfTravelError, match="needs x from"):
            scan.run()
    assert stage.targets == []
    assert not (tmp_path / "scan").exists()


@pytest.mark.parametrize("strategy", ["two-shot", "stack"])
def test_a_slide_of_glass_is_called_blank(strategy: str, tmp_path: Path) -> None:
    config = glass_only(scan={"stack_planes": 7})
    with open_scanner(config) as instrument:
        scan, _ = make_scan(instrument, tmp_path / "scan", strategy=strategy)
        with pytest.raises(BlankSlideError, match=r"all 2 tiles are blank.*raw/"):
            scan.run()
    assert list((tmp_path / "scan" / "raw").iterdir())


class FailingFuser(PhysicsFuser):
    """Breaks on its second tile, inside the worker thread."""

    def __init__(self) -> None:
        self.tiles = 0

    def fuse(self, measured: MeasuredPair) -> FusedTile:
        self.tiles += 1
        if self.tiles == 2:
            msg = "the engine fell over"
            raise EngineError(msg)
        return super().fuse(measured)


def captured_tiles(root: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(root / "scan.sqlite")) as journal:
        return journal.execute(
            "SELECT raw_a, raw_b FROM tile ORDER BY visit"
        ).fetchall()


def test_a_camera_that_dies_stops_the_stage_and_loses_nothing(tmp_path: Path) -> None:
    """It dies at the minus shot of the fourth tile. No thread may be left."""
    root = tmp_path / "scan"
    with open_scanner(scanner_config()) as instrument:
        stage = RecordingStage(instrument.stage)
        camera = RecordingCamera(
            instrument.camera, dies_after=6, error=DeviceTimeoutError("no frame in 2 s")
        )
        scan, _ = make_scan(
            instrument, root, stage=stage, camera=camera, region_um=REGION_UM
        )
        with pytest.raises(DeviceTimeoutError, match="no frame in 2 s"):
            scan.run()
        assert stage.stops == 1
    tiles = captured_tiles(root)
    assert len(tiles) == 3
    for number, (minus, plus) in enumerate(tiles):
        pair = camera.frames[2 * number : 2 * number + 2]
        for path, frame in zip((minus, plus), pair, strict=True):
            pixels = ScanFolder(root).load_raw(path)
            assert np.array_equal(pixels, frame.pixels)


class HeldFuser(PhysicsFuser):
    """Holds the worker until the stage has been told to stop."""

    def __init__(self, released: threading.Event) -> None:
        self._released = released
        self.was_released = False

    def fuse(self, measured: MeasuredPair) -> FusedTile:
        self.was_released = self._released.wait(timeout=10)
        return super().fuse(measured)


class ReleasingStage(RecordingStage):
    def __init__(self, stage: Stage, released: threading.Event) -> None:
        super().__init__(stage)
        self._released = released

    def stop(self) -> None:
        super().stop()
        self._released.set()


def test_the_stage_stops_before_the_fuser_is_waited_for(tmp_path: Path) -> None:
    """Ctrl-C: whatever the worker still has to do, a stage in motion comes first."""
    released = threading.Event()
    fuser = HeldFuser(released)
    with open_scanner(scanner_config()) as instrument:
        stage = ReleasingStage(instrument.stage, released)
        camera = RecordingCamera(
            instrument.camera, dies_after=4, error=KeyboardInterrupt()
        )
        scan, _ = make_scan(
            instrument,
            tmp_path / "scan",
            stage=stage,
            camera=camera,
            region_um=REGION_UM,
            fuser=fuser,
        )
        with pytest.raises(KeyboardInterrupt):
            scan.run()
    assert fuser.was_released
    assert len(captured_tiles(tmp_path / "scan")) == 2


def test_an_error_in_the_worker_reaches_the_caller(tmp_path: Path) -> None:
    root = tmp_path / "scan"
    with open_scanner(scanner_config()) as instrument:
        stage = RecordingStage(instrument.stage)
        scan, _ = make_scan(
            instrument, root, stage=stage, region_um=REGION_UM, fuser=FailingFuser()
        )
        with pytest.raises(EngineError, match="the engine fell over"):
            scan.run()
        assert stage.stops == 1
    # At most two tiles wait for the worker, so the scan went on for no longer.
    assert 2 <= len(captured_tiles(root)) <= 5


def test_a_disk_that_fills_stops_the_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "scan"
    save = ScanFolder.save_raw

    def save_until_full(self: ScanFolder, name: str, pixels: Any) -> str:
        if name == "r000_c001_plus":
            msg = f"{root}: cannot write: No space left on device"
            raise SlideFileError(msg)
        return save(self, name, pixels)

    monkeypatch.setattr(ScanFolder, "save_raw", save_until_full)
    with open_scanner(scanner_config()) as instrument:
        stage = RecordingStage(instrument.stage)
        scan, _ = make_scan(instrument, root, stage=stage)
        with pytest.raises(SlideFileError, match="No space left"):
            scan.run()
        assert stage.stops == 1
    # A tile with one shot on the disk is not captured.
    assert [tile[0] for tile in captured_tiles(root)] == ["raw/r000_c000_minus.png"]
