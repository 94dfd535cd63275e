"""Opens a recording as if it were the instrument it was made with.

::

    with open_replay(Path("bug-417")) as instrument:
        instrument.stage.move_to(...)  # the same calls, the same answers

The driver's own code runs; only the far ends of its cables are recorded.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bifocus.clock import VirtualClock
from bifocus.config import Instrument
from bifocus.config_model import parse_model
from bifocus.errors import ConfigError
from bifocus.hal.open_instrument import OpenInstrument
from bifocus.hal.open_stage import open_serial_stage
from bifocus.hal.recording_lines import read_journal
from bifocus.hal.replay_camera import ReplayCamera
from bifocus.hal.replay_link import ReplayLink
from bifocus.stage_config import SerialStageConfig


@contextmanager
def open_replay(folder: Path) -> Iterator[OpenInstrument]:
    """Open the stage and the camera of a recording, on a virtual clock.

    Raises
    ------
    ConfigError
        If there is no recording in the folder, it is damaged before its last line, or
        its stage had no serial port.
    ReplayError
        If the recording ends while the stage is being opened.
    """
    journal = read_journal(folder)
    source = str(folder / "journal.jsonl: instrument")
    config = parse_model(
        Instrument, journal.start.fields.get("instrument"), source=source
    )
    if not isinstance(config.stage, SerialStageConfig):
        msg = (
            f"{folder}: its stage is of kind '{config.stage.kind}', which has no "
            "serial port; only what passes through one can be replayed"
        )
        raise ConfigError(msg)
    clock = VirtualClock(start_s=journal.start.at_s)
    with ExitStack() as devices:
        link = ReplayLink(journal, clock)
        stage = open_serial_stage(config.stage, link, clock=clock)
        devices.callback(stage.close)
        camera = ReplayCamera(journal, clock)
        devices.callback(camera.close)
        yield OpenInstrument(
            stage=stage, camera=camera, clock=clock, config=config, truth=None
        )
