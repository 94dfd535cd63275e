"""Opens the instrument that an instrument file describes, and closes it again.

::

    config = load_instrument(path)
    with open_instrument(config, base_dir=path.parent) as instrument:
        receipt = instrument.stage.move_to(target)
        frame = instrument.camera.grab(after=receipt)
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bifocus.clock import Clock, RealClock, VirtualClock
from bifocus.config import Instrument
from bifocus.errors import ConfigError
from bifocus.hal.defocus_render import DefocusRenderer
from bifocus.hal.devices import Camera, Stage
from bifocus.hal.open_stage import open_stage
from bifocus.hal.sensor import Sensor
from bifocus.hal.tissue_source import load_tissue
from bifocus.hal.virtual_camera import VirtualCamera
from bifocus.hal.virtual_slide import SlideTruth
from bifocus.hal.virtual_truth import VirtualTruth


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenInstrument:
    """An instrument in use; `truth` is there only when everything is virtual."""

    stage: Stage
    camera: Camera
    clock: Clock
    config: Instrument
    truth: VirtualTruth | None


@contextmanager
def open_instrument(
    config: Instrument, *, base_dir: Path, clock: Clock | None = None
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

    Raises
    ------
    ConfigError
        If the virtual slide's tissue cannot be read.
    """
    chosen = clock or (VirtualClock() if config.clock == "virtual" else RealClock())
    instrument = _open_virtual(config, base_dir, chosen)
    try:
        yield instrument
    finally:
        instrument.stage.stop()
        instrument.stage.close()
        instrument.camera.close()


def _open_virtual(config: Instrument, base_dir: Path, clock: Clock) -> OpenInstrument:
    if config.virtual_slide is None:
        msg = f"instrument '{config.name}': a virtual camera needs `virtual_slide:`"
        raise ConfigError(msg)
    optics, slide_config = config.optics, config.virtual_slide
    tissue = load_tissue(
        slide_config.tissue, tone_curve=optics.tone_curve, base_dir=base_dir
    )
    slide = SlideTruth(slide_config, tissue, pixel_um=optics.pixel_um, seed=config.seed)
    renderer = DefocusRenderer(
        slide,
        optics,
        (config.camera.height_px, config.camera.width_px),
        spherical_waves=slide_config.spherical_waves,
    )
    sensor = Sensor(
        full_well_e=config.camera.full_well_e,
        read_noise_e=config.camera.read_noise_e,
        white_level=config.camera.white_level,
        falloff=config.camera.falloff,
        tone_curve=optics.tone_curve,
    )
    opened = open_stage(config.stage, clock=clock, seed=config.seed)
    if opened.poses is None:
        msg = f"instrument '{config.name}': a virtual camera cannot see a real stage"
        raise ConfigError(msg)
    camera = VirtualCamera(
        config.camera,
        renderer=renderer,
        sensor=sensor,
        poses=opened.poses,
        clock=clock,
        seed=config.seed,
    )
    truth = VirtualTruth(
        slide=slide,
        renderer=renderer,
        sensor=sensor,
        tissue_description=tissue.description,
        true_pose_at=opened.poses.true_pose_at,
    )
    return OpenInstrument(
        stage=opened.stage, camera=camera, clock=clock, config=config, truth=truth
    )
