"""A disk that turns read-only at any write: it is named, and nothing old is lost."""

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from bifocus import jobs
from bifocus.calib.procedure import calibrate_into
from bifocus.calib.profile_file import read_profile
from bifocus.errors import SlideFileError
from bifocus.jobs import CalibratedInstrument, InstrumentFile, calibrate_instrument
from tests.calib.fake_steps import FakeSteps
from tests.calib.read_only_disk import read_only
from tests.scanner import REGION_UM, open_scanner, scanner_config

CONFIG = scanner_config(camera={"width_px": 128, "height_px": 128})


@pytest.fixture(scope="module", autouse=True)
def fake_steps() -> Iterator[FakeSteps]:
    with open_scanner(CONFIG) as twin, pytest.MonkeyPatch.context() as patch:
        steps = FakeSteps(twin)
        patch.setattr(
            jobs, "calibrate_into", partial(calibrate_into, entries=steps.entries)
        )
        yield steps


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished calibration, and one in its history."""
    out = tmp_path_factory.mktemp("finished")
    for _ in range(2):
        calibrate(out)
    return out


def calibrate(out: Path, *only: str) -> CalibratedInstrument:
    file = InstrumentFile(path=Path("scanner.yaml"), config=CONFIG)
    return calibrate_instrument(file, REGION_UM, out, only=only)


def contents(out: Path) -> list[bytes]:
    """What was measured: profiles, steps and their pictures, wherever they lie."""
    kinds = (".yaml", ".json", ".png")
    return [it.read_bytes() for it in out.rglob("*") if it.suffix in kinds]


@pytest.mark.slow
@pytest.mark.parametrize("only", [(), ("xy",)], ids=["anew", "only"])
def test_no_write_may_fail_unnoticed_or_cost_the_old_profile(
    finished: Path, tmp_path: Path, only: tuple[str, ...]
) -> None:
    shutil.copytree(finished, counted := tmp_path / "counted")
    with read_only(counted) as disk:
        calibrate(counted, *only)
    assert disk.writes > 10
    old = (finished / "profile.yaml").read_bytes()
    measured = {
        content
        for path in (finished, finished / "steps")
        for it in path.iterdir()
        if it.suffix in (".yaml", ".json", ".png") and it.stem not in ("run", *only)
        for content in [it.read_bytes()]
    }
    for number in range(disk.writes):
        out = tmp_path / str(number)
        shutil.copytree(finished, out)
        with (
            read_only(out, from_write=number),
            pytest.raises(SlideFileError, match="Read-only file system") as caught,
        ):
            calibrate(out, *only)
        assert str(out) in str(caught.value)
        if (out / "profile.yaml").read_bytes() != old:
            read_profile(out / "profile.yaml")  # the new one, whole
        assert measured <= set(contents(out)), number
        if number in (1, disk.writes // 2):  # a disk that is well again
            calibrate(out)
            assert read_profile(out / "profile.yaml").values
        shutil.rmtree(out)


def test_it_is_found_out_before_anything_moves(
    tmp_path: Path, fake_steps: FakeSteps
) -> None:
    fake_steps.calls.clear()
    with (
        read_only(tmp_path, from_write=0),
        pytest.raises(SlideFileError, match="cannot write there"),
    ):
        calibrate(tmp_path)
    assert fake_steps.calls == []
    assert not list(tmp_path.iterdir())
