"""A fuser that reads pairs itself: in the loop, before the light is known, lost."""

import dataclasses
import threading
from pathlib import Path

import numpy as np
import pytest
import tifffile

from bifocus.calibrated_optics import CalibratedOptics, OffsetReadout
from bifocus.config import Optics
from bifocus.edge import pair_meter
from bifocus.edge.engine_chain import Candidate, EngineChain
from bifocus.edge.engine_choice import EngineWish
from bifocus.edge.fusers import Fuser, PhysicsFuser, WholePair
from bifocus.edge.pair_meter import PairMeter, correct_offset
from bifocus.edge.reprocess import FuseAnew, reprocess_scan
from bifocus.edge.scan import Scan
from bifocus.edge.scan_folder import ScanFolder
from bifocus.edge.slide_making import ScanSetup
from bifocus.errors import EngineLostError
from bifocus.focal_offset import PairOptics
from bifocus.physics_fusion import MeasuredPair, measure_pair
from bifocus.records import FusedTile, InstrumentProfile, UInt8Image
from bifocus.tone import ToneCurve
from bifocus.transfer import Light
from tests.imaging import MATCHED, shoot_incoherent
from tests.scanner import ideal_profile, open_scanner, plan_region, scanner_config
from tests.tissue import procedural_tissue

TWO_TILES_UM = (440.0, 340.0, 110.0, 60.0)
OPTICS = Optics(na=0.75, pixel_um=0.25)
FOUND = CalibratedOptics(na=0.75, light=Light())


class Reader(PhysicsFuser):
    """Stands for a graph: it computes what NumPy does, and may only be asked so."""

    def __init__(self, lost_after: int = 1000) -> None:
        self.threads: list[str] = []
        self._lost_after = lost_after

    def read(
        self,
        minus: UInt8Image,
        plus: UInt8Image,
        optics: PairOptics,
        tone_curve: ToneCurve,
    ) -> WholePair:
        if len(self.threads) == self._lost_after:
            raise EngineLostError("the GPU is gone")
        self.threads.append(threading.current_thread().name)
        assert optics.light is not None
        measured = measure_pair(minus, plus, optics, tone_curve=tone_curve)
        return WholePair(
            minus=minus,
            plus=plus,
            optics=optics,
            tile=super().fuse(measured),
            clearest=float(measured.offsets.weight.max()),
        )

    def fuse(self, measured: MeasuredPair) -> FusedTile:
        raise AssertionError("a pair was measured by NumPy and came to be fused")


@pytest.fixture(scope="module")
def shots() -> tuple[UInt8Image, UInt8Image]:
    pair = shoot_incoherent(
        procedural_tissue(224, 3), 0.4, 0.75, MATCHED, np.random.default_rng(0)
    )
    return pair.minus, pair.plus


def test_the_offset_of_the_graph_is_corrected_as_that_of_numpy(
    shots: tuple[UInt8Image, UInt8Image],
) -> None:
    readout = OffsetReadout(gain=1.25, bias_um=0.1, range_um=2.0, sd_factor=2.0)
    found = dataclasses.replace(FOUND, readout=readout)
    read = PairMeter(OPTICS, 0.75, found, Reader()).read(*shots)
    measured = PairMeter(OPTICS, 0.75, found).read(*shots)
    assert isinstance(read, WholePair)
    assert isinstance(measured, MeasuredPair)
    assert read.tile.offset == measured.offsets.tile
    bare = PairMeter(OPTICS, 0.75, FOUND, Reader()).read(*shots)
    assert isinstance(bare, WholePair)
    assert read.tile.offset == correct_offset(bare.tile.offset, readout)


def test_numpy_measures_until_the_light_is_known(
    shots: tuple[UInt8Image, UInt8Image],
) -> None:
    reader = Reader()
    meter = PairMeter(OPTICS, 0.75, None, reader)
    kinds = [type(meter.read(*shots)) for _ in range(6)]
    # Four sure tiles settle the light; the fifth is the graph's.
    assert kinds == [MeasuredPair] * 4 + [WholePair] * 2
    assert len(reader.threads) == 2


def test_a_graph_that_is_lost_hands_over_to_numpy(
    shots: tuple[UInt8Image, UInt8Image],
) -> None:
    chain = EngineChain(
        [
            Candidate(name="graph", open=lambda: Reader(lost_after=1)),
            Candidate(name="physics", open=PhysicsFuser, is_spare=True),
        ],
        "next",
    )
    meter = PairMeter(OPTICS, 0.75, FOUND, chain)
    first, second = meter.read(*shots), meter.read(*shots)
    assert isinstance(first, WholePair)
    assert isinstance(second, MeasuredPair)
    np.testing.assert_array_equal(chain.fuse(second).pixels, first.tile.pixels)
    (fault,) = chain.faults
    assert "the GPU is gone" in fault
    alone = EngineChain(
        [Candidate(name="graph", open=lambda: Reader(lost_after=0))], "stop"
    )
    with pytest.raises(EngineLostError, match="What was captured is kept"):
        PairMeter(OPTICS, 0.75, FOUND, alone).read(*shots)


def scan_two_tiles(
    root: Path, fuser: Fuser, light: Light | None = FOUND.light
) -> tuple[ScanSetup, list[float]]:
    """Scan an instrument whose optics are known; return what was read of each tile."""
    with open_scanner(scanner_config()) as instrument:
        profile: InstrumentProfile = ideal_profile(instrument)
        optics = instrument.config.optics
        known = CalibratedOptics(na=optics.na, light=light or Light())
        profile = dataclasses.replace(profile, optics=known)
        plan = plan_region(instrument.config, profile.focus_um.value, TWO_TILES_UM)
        scan = Scan(
            stage=instrument.stage,
            camera=instrument.camera,
            clock=instrument.clock,
            config=instrument.config,
            profile=profile,
            plan=plan,
            folder=ScanFolder(root),
            fuser=fuser,
        )
        result = scan.run()
        setup = ScanSetup(
            config=instrument.config,
            profile=profile,
            plan=plan,
            folder=ScanFolder(root),
        )
    offsets = [line.entry.offset for line in result.lines]
    return setup, [offset.offset_um for offset in offsets if offset is not None]


@pytest.mark.slow
def test_a_scan_asks_the_graph_alone_and_makes_the_same_slide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, expected_um = scan_two_tiles(tmp_path / "numpy", PhysicsFuser())

    def never(*_: object, **__: object) -> None:
        raise AssertionError("NumPy measured a pair that the graph reads")

    monkeypatch.setattr(pair_meter, "measure_pair", never)
    reader = Reader()
    setup, found_um = scan_two_tiles(tmp_path / "graph", reader)
    assert found_um == expected_um
    assert len(found_um) == 2
    # The stage that measures asks; what fuses has nothing left to do.
    assert set(reader.threads) == {"measure"}
    pixels = tifffile.imread(tmp_path / "numpy" / "slide.ome.tiff")
    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / "graph" / "slide.ome.tiff"), pixels
    )
    again = dataclasses.replace(setup, folder=ScanFolder(tmp_path / "again"))
    how = FuseAnew(model="physics", wish=EngineWish())
    reprocess_scan(setup, again, how, Reader())
    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / "again" / "slide.ome.tiff"), pixels
    )
