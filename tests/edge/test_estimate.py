"""What a plan promises, against scans of the virtual instrument on a virtual clock."""

from pathlib import Path

import numpy as np
import pytest

from bifocus.config import load_instrument
from bifocus.edge.estimate import Estimate, estimate_scan
from bifocus.edge.scan import ScanResult
from bifocus.edge.scan_folder import write_array
from bifocus.errors import OutOfTravelError
from bifocus.jobs import InstrumentFile, calibrate_instrument, scan_instrument
from bifocus.records import InstrumentProfile
from tests.cli.commands import write_instrument

# Three by two fields of 32 um.
REGION_UM = (250.0, 200.0, 80.0, 57.0)
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def instrument(tmp_path_factory: pytest.TempPathFactory) -> InstrumentFile:
    path = tmp_path_factory.mktemp("instrument") / "small.yaml"
    write_instrument(path, camera={"width_px": 128, "height_px": 128})
    return InstrumentFile.load(path)


@pytest.fixture(scope="module")
def profile(
    instrument: InstrumentFile, tmp_path_factory: pytest.TempPathFactory
) -> InstrumentProfile:
    folder = tmp_path_factory.mktemp("profile")
    return calibrate_instrument(instrument, REGION_UM, folder, is_brief=True).profile


def estimate(
    instrument: InstrumentFile, strategy: str, focus_um: float = 8.0
) -> Estimate:
    plan = instrument.plan(REGION_UM, focus_um)
    return estimate_scan(plan, instrument.config, strategy)


def disk_mb(result: ScanResult) -> float:
    return sum(path.stat().st_size for path in result.folder.raw.iterdir()) / 1e6


@pytest.mark.parametrize("strategy", ["two-shot", "stack", "focus-map"])
def test_the_estimate_is_what_a_scan_takes(
    instrument: InstrumentFile,
    profile: InstrumentProfile,
    tmp_path: Path,
    strategy: str,
) -> None:
    """Within 15 %: a scan follows the slide, and waits for real frames."""
    expected = estimate(instrument, strategy, profile.focus_um.value)
    result = scan_instrument(
        instrument,
        tmp_path / "scan",
        region_um=REGION_UM,
        strategy=strategy,
        profile=profile,
    )
    taken_s = result.elapsed_s - result.waits_s["approach_s"]
    assert expected.seconds == pytest.approx(taken_s, rel=0.15)
    assert expected.shots == result.shots
    assert expected.raw_mb == pytest.approx(disk_mb(result), rel=0.35)
    width_px, height_px = result.plan.field_px
    array = result.folder.root / "tile.npy"
    write_array(array, np.zeros((height_px, width_px, 3), np.uint8))
    fused_mb = len(result.lines) * array.stat().st_size / 1e6
    assert expected.fused_mb == pytest.approx(fused_mb, rel=0.02)
    assert expected.most_mb > expected.raw_mb + expected.fused_mb


def test_per_tile_and_in_all_agree(instrument: InstrumentFile) -> None:
    found = estimate(instrument, "two-shot")
    assert found.shots == 12
    assert found.seconds == pytest.approx(6 * found.seconds_per_tile)


def test_an_estimate_is_the_same_every_time(instrument: InstrumentFile) -> None:
    assert estimate(instrument, "stack") == estimate(instrument, "stack")


@pytest.mark.parametrize(
    ("change", "least"), [({"settle_s": 1.0}, 1.25), ({"command_s": 0.5}, 1.25)]
)
def test_a_slower_stage_takes_longer(
    instrument: InstrumentFile, change: dict[str, float], least: float
) -> None:
    config = instrument.config
    slower = config.model_copy(update={"stage": config.stage.model_copy(update=change)})
    other = InstrumentFile(path=instrument.path, config=slower)
    ratio = (
        estimate(other, "two-shot").seconds / estimate(instrument, "two-shot").seconds
    )
    assert ratio > least


def test_two_shots_are_six_times_quicker_on_the_openflexure() -> None:
    """The claim that the demo's comparison makes."""
    path = EXAMPLES / "openflexure.yaml"
    instrument = InstrumentFile(path=path, config=load_instrument(path))
    plan = instrument.plan_dry(instrument.region_um(None))
    seconds = {
        name: estimate_scan(plan, instrument.config, name).seconds
        for name in ("two-shot", "stack")
    }
    assert seconds["stack"] >= 6 * seconds["two-shot"]


def test_a_stack_that_leaves_the_travel_is_refused(instrument: InstrumentFile) -> None:
    with pytest.raises(OutOfTravelError):
        estimate(instrument, "stack", focus_um=1998.0)
