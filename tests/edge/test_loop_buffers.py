"""A scan in lent memory that is spoilt the moment it comes back: nothing shows it.

The same scans in new memory give the slides and raw shots to compare with.
"""

import gc
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bifocus.calib.profile_file import read_profile, write_profile
from bifocus.clock import RealClock
from bifocus.edge import loop_buffers
from bifocus.edge.buffer_pool import BufferPool
from bifocus.edge.capture import Microscope
from bifocus.edge.fusers import PhysicsFuser
from bifocus.edge.scan import Scan, ScanResult
from bifocus.edge.scan_events import ScanControl
from bifocus.edge.scan_folder import ScanFolder
from bifocus.edge.slide_making import ACQUIRED
from bifocus.errors import DeviceTimeoutError, EngineLostError, ScanStoppedError
from bifocus.hal.devices import BorrowingCamera, Lend
from bifocus.physics_fusion import MeasuredPair
from bifocus.records import FlatField, Frame, FusedTile, MoveReceipt
from tests.scanner import (
    REGION_UM,
    RecordingCamera,
    RecordingStage,
    ideal_profile,
    open_scanner,
    plan_region,
    scanner_config,
)

pytestmark = pytest.mark.slow
TILES = 12
FALLOFF = FlatField(
    coefficients=tuple((0.0, 0.02, 0.0, -0.1, 0.0, -0.1) for _ in "rgb"),
    glass_fraction=0.1,
)


class PoisonPool(BufferPool[Any]):
    """Spoils what comes back, and remembers all pools that a test made."""

    made: list["PoisonPool"] = []  # noqa: RUF012 (shared on purpose)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        PoisonPool.made.append(self)

    def _take_back(self, number: int) -> None:
        self.arrays[number].view(np.uint8).fill(0xDB)
        super()._take_back(number)


class LendingRecorder(RecordingCamera):
    """A `RecordingCamera` that lets frames be lent, and keeps none of them."""

    def grab(self, after: MoveReceipt | None = None) -> Frame:
        frame = super().grab(after)
        self.frames[-1] = None  # type: ignore[call-overload]
        return frame

    def borrow_from(self, lend: Lend | None) -> None:
        assert isinstance(self._camera, BorrowingCamera)
        self._camera.borrow_from(lend)


class StumblingFuser(PhysicsFuser):
    """Fails at its third tile."""

    def __init__(self) -> None:
        self.left = 3

    def fuse(self, measured: MeasuredPair) -> FusedTile:
        self.left -= 1
        if not self.left:
            raise EngineLostError("the GPU is lost")
        return super().fuse(measured)


def scan(
    root: Path,
    *,
    flat_field: FlatField | None = None,
    fuser: PhysicsFuser | None = None,
    dies_after: int | None = None,
    stops_after: int | None = None,
) -> ScanResult:
    """Scan, or go on with what is in the folder."""
    folder, control = ScanFolder(root), ScanControl()
    with open_scanner(scanner_config()) as instrument:
        error = DeviceTimeoutError("no frame in 2 s") if dies_after else None
        camera = LendingRecorder(instrument.camera, dies_after=dies_after, error=error)
        if folder.journal.exists():
            profile = read_profile(root / "profile.yaml")
        else:
            root.mkdir(exist_ok=True)
            profile = ideal_profile(instrument, flat_field=flat_field)
            write_profile(root / "profile.yaml", profile)
        work = Scan(
            stage=instrument.stage,
            camera=camera,
            clock=instrument.clock,
            config=instrument.config,
            profile=profile,
            plan=plan_region(instrument.config, profile.focus_um.value, REGION_UM),
            folder=folder,
            fuser=fuser or PhysicsFuser(),
            control=control,
            properties={ACQUIRED: "2026-03-01T12:00:00+00:00"},
        )

        def watch(done: int, _total: int) -> None:
            if done == stops_after:
                control.stop()

        go = work.resume if folder.journal.exists() else work.run
        return go(watch)


def files(root: Path) -> dict[str, bytes]:
    found = {path.name: path.read_bytes() for path in (root / "raw").iterdir()}
    return {**found, "slide": (root / "slide.ome.tiff").read_bytes()}


def check_all_is_back() -> None:
    gc.collect()
    for pool in PoisonPool.made:
        assert pool.n_free == len(pool.arrays)
        assert pool.n_beyond == 0


@pytest.fixture(autouse=True)
def poison(monkeypatch: pytest.MonkeyPatch) -> None:
    PoisonPool.made.clear()
    monkeypatch.setattr(loop_buffers, "BufferPool", PoisonPool)


@pytest.mark.parametrize("flat_field", [None, FALLOFF], ids=["raw", "corrected"])
def test_a_scan_in_lent_memory_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flat_field: FlatField | None
) -> None:
    result = scan(tmp_path / "lent", flat_field=flat_field)
    assert [line.entry.status for line in result.lines] == ["captured"] * TILES
    frames, shots, spectra = PoisonPool.made
    used = [
        any((array.view(np.uint8) == 0xDB).all() for array in pool.arrays)
        for pool in (frames, shots, spectra)
    ]
    assert used == [True, flat_field is not None, True]
    check_all_is_back()
    monkeypatch.setattr(LendingRecorder, "borrow_from", lambda *_: None)
    scan(tmp_path / "new", flat_field=flat_field)
    assert files(tmp_path / "lent") == files(tmp_path / "new")


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        ({"dies_after": 9}, DeviceTimeoutError),
        ({"dies_after": 12}, DeviceTimeoutError),
        ({"stops_after": 4}, ScanStoppedError),
        ({"fuser": StumblingFuser}, EngineLostError),
    ],
    ids=["camera", "camera later", "stop", "engine"],
)
def test_trouble_brings_everything_back_and_spoils_nothing(
    tmp_path: Path, trouble: dict[str, Any], error: type[Exception]
) -> None:
    options = {k: v() if callable(v) else v for k, v in trouble.items()}
    with pytest.raises(error):
        scan(tmp_path / "scan", **options)
    check_all_is_back()
    kept = {p.name: p.read_bytes() for p in (tmp_path / "scan" / "raw").iterdir()}
    result = scan(tmp_path / "scan")
    assert [line.entry.status for line in result.lines] == ["captured"] * TILES
    found = files(tmp_path / "scan")
    assert kept.items() <= found.items()
    check_all_is_back()


def test_capture_waits_for_memory_before_it_moves_and_counts_it() -> None:
    """The clock is real here, since it is another thread that is waited for."""
    pool = BufferPool("frames", (256, 256, 3), np.uint8, 2)
    with open_scanner(scanner_config()) as instrument:
        stage = RecordingStage(instrument.stage)
        microscope = Microscope(
            stage, LendingRecorder(instrument.camera), RealClock(), frames=pool
        )
        microscope.begin()
        held = [pool.lend(), pool.lend()]
        targets_then: list[int] = []

        def give_back() -> None:
            targets_then.append(len(stage.targets))
            held.clear()

        timer = threading.Timer(0.1, give_back)
        timer.start()
        pair = microscope.shoot_pair(500.0, 400.0, 150.0, 0.75)
        timer.join()
        microscope.end()
    assert targets_then == [0]
    assert 0.09 < microscope.waits.buffers_s < 5
    starts = {array.ctypes.data for array in pool.arrays}
    assert {pair.minus.pixels.ctypes.data, pair.plus.pixels.ctypes.data} == starts
    assert pool.n_beyond == 0
