"""`--record`: what happened by a real protocol is recorded, and replays as it was."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import yaml

from bifocus.hal.open_instrument import OpenInstrument
from bifocus.hal.recording_lines import read_journal
from bifocus.hal.replay import open_replay
from tests.cli.commands import run_cli, write_instrument
from tests.hal.boards import stage_config

Opening = Callable[..., AbstractContextManager[OpenInstrument]]


@pytest.fixture(scope="module")
def serial_instrument(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small instrument, its stage an ASI controller played in this process."""
    path = tmp_path_factory.mktemp("serial") / "scanner.yaml"
    write_instrument(path)
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    mechanics = {"backlash_um": [5.0, 5.0, 3.0]}
    asi = stage_config("asi", virtual_firmware={"mechanics": mechanics})
    document["stage"] = asi.model_dump(mode="json")
    document["camera"] |= {"transfer_s": 0.0, "width_px": 128, "height_px": 128}
    document["scan"]["region_um"] = [216.0, 174.0, 50.0, 30.0]
    document["calibration"] |= {"z_start_um": 13.0, "coarse_range_um": 14.0}
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


@pytest.mark.slow
def test_a_recorded_scan_replays_to_the_same_slide(
    serial_instrument: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded, replayed, wire = tmp_path / "a", tmp_path / "b", tmp_path / "wire"
    first = run_cli("scan", serial_instrument, "-o", recorded, "--record", wire)
    assert first.code == 0, first.err
    whats = [entry.what for entry in read_journal(wire).entries]
    assert whats.count("frame") == len(list((wire / "frames").glob("*.png"))) > 4
    assert whats.count("tx") > 10

    def open_recording(*_: object, **__: object) -> object:
        return open_replay(wire)

    monkeypatch.setattr("bifocus.jobs.open_instrument", open_recording)
    again = run_cli("scan", serial_instrument, "-o", replayed)
    assert again.code == 0, again.err
    pictures = [folder / "thumbnail.jpg" for folder in (recorded, replayed)]
    assert pictures[0].read_bytes() == pictures[1].read_bytes()
    raw = [sorted((folder / "raw").iterdir()) for folder in (recorded, replayed)]
    for one, other in zip(*raw, strict=True):
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.slow
def test_hal_check_records_every_opening(
    serial_instrument: Path, tmp_path: Path
) -> None:
    wire = tmp_path / "wire"
    outcome = run_cli("hal-check", serial_instrument, "--record", wire, "--json")
    assert outcome.code == 0, outcome.out
    openings = sorted(folder.name for folder in wire.iterdir())
    assert openings[:3] == ["open-01", "open-02", "open-03"]
    with open_replay(wire / "open-01") as instrument:
        assert instrument.stage.position().x_um == 0.0


def test_a_second_recording_in_one_folder_is_refused(
    serial_instrument: Path, tmp_path: Path
) -> None:
    (tmp_path / "wire").mkdir()
    (tmp_path / "wire" / "journal.jsonl").write_text("", encoding="utf-8")
    arguments = ("-o", tmp_path / "scan", "--record", tmp_path / "wire")
    outcome = run_cli("scan", serial_instrument, *arguments)
    assert outcome.fails(1, "holds a recording already")
