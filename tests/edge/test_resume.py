"""Scans that break off and go on: nothing is lost, the slide is that of one session."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bifocus.edge.finish_scan import finish_scan
from bifocus.edge.fusers import Fuser, PhysicsFuser
from bifocus.edge.journal import Journal
from bifocus.edge.scan import Scan
from bifocus.edge.scan_events import Captured, ScanControl, ScanEvents, StateChanged
from bifocus.edge.scan_folder import ScanFolder
from bifocus.edge.scan_report import write_reports
from bifocus.edge.slide_making import ScanSetup
from bifocus.errors import (
    DeviceTimeoutError,
    EngineLostError,
    ScanStoppedError,
    SlideFileError,
)
from bifocus.hal.open_instrument import OpenInstrument
from bifocus.physics_fusion import MeasuredPair
from bifocus.records import FusedTile
from tests.scanner import (
    REGION_UM,
    RecordingCamera,
    ideal_profile,
    open_scanner,
    plan_region,
    scanner_config,
)

pytestmark = pytest.mark.slow
TILES = 12


def make_scan(
    instrument: OpenInstrument, root: Path, fuser: Fuser | None = None, **more: Any
) -> tuple[Scan, ScanSetup]:
    profile = ideal_profile(instrument)
    setup = ScanSetup(
        config=instrument.config,
        profile=profile,
        plan=plan_region(instrument.config, profile.focus_um.value, REGION_UM),
        folder=ScanFolder(root),
    )
    scan = Scan(
        clock=instrument.clock,
        config=setup.config,
        profile=profile,
        plan=setup.plan,
        folder=setup.folder,
        fuser=fuser or PhysicsFuser(),
        **{
            "stage": instrument.stage,
            "camera": instrument.camera,
            "truth": instrument.truth,
            **more,
        },
    )
    return scan, setup


def break_off(root: Path, frames: int, error: BaseException | None = None) -> None:
    """Scan until the camera dies after so many frames."""
    error = error or DeviceTimeoutError("no frame in 2 s")
    with open_scanner(scanner_config()) as instrument:
        camera = RecordingCamera(instrument.camera, dies_after=frames, error=error)
        scan, _ = make_scan(instrument, root, camera=camera)
        with pytest.raises(type(error)):
            scan.run()


def raw_pictures(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / "raw").iterdir()}


def check_like_undisturbed(root: Path, copy: Path, setup: ScanSetup) -> None:
    """Fuse and stitch the same captures in one go, from nothing: the same bytes."""
    copy.mkdir()
    shutil.copytree(root / "raw", copy / "raw")
    shutil.copy(root / "scan.sqlite", copy / "scan.sqlite")
    with closing(sqlite3.connect(copy / "scan.sqlite")) as journal, journal:
        journal.execute("UPDATE tile SET fused_crc=NULL, quality=NULL")
    ScanFolder(copy).fused.mkdir()
    other = ScanSetup(
        config=setup.config,
        profile=setup.profile,
        plan=setup.plan,
        folder=ScanFolder(copy),
    )
    finish_scan(other, PhysicsFuser())
    slides = [(folder / "slide.ome.tiff").read_bytes() for folder in (root, copy)]
    assert slides[0] == slides[1]


def test_a_broken_scan_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """It breaks twice; no tile is shot again, and none is missing."""
    root = tmp_path / "scan"
    break_off(root, 9)
    first = raw_pictures(root)
    assert len(first) >= 6
    with open_scanner(scanner_config(seed=12)) as instrument:
        error = DeviceTimeoutError("no frame in 2 s")
        camera = RecordingCamera(instrument.camera, dies_after=6, error=error)
        scan, _ = make_scan(instrument, root, camera=camera)
        with pytest.raises(DeviceTimeoutError):
            scan.resume()
    second = raw_pictures(root)
    assert first.items() <= second.items()
    with open_scanner(scanner_config(seed=13)) as instrument:
        camera = RecordingCamera(instrument.camera)
        scan, setup = make_scan(instrument, root, camera=camera)
        result = scan.resume()
        report = write_reports(result)
    assert second.items() <= raw_pictures(root).items()
    # And one tile more, to see whether the stage still means the same places.
    assert len(camera.frames) == 2 * TILES - len(second) + 2
    assert (report["tiles"], report["captured"], report["fused"]) == (12, 12, 12)
    assert report["sessions"] == 3
    assert report["truth"]["tiles_compared"] == TILES
    assert report["truth"]["offset_error_um"]["mean"] < 0.3
    assert result.tracker.n_measured == TILES + 1
    times_s = [line.entry.at_s for line in result.lines]
    assert times_s == sorted(times_s)
    assert result.elapsed_s >= times_s[-1]
    check_like_undisturbed(root, tmp_path / "again", setup)


def test_damaged_kept_tiles_are_fused_again(tmp_path: Path) -> None:
    """A power cut may leave empty or torn files: only raw shots are durable."""
    root = tmp_path / "scan"
    break_off(root, 12)
    kept = sorted((root / "fused").iterdir())
    kept[0].write_bytes(b"")
    kept[1].write_bytes(kept[1].read_bytes()[:1000])
    kept[2].unlink()
    (root / "raw" / "r002_c003_minus.png").write_bytes(b"torn, and in no journal")
    with open_scanner(scanner_config()) as instrument:
        scan, setup = make_scan(instrument, root)
        scan.resume()
    check_like_undisturbed(root, tmp_path / "again", setup)


def test_only_stitching_left_needs_no_devices(tmp_path: Path) -> None:
    """Killed after the last tile was journalled: the slide is made from the disk."""
    root = tmp_path / "scan"
    with open_scanner(scanner_config()) as instrument:
        scan, setup = make_scan(instrument, root)
        scan.run()
    whole = (root / "slide.ome.tiff").read_bytes()
    (root / "slide.ome.tiff").unlink()
    setup.folder.fused.mkdir()
    result = finish_scan(setup, PhysicsFuser())
    assert (root / "slide.ome.tiff").read_bytes() == whole
    assert [line.entry.status for line in result.lines] == ["captured"] * TILES
    assert not setup.folder.fused.exists()
    assert write_reports(result)["captured"] == TILES


def test_a_stop_between_tiles_closes_the_slide_and_can_go_on(tmp_path: Path) -> None:
    root, control, events = tmp_path / "scan", ScanControl(), ScanEvents()
    with open_scanner(scanner_config()) as instrument:
        scan, _ = make_scan(instrument, root, control=control, events=events)
        with events.subscribe() as told:
            with pytest.raises(ScanStoppedError, match="stopped after 5 of 12 tiles"):
                scan.run(lambda done, _: control.stop() if done == 4 else None)
            seen = [item.event for item in iter(told.get, None)]
    captured = [event.done for event in seen if isinstance(event, Captured)]
    assert captured == [1, 2, 3, 4, 5]
    states = [event.state for event in seen if isinstance(event, StateChanged)]
    assert states == ["running", "stopping", "done"]
    assert (root / "slide.ome.tiff").stat().st_size > 100_000
    with open_scanner(scanner_config()) as instrument:
        scan, setup = make_scan(instrument, root)
        assert len(scan.resume().lines) == TILES
    check_like_undisturbed(root, tmp_path / "again", setup)


class LosingFuser(PhysicsFuser):
    """Its GPU goes with the third tile."""

    def __init__(self) -> None:
        self.left = 3

    def fuse(self, measured: MeasuredPair) -> FusedTile:
        self.left -= 1
        if not self.left:
            raise EngineLostError("the GPU is lost")
        return super().fuse(measured)


def test_a_lost_engine_loses_no_tile(tmp_path: Path) -> None:
    root = tmp_path / "scan"
    with open_scanner(scanner_config()) as instrument:
        scan, _ = make_scan(instrument, root, LosingFuser())
        with pytest.raises(EngineLostError):
            scan.run()
    before = raw_pictures(root)
    with Journal(root / "scan.sqlite") as journal:
        assert len(before) == 2 * sum(1 for _ in journal.lines()) >= 6
    with open_scanner(scanner_config()) as instrument:
        scan, setup = make_scan(instrument, root)
        scan.resume()
    assert before.items() <= raw_pictures(root).items()
    check_like_undisturbed(root, tmp_path / "again", setup)


def test_a_missing_shot_is_told(tmp_path: Path) -> None:
    root = tmp_path / "scan"
    break_off(root, 9)
    shutil.rmtree(root / "fused")
    (root / "fused").mkdir()
    (root / "raw" / "r000_c001_plus.png").unlink()
    with open_scanner(scanner_config()) as instrument:
        scan, _ = make_scan(instrument, root)
        with pytest.raises(SlideFileError, match=r"r000_c001_plus\.png: cannot read"):
            scan.resume()


def test_the_light_that_was_learned_is_remembered(tmp_path: Path) -> None:
    root = tmp_path / "scan"
    break_off(root, 20)
    with Journal(root / "scan.sqlite") as journal:
        lights = [line.entry.light for line in journal.lines_as_finished()]
        learned = journal.properties()["light"]
    assert lights[-1] == learned
    with open_scanner(scanner_config(seed=5)) as instrument:
        scan, _ = make_scan(instrument, root)
        result = scan.resume()
    assert {line.entry.light for line in result.lines[8:]} == {learned}
    assert np.isfinite([line.quality or np.nan for line in result.lines]).all()
