"""Whole jobs without the command line: regions, profiles, what is left behind."""

from dataclasses import replace
from pathlib import Path

import pytest

from bifocus import jobs
from bifocus.calib.profile_file import read_profile, write_profile
from bifocus.config import Instrument
from bifocus.edge.scan import Scan
from bifocus.errors import (
    ConfigError,
    EngineError,
    OutOfTravelError,
    SlideFileError,
)
from bifocus.hal.virtual_stage import VirtualStage
from bifocus.jobs import (
    InstrumentFile,
    calibrate_instrument,
    copy_whole,
    scan_instrument,
)
from bifocus.records import InstrumentProfile
from tests.cli.commands import write_instrument

ONE_TILE_UM = (240.0, 190.0, 60.0, 60.0)


@pytest.fixture(scope="module")
def instrument(tmp_path_factory: pytest.TempPathFactory) -> InstrumentFile:
    folder = tmp_path_factory.mktemp("instrument")
    return InstrumentFile.load(write_instrument(folder / "small.yaml"))


@pytest.fixture(scope="module")
def profile(
    instrument: InstrumentFile, tmp_path_factory: pytest.TempPathFactory
) -> InstrumentProfile:
    made = calibrate_instrument(
        instrument,
        instrument.region_um(None),
        tmp_path_factory.mktemp("profile"),
        is_brief=True,
    )
    assert read_profile(made.path) == made.profile
    return made.profile


def changed(instrument: InstrumentFile, section: str, **values: object) -> Instrument:
    part = getattr(instrument.config, section).model_copy(update=values)
    return instrument.config.model_copy(update={section: part})


def test_the_wanted_region_goes_before_the_files(instrument: InstrumentFile) -> None:
    assert instrument.region_um(ONE_TILE_UM) == ONE_TILE_UM
    assert instrument.region_um(None) == (216.0, 174.0, 160.0, 112.0)
    without = changed(instrument, "scan", region_um=None)
    with pytest.raises(ConfigError, match=r"no scan\.region_um; give --region"):
        InstrumentFile(path=instrument.path, config=without).region_um(None)


def test_a_plan_is_the_cameras_and_the_files(instrument: InstrumentFile) -> None:
    plan = instrument.plan_dry(instrument.region_um(None))
    assert (plan.rows, plan.columns, plan.field_px) == (2, 3, (256, 256))
    # The file tells where to look for the focus; without that, mid-travel.
    assert {visit.target.z_um for visit in plan.visits} == {8.0}
    free = changed(instrument, "calibration", z_start_um=None)
    plan = InstrumentFile(path=instrument.path, config=free).plan_dry(ONE_TILE_UM)
    assert plan.visits[0].target.z_um == 0.0


@pytest.mark.parametrize("job", ["calibrate", "scan"])
def test_a_region_outside_the_travel_leaves_nothing(
    instrument: InstrumentFile,
    tmp_path: Path,
    job: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(VirtualStage, "move_to", lambda *_: pytest.fail("it moved"))
    out, region_um = tmp_path / "out", (3990.0, 0.0, 100.0, 100.0)
    with pytest.raises(OutOfTravelError):
        if job == "scan":
            scan_instrument(instrument, out, region_um=region_um)
        else:
            calibrate_instrument(instrument, region_um, out)
    assert not out.exists()


def test_profile_and_instrument_are_there_before_the_first_tile(
    instrument: InstrumentFile,
    profile: InstrumentProfile,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A scan that is cut short can be understood, and gone on with."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Scan, "run", stop)
    with pytest.raises(KeyboardInterrupt):
        scan_instrument(instrument, tmp_path, region_um=ONE_TILE_UM, profile=profile)
    assert read_profile(tmp_path / "profile.yaml") == profile
    text = instrument.path.read_text()
    assert (tmp_path / "instrument.yaml").read_text() == text
    assert len(list(tmp_path.iterdir())) == 2


def test_a_profile_may_be_a_file_or_a_record(
    instrument: InstrumentFile, profile: InstrumentProfile, tmp_path: Path
) -> None:
    """The same seed, the same region, the same profile: the same scan."""
    path = tmp_path / "profile.yaml"
    write_profile(path, profile)
    both: list[InstrumentProfile | Path] = [profile, path]
    done = [
        scan_instrument(
            instrument, tmp_path / str(n), region_um=ONE_TILE_UM, profile=known
        )
        for n, known in enumerate(both)
    ]
    assert done[0].elapsed_s == done[1].elapsed_s
    offsets = [line.entry.offset for result in done for line in result.lines]
    assert offsets[0] == offsets[1]


def test_the_profiles_spacing_is_the_one_used(
    instrument: InstrumentFile, profile: InstrumentProfile, tmp_path: Path
) -> None:
    achieved = replace(profile.half_spacing_um, value=1)
    spaced = replace(
        profile, values={**profile.values, "half_spacing_stage_um": achieved}
    )
    result = scan_instrument(
        instrument, tmp_path, region_um=ONE_TILE_UM, profile=spaced
    )
    assert result.half_spacing_um == 1


def test_a_profile_of_other_optics_is_refused(
    instrument: InstrumentFile, profile: InstrumentProfile, tmp_path: Path
) -> None:
    other = InstrumentFile(
        path=instrument.path, config=changed(instrument, "optics", objective="40x")
    )
    with pytest.raises(ConfigError, match=r"objective: profile '20x.*instrument '40x"):
        scan_instrument(other, tmp_path, region_um=ONE_TILE_UM, profile=profile)


def test_a_model_is_looked_for_before_anything_is_made(
    instrument: InstrumentFile, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(EngineError, match="no model 'gan'"):
        scan_instrument(instrument, out, region_um=ONE_TILE_UM, model="gan")
    assert not out.exists()


def test_an_unknown_strategy_is_refused(
    instrument: InstrumentFile, profile: InstrumentProfile, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="no strategy 'guess'"):
        scan_instrument(
            instrument,
            tmp_path,
            region_um=ONE_TILE_UM,
            strategy="guess",
            profile=profile,
        )


def test_the_probe_of_a_folder_leaves_no_trace(
    instrument: InstrumentFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ConfigError("no further")

    monkeypatch.setattr(jobs, "calibrate_into", fail)
    with pytest.raises(ConfigError, match="no further"):
        calibrate_instrument(instrument, ONE_TILE_UM, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_copy_is_whole_or_not_there(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"\xff\x00kept as it is")
    target.write_text("older")
    copy_whole(source, target)
    assert target.read_bytes() == source.read_bytes()
    with pytest.raises(SlideFileError, match=r"target: cannot write it: No such file"):
        copy_whole(tmp_path / "missing", target)
    assert target.read_bytes() == source.read_bytes()
    assert len(list(tmp_path.iterdir())) == 2
