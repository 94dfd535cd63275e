"""Opens the instrument that an instrument file describes, and closes it again.

::

    config = load_instrument(path)
    with open_instrument(config, base_dir=path.parent) as instrument:
        receipt = instrument.stage.move_to(target)
        frame = instrument.camera.grab(after=receipt)
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bifocus.clock import Clock, RealClock, VirtualClock
from bifocus.config import Instrument
from bifocus.hal.devices import Camera, Stage
from bifocus.hal.open_camera import open_camera
from bifocus.hal.open_stage import WrapLink, open_stage
from bifocus.hal.recording import RecordedCamera, Recorder
from bifocus.hal.virtual_truth import VirtualTruth


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenInstrument:
    """An instrument in use; `truth` is there only where the camera is virtual."""

    stage: Stage
    camera: Camera
    clock: Clock
    config: Instrument
    truth: VirtualTruth | None


@contextmanager
def open_instrument(
    config: Instrument,
    *,
    base_dir: Path,
    clock: Clock | None = None,
    record: Path | None = None,
    wrap_link: WrapLink | None = None,
) -> Iterator[OpenInstrument]:
    """Open stage and camera; on leaving, stop the stage and close both.

    Parameters
    ----------
    config
        The checked instrument file.
    base_dir
        Folder of the instrument file; relative paths in it start here.
    clock
        Overrides the file's `clock:`, for tests.
    record
        Folder for a recording of the wire and the frames, for `open_replay`.
    wrap_link
        Is put between the stage's driver and its port.

    Raises
    ------
    ConfigError
        If the virtual slide's tissue cannot be read, or a driver is not installed.
    DeviceError
        If stage or camera are absent, busy or silent.
    """
    chosen = clock or (VirtualClock() if config.clock == "virtual" else RealClock())
    with ExitStack() as devices:
        recorder = None
        if record is not None:
            recorder = devices.enter_context(Recorder(record, config, chosen))
        opened = open_stage(
            config.stage,
            clock=chosen,
            seed=config.seed,
            base_dir=base_dir,
            observer=recorder,
            wrap_link=wrap_link,
        )
        devices.callback(opened.stage.close)
        seen = open_camera(
            config,
            base_dir=base_dir,
            clock=chosen,
            stage=opened.stage,
            poses=opened.poses,
        )
        devices.callback(seen.camera.close)
        devices.callback(opened.stage.stop)  # first of all
        camera = RecordedCamera(seen.camera, recorder) if recorder else seen.camera
        yield OpenInstrument(
            stage=opened.stage,
            camera=camera,
            clock=chosen,
            config=config,
            truth=seen.truth,
        )
