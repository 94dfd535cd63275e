"""A quick stage on the real clock, to go with cameras that live in real time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bifocus.camera_config import RealCameraConfig
from bifocus.clock import RealClock
from bifocus.hal.fresh_frames import FrameSource, FreshCamera
from bifocus.hal.open_camera import SourceConfig, open_source
from bifocus.hal.virtual_stage import VirtualStage
from bifocus.stage_config import VirtualStageConfig

STAGE = VirtualStageConfig(
    kind="virtual",
    x_um=(0.0, 1000.0),
    y_um=(0.0, 800.0),
    z_um=(0.0, 300.0),
    speed_um_per_s=(2000.0, 2000.0, 2000.0),
    acceleration_um_per_s2=(1e5, 1e5, 1e5),
    step_um=(0.1, 0.1, 0.05),
    command_s=0.0,
    settle_s=0.01,
)


def quick_stage() -> VirtualStage:
    return VirtualStage(STAGE, clock=RealClock(), seed=3)


@contextmanager
def opened(source: FrameSource, config: RealCameraConfig) -> Iterator[FreshCamera]:
    """Yield the source as a camera, and close it."""
    stage = quick_stage()
    camera = FreshCamera(source, config, clock=RealClock(), position=stage.position)
    try:
        yield camera
    finally:
        camera.close()


@contextmanager
def opened_config(config: SourceConfig) -> Iterator[FreshCamera]:
    """Yield the camera that a section of an instrument file describes."""
    source = open_source(config, base_dir=Path(), clock=RealClock())
    with opened(source, config) as camera:
        yield camera
