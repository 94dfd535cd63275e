"""A recording replays as the instrument: the same calls give the same answers."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bifocus.clock import FakeClock, VirtualClock
from bifocus.config import Instrument
from bifocus.errors import (
    BifocusError,
    ConfigError,
    DeviceError,
    ImageFileError,
    LinkLostError,
    ReplayError,
    SlideFileError,
)
from bifocus.hal.devices import Camera, Stage
from bifocus.hal.faulty_link import FaultyLink
from bifocus.hal.open_instrument import OpenInstrument
from bifocus.hal.open_stage import open_serial_stage
from bifocus.hal.recording import RecordedCamera, Recorder
from bifocus.hal.recording_lines import JOURNAL, read_journal
from bifocus.hal.replay import open_replay
from bifocus.hal.shared_firmware import SharedFirmware
from bifocus.hal.virtual_link import VirtualLink
from bifocus.records import StagePosition
from bifocus.stage_config import AnySerialStage
from tests.hal.boards import make_board, stage_config
from tests.hal.conftest import ConfigMaker, Opener

Program = Callable[[Stage], object]
KINDS = ("sangaboard", "grbl", "marlin", "asi")


def place(x_um: float, z_um: float = 0.0) -> StagePosition:
    return StagePosition(x_um=x_um, y_um=0.0, z_um=z_um)


def there_and_back(stage: Stage) -> object:
    first = stage.move_to(place(40.0, 5.0))
    stage.move_to(place(90.0, 5.0), wait=False)
    stage.stop()
    return first, stage.position(), stage.move_to(place(0.0))


def as_instrument(make_config: ConfigMaker, stage: AnySerialStage) -> Instrument:
    return make_config().model_copy(update={"stage": stage})


def record(
    folder: Path,
    config: Instrument,
    program: Program,
    *,
    fault: Callable[[FaultyLink], None] = lambda link: None,
) -> object:
    """Run a program on a virtual board; return its result, or the error it raised."""
    assert config.stage.kind in KINDS
    clock = VirtualClock(start_s=500.0)
    board = make_board(config.stage, config.stage.kind, clock)  # type: ignore[arg-type]
    link = FaultyLink(
        VirtualLink(SharedFirmware(board, clock=clock)), error_reply=b"error:9\r\n"
    )
    with Recorder(folder, config, clock) as recorder:
        stage = open_serial_stage(
            config.stage,  # type: ignore[arg-type]
            link,
            clock=clock,
            observer=recorder,
        )
        fault(link)
        result = outcome(program, stage)
        stage.close()
    return result


def outcome(program: Program, stage: Stage) -> object:
    try:
        return program(stage)
    except DeviceError as error:
        return type(error), str(error)


def replayed(folder: Path, program: Program) -> object:
    with open_replay(folder) as instrument:
        return outcome(program, instrument.stage)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_program_has_the_same_result_at_the_same_times(
    kind: str, make_config: ConfigMaker, tmp_path: Path
) -> None:
    config = as_instrument(make_config, stage_config(kind))
    before = record(tmp_path, config, there_and_back)
    assert not isinstance(before, tuple) or before[0] is not DeviceError
    assert replayed(tmp_path, there_and_back) == before


@pytest.mark.parametrize(
    "fault",
    [
        lambda link: link.lose_reply(2),
        lambda link: link.refuse(2),
        lambda link: link.silence(2),
        lambda link: link.unplug(),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_trouble_in_the_field_is_the_same_trouble_in_the_replay(
    kind: str,
    fault: Callable[[FaultyLink], None],
    make_config: ConfigMaker,
    tmp_path: Path,
) -> None:
    def program(stage: Stage) -> object:
        return stage.move_to(place(40.0))

    config = as_instrument(make_config, stage_config(kind))
    before = record(tmp_path, config, program, fault=fault)
    after = replayed(tmp_path, program)
    if isinstance(before, tuple) and before[0] is LinkLostError:
        assert isinstance(after, tuple)
        assert after[0] is LinkLostError  # its text says that it is a replay
    else:
        assert after == before


def test_another_program_is_refused_with_both_lines(
    make_config: ConfigMaker, tmp_path: Path
) -> None:
    config = as_instrument(make_config, stage_config("grbl"))
    record(tmp_path, config, lambda stage: stage.move_to(place(40.0)))
    told = r"sends b'\$J=.*but b'\$J=.*was sent in line \d+"
    with (
        pytest.raises(ReplayError, match=told),
        open_replay(tmp_path) as instrument,
    ):
        instrument.stage.move_to(place(41.0))


def test_what_goes_on_past_the_end_is_told_where_it_ends(
    make_config: ConfigMaker, tmp_path: Path
) -> None:
    config = as_instrument(make_config, stage_config("marlin"))
    record(tmp_path, config, lambda stage: stage.position())
    with open_replay(tmp_path) as instrument:
        instrument.stage.position()
        with pytest.raises(ReplayError, match=r"recording ends at line \d+, \d.*s;"):
            instrument.stage.move_to(place(3.0))


@pytest.mark.parametrize("share", [0.1, 0.35, 0.6, 0.9])
def test_a_recording_cut_short_replays_up_to_its_end(
    make_config: ConfigMaker, tmp_path: Path, share: float
) -> None:
    """As after a power cut: at any byte."""
    config = as_instrument(make_config, stage_config("asi"))
    record(tmp_path, config, there_and_back)
    path = tmp_path / JOURNAL
    whole = path.read_bytes()
    start = whole.index(b"\n") + 1
    cut = start + int(share * (len(whole) - start))
    while whole[cut - 1 : cut] == b"\n":
        cut += 1
    path.write_bytes(whole[:cut])
    assert read_journal(tmp_path).is_cut
    with (
        pytest.raises(ReplayError, match="cut short there, as by a power cut"),
        open_replay(tmp_path) as instrument,
    ):
        there_and_back(instrument.stage)


def test_a_damaged_line_in_the_middle_is_named(
    make_config: ConfigMaker, tmp_path: Path
) -> None:
    config = as_instrument(make_config, stage_config("asi"))
    record(tmp_path, config, there_and_back)
    path = tmp_path / JOURNAL
    lines = path.read_text(encoding="utf-8").splitlines(True)
    lines[3] = lines[3][:10] + "\n"
    path.write_text("".join(lines), encoding="utf-8")
    with pytest.raises(ConfigError, match="line 4 is damaged"):
        read_journal(tmp_path)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "no start"),
        ('{"what": "tx", "at_s": 1, "data": "?"}\n', "no start"),
        ('{"what": "start", "at_s": 1, "version": 9}\n', "version 9"),
        ('{"what": "dance", "at_s": 1}\n', "line 1 is damaged"),
        ("[1, 2]\n", "line 1 is damaged"),
    ],
)
def test_what_is_no_recording(tmp_path: Path, text: str, word: str) -> None:
    (tmp_path / JOURNAL).write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=word):
        read_journal(tmp_path)


def test_no_recording_and_no_second_one(
    make_config: ConfigMaker, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        read_journal(tmp_path)
    config = make_config()
    Recorder(tmp_path, config, FakeClock()).close()
    with pytest.raises(SlideFileError, match="holds a recording already"):
        Recorder(tmp_path, config, FakeClock())


def test_a_stage_without_a_wire_cannot_be_replayed(
    make_config: ConfigMaker, tmp_path: Path
) -> None:
    Recorder(tmp_path, make_config(), FakeClock()).close()
    with pytest.raises(ConfigError, match="kind 'virtual'"), open_replay(tmp_path):
        pass


def test_the_journal_holds_every_byte_and_no_password(
    make_config: ConfigMaker, tmp_path: Path
) -> None:
    config = as_instrument(make_config, stage_config("grbl"))
    stage = config.stage.model_copy(update={"port": "socket://me:hunter2@board:23"})
    config = config.model_copy(update={"stage": stage})
    every_byte = bytes(range(256))
    with Recorder(tmp_path, config, FakeClock()) as recorder:
        recorder.exchange("rx", every_byte, 1.0)
    assert "hunter2" not in (tmp_path / JOURNAL).read_text(encoding="utf-8")
    assert read_journal(tmp_path).entries[0].data == every_byte


def record_frames(
    make_config: ConfigMaker, instrument: OpenInstrument, folder: Path
) -> list[object]:
    """Frames of the virtual camera, in a recording that has a serial stage too."""
    config = as_instrument(make_config, stage_config("asi"))
    clock = instrument.clock
    board = make_board(config.stage, "asi", clock)  # type: ignore[arg-type]
    link = VirtualLink(SharedFirmware(board, clock=clock))
    with Recorder(folder, config, clock) as recorder:
        open_serial_stage(
            config.stage,  # type: ignore[arg-type]
            link,
            clock=clock,
            observer=recorder,
        ).close()
        camera = RecordedCamera(instrument.camera, recorder)
        return grab_three(camera, instrument.stage)


def grab_three(camera: Camera, stage: Stage | None = None) -> list[object]:
    found = [camera.grab()]
    if stage is not None:
        found.append(camera.grab(after=stage.move_to(stage.position())))
    else:
        found.append(camera.grab())
    found.append(camera.grab())
    return list(found)


def test_frames_come_back_with_their_pixels_and_times(
    make_config: ConfigMaker, open_small: Opener, tmp_path: Path
) -> None:
    before = record_frames(make_config, open_small(), tmp_path)
    with open_replay(tmp_path) as instrument:
        after = grab_three(instrument.camera)
        for old, new in zip(before, after, strict=True):
            np.testing.assert_array_equal(old.pixels, new.pixels)  # type: ignore[attr-defined]
            for name in ("exposure_start_s", "exposure_end_s", "pose"):
                assert getattr(old, name) == getattr(new, name)
        assert instrument.camera.capabilities.simulated
        assert instrument.clock.monotonic_s() >= new.exposure_end_s  # type: ignore[attr-defined]
        with pytest.raises(ReplayError, match="no frame after number 3"):
            instrument.camera.grab()


def test_a_grab_that_is_later_than_it_was_stays_fresh(
    make_config: ConfigMaker, open_small: Opener, tmp_path: Path
) -> None:
    small = open_small()
    record_frames(make_config, small, tmp_path)
    with open_replay(tmp_path) as instrument:
        instrument.camera.grab()
        instrument.clock.sleep(30.0)
        receipt = small.stage.move_to(small.stage.position())
        late = receipt.settled_s + 40.0
        receipt = dataclasses.replace(receipt, settled_s=late)
        assert instrument.camera.grab(after=receipt).exposure_start_s >= late


@pytest.mark.parametrize("damage", ["gone", "empty", "cut"])
def test_a_picture_that_is_gone_or_damaged_is_named(
    make_config: ConfigMaker, open_small: Opener, tmp_path: Path, damage: str
) -> None:
    record_frames(make_config, open_small(), tmp_path)
    picture = tmp_path / "frames/000000.png"
    if damage == "gone":
        picture.unlink()
    else:
        kept = picture.read_bytes()[:20] if damage == "cut" else b""
        picture.write_bytes(kept)
    with (
        open_replay(tmp_path) as instrument,
        pytest.raises(ImageFileError, match=r"000000\.png"),
    ):
        instrument.camera.grab()


def test_a_full_disk_stops_the_work_with_a_word(
    make_config: ConfigMaker, tmp_path: Path
) -> None:
    class FullDisk:
        closed = False

        def write(self, text: str) -> None:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            return None

    recorder = Recorder(tmp_path, make_config(), FakeClock())
    recorder.close()
    recorder._stream = FullDisk()  # type: ignore[assignment]
    with pytest.raises(BifocusError, match="No space left on device"):
        recorder.exchange("tx", b"?", 1.0)


def test_an_error_is_recorded(make_config: ConfigMaker, tmp_path: Path) -> None:
    with (
        pytest.raises(LinkLostError),
        Recorder(tmp_path, make_config(), FakeClock()),
    ):
        raise LinkLostError("the cable is out")
    *_, event, end = (tmp_path / JOURNAL).read_text(encoding="utf-8").splitlines()
    assert json.loads(event)["data"] == "ended by LinkLostError: the cable is out"
    assert json.loads(end)["data"] == "end"
