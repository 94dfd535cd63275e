"""A stage whose counter is off after a break is put right, or refused."""

import re
from pathlib import Path
from typing import Any

import pytest

from bifocus.edge.journal import Journal, TileEntry
from bifocus.edge.place_check import find_reference
from bifocus.edge.scan import Scan, ScanResult
from bifocus.errors import ReferenceLostError
from bifocus.hal.devices import Stage
from bifocus.hal.open_instrument import OpenInstrument
from bifocus.records import FocalOffset, MoveReceipt, StagePosition
from tests.edge.test_resume import TILES, break_off, check_like_undisturbed, make_scan
from tests.scanner import RecordingCamera, RecordingStage, open_scanner, scanner_config


class LostStage(RecordingStage):
    """A stage that came back from a power cut with its counter off by `lost_um`."""

    def __init__(self, stage: Stage, lost_um: tuple[float, float, float]) -> None:
        super().__init__(stage)
        self._lost_um = lost_um

    def move_to(self, position: StagePosition, wait: bool = True) -> MoveReceipt:
        return super().move_to(
            StagePosition(
                x_um=position.x_um + self._lost_um[0],
                y_um=position.y_um + self._lost_um[1],
                z_um=position.z_um + self._lost_um[2],
            ),
            wait,
        )


def resume(
    root: Path, instrument: OpenInstrument, lost_um: tuple[float, float, float]
) -> tuple[Scan, Any, LostStage, RecordingCamera]:
    stage = LostStage(instrument.stage, lost_um)
    camera = RecordingCamera(instrument.camera)
    scan, setup = make_scan(instrument, root, stage=stage, camera=camera)
    return scan, setup, stage, camera


def entry(number: int, confidence: float | None, status: str = "captured") -> TileEntry:
    offset = None
    if confidence is not None:
        offset = FocalOffset(offset_um=0.0, sd_um=0.1, confidence=confidence)
    return TileEntry(
        row=0,
        column=number,
        visit=number,
        x_um=0.0,
        y_um=0.0,
        focus_um=0.0,
        status=status,
        shots=2,
        capture_s=1.0,
        offset=offset,
        raw_a="a",
        raw_b="b",
    )


def test_the_tile_to_look_at_is_late_and_has_texture() -> None:
    blank = entry(3, None, "blank")
    tiles = [entry(0, 1.0), *(entry(n, 0.1 * (n % 7)) for n in range(1, 14)), blank]
    found = find_reference(tiles)
    assert found is not None
    assert found.column == 13
    assert find_reference([entry(1, None), entry(2, None)]) == entry(2, None)
    assert find_reference([blank]) is None
    assert find_reference([]) is None


@pytest.mark.slow
@pytest.mark.parametrize("lost_um", [(3.0, -2.0, 0.0), (-4.4, 4.4, 1.0)])
def test_a_small_loss_is_measured_and_taken_off_every_move(
    tmp_path: Path, lost_um: tuple[float, float, float]
) -> None:
    break_off(tmp_path / "scan", 9)
    with open_scanner(scanner_config()) as instrument:
        scan, setup, stage, _ = resume(tmp_path / "scan", instrument, lost_um)
        result = scan.resume()
    (said,) = result.faults
    told_um = [float(text) for text in re.findall(r"([-+]\d+\.\d+) um", said)]
    assert told_um == pytest.approx(lost_um[:2], abs=0.3)
    places = [(line.entry.x_um, line.entry.y_um) for line in result.lines]
    for target in stage.targets[-4:]:  # where the glass truly went
        off_um = [
            max(abs(target.x_um - x_um), abs(target.y_um - y_um))
            for x_um, y_um in places
        ]
        assert min(off_um) < 0.3
    check_all_captured(result)
    check_like_undisturbed(tmp_path / "scan", tmp_path / "again", setup)


@pytest.mark.slow
def test_a_stage_that_kept_its_place_is_left_alone(tmp_path: Path) -> None:
    break_off(tmp_path / "scan", 9)
    with open_scanner(scanner_config(seed=12)) as instrument:
        scan, _, _, _ = resume(tmp_path / "scan", instrument, (0.0, 0.0, 0.0))
        assert scan.resume().faults == ()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lost_um", "words"),
    [
        ((18.0, -6.0, 0.0), r"\+1[78]\.\d um in x and -[56]\.\d um in y .* 5\.0 um"),
        ((150.0, 90.0, 0.0), r"shows another picture \(correlation 0\.\d\d, at least"),
    ],
    ids=["measured", "elsewhere"],
)
def test_a_larger_loss_is_refused_and_nothing_is_lost(
    tmp_path: Path, lost_um: tuple[float, float, float], words: str
) -> None:
    root = tmp_path / "scan"
    break_off(root, 9)
    with Journal(root / "scan.sqlite") as journal:
        before = tuple(line.entry for line in journal.lines())
    with open_scanner(scanner_config()) as instrument:
        scan, _, stage, camera = resume(root, instrument, lost_um)
        with pytest.raises(ReferenceLostError, match=words) as refused:
            scan.resume()
        assert "home it" in str(refused.value)
        assert stage.stops == 1
        assert 2 <= len(camera.frames) <= 6
    with Journal(root / "scan.sqlite") as journal:
        assert tuple(line.entry for line in journal.lines()) == before
    with open_scanner(scanner_config()) as instrument:
        scan, setup, _, _ = resume(root, instrument, (0.0, 0.0, 0.0))
        check_all_captured(scan.resume())
    check_like_undisturbed(root, tmp_path / "again", setup)


@pytest.mark.slow
def test_one_shot_of_a_stack_is_compared_as_well(tmp_path: Path) -> None:
    root = tmp_path / "scan"
    with open_scanner(scanner_config()) as instrument:
        camera = RecordingCamera(
            instrument.camera, dies_after=70, error=ReferenceLostError("unplugged")
        )
        scan, _ = make_scan(instrument, root, camera=camera, strategy="stack")
        with pytest.raises(ReferenceLostError, match="unplugged"):
            scan.run()
    with open_scanner(scanner_config()) as instrument:
        stage = LostStage(instrument.stage, (0.0, 18.0, 0.0))
        scan, _ = make_scan(instrument, root, stage=stage, strategy="stack")
        with pytest.raises(ReferenceLostError, match=r"\+18\.\d um in y"):
            scan.resume()


def check_all_captured(result: ScanResult) -> None:
    assert [line.entry.status for line in result.lines] == ["captured"] * TILES
