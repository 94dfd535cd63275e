"""Opens the camera that the instrument file describes; loads only its driver.

No driver falls back to a simulation: what is missing is an error that says what to
install, and only a camera on the virtual slide needs a virtual slide.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bifocus.camera_config import (
    AravisCameraConfig,
    BaslerCameraConfig,
    GStreamerCameraConfig,
    MicroManagerCameraConfig,
    OpenCvCameraConfig,
    Picamera2CameraConfig,
    VirtualCameraConfig,
    VirtualSensor,
)
from bifocus.clock import Clock, VirtualClock
from bifocus.config import Instrument, Optics
from bifocus.errors import ConfigError
from bifocus.hal.defocus_render import DefocusRenderer
from bifocus.hal.devices import Camera, Stage
from bifocus.hal.fresh_frames import FrameSource, FreshCamera
from bifocus.hal.sensor import Sensor
from bifocus.hal.tissue_source import load_tissue
from bifocus.hal.virtual_camera import PoseSource, VirtualCamera
from bifocus.hal.virtual_slide import SlideTruth
from bifocus.hal.virtual_truth import VirtualTruth
from bifocus.records import UInt8Image
from bifocus.transfer import Light

SourceConfig = (
    OpenCvCameraConfig
    | GStreamerCameraConfig
    | BaslerCameraConfig
    | Picamera2CameraConfig
    | MicroManagerCameraConfig
    | AravisCameraConfig
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenCamera:
    """A camera in use; `truth` is there only when it looks at the virtual slide."""

    camera: Camera
    truth: VirtualTruth | None


def open_camera(
    config: Instrument,
    *,
    base_dir: Path,
    clock: Clock,
    stage: Stage,
    poses: PoseSource | None,
) -> OpenCamera:
    """Open the camera and lock its exposure.

    Parameters
    ----------
    config
        The whole instrument file.
    base_dir
        Folder of the instrument file; relative paths in it start here.
    clock
        The instrument's clock; only a virtual camera can live on a virtual one.
    stage
        The open stage; a frame without a receipt carries what it reports.
    poses
        Where the virtual glass truly is; None with a real stage.

    Raises
    ------
    ConfigError
        If a package or a library is missing, or the file does not fit the camera.
    DeviceError
        If the camera is absent, busy, or refuses its settings.
    """
    camera = config.camera
    if isinstance(camera, VirtualCameraConfig):
        truth, sensor = _make_truth(config, camera, base_dir, poses)
        virtual = VirtualCamera(
            camera,
            renderer=truth.renderer,
            sensor=sensor,
            poses=_needed(poses, config),
            clock=clock,
            seed=config.seed,
        )
        return OpenCamera(camera=virtual, truth=truth)
    if isinstance(clock, VirtualClock):
        msg = (
            f"camera kind '{camera.kind}' works in real time: set `clock: real` in "
            f"instrument '{config.name}'"
        )
        raise ConfigError(msg)
    if isinstance(camera, AravisCameraConfig) and camera.needs_virtual_slide:
        return _open_loopback(config, camera, base_dir, clock, stage, poses)
    source = open_source(camera, base_dir=base_dir, clock=clock)
    if source.capabilities.simulated and not camera.is_simulated:
        source.close()
        msg = (
            f"camera '{source.capabilities.identity}' is a simulation; if that is "
            "meant, say so by `simulated: true` under `camera:`"
        )
        raise ConfigError(msg)
    fresh = FreshCamera(source, camera, clock=clock, position=stage.position)
    return OpenCamera(camera=fresh, truth=None)


def open_source(config: SourceConfig, *, base_dir: Path, clock: Clock) -> FrameSource:
    """Open the driver of one real camera; optional packages are imported here."""
    if isinstance(config, OpenCvCameraConfig):
        from bifocus.hal.opencv_camera import open_opencv_source

        return open_opencv_source(config, clock=clock)
    if isinstance(config, GStreamerCameraConfig):
        from bifocus.hal.opencv_camera import open_gstreamer_source

        return open_gstreamer_source(config, clock=clock)
    if isinstance(config, BaslerCameraConfig):
        from bifocus.hal.pypylon_camera import open_basler_source

        return open_basler_source(config, clock=clock)
    if isinstance(config, Picamera2CameraConfig):
        from bifocus.hal.picamera2_camera import open_picamera2_source

        return open_picamera2_source(config, clock=clock)
    if isinstance(config, MicroManagerCameraConfig):
        from bifocus.hal.micromanager_camera import open_micromanager_source

        return open_micromanager_source(config, base_dir=base_dir, clock=clock)
    from bifocus.hal.aravis_camera import AravisSource

    return AravisSource(config, address=config.address, clock=clock)


def _open_loopback(
    config: Instrument,
    camera: AravisCameraConfig,
    base_dir: Path,
    clock: Clock,
    stage: Stage,
    poses: PoseSource | None,
) -> OpenCamera:
    """Serve the virtual slide as a GigE camera on loopback, and open that camera."""
    from bifocus.hal.aravis_camera import AravisSource
    from bifocus.hal.gige_fake import LOOPBACK, GigeFake

    truth, sensor = _make_truth(config, camera, base_dir, poses)
    rng = np.random.default_rng([config.seed, 0x616E])

    def render(start_s: float, exposure_s: float) -> UInt8Image:
        pose = truth.true_pose_at(start_s + exposure_s / 2)
        light = truth.renderer.render(pose.x_um, pose.y_um, pose.z_um)
        return sensor.expose(light, rng, exposure_s / camera.exposure_s)

    server = GigeFake(render, clock=clock)
    try:
        source = AravisSource(camera, address=LOOPBACK, clock=clock, server=server)
    except BaseException:
        server.close()
        raise
    fresh = FreshCamera(source, camera, clock=clock, position=stage.position)
    return OpenCamera(camera=fresh, truth=truth)


def _make_truth(
    config: Instrument,
    camera: VirtualCameraConfig | AravisCameraConfig,
    base_dir: Path,
    poses: PoseSource | None,
) -> tuple[VirtualTruth, Sensor]:
    slide_config, optics = config.virtual_slide, _true_optics(config)
    if slide_config is None:
        msg = f"instrument '{config.name}': a virtual camera needs `virtual_slide:`"
        raise ConfigError(msg)
    tissue = load_tissue(
        slide_config.tissue,
        tone_curve=optics.tone_curve,
        pixel_um=slide_config.pixel_um,
        base_dir=base_dir,
    )
    virtual = config.virtual_optics
    slide = SlideTruth(
        slide_config,
        tissue,
        pixel_um=virtual.pixel_um or optics.pixel_um,
        seed=config.seed,
        rotation_mrad=virtual.rotation_mrad,
        mirror=virtual.mirror,
    )
    spherical_waves = config.virtual_optics.spherical_waves
    if spherical_waves is None:
        spherical_waves = slide_config.spherical_waves
    renderer = DefocusRenderer(
        slide,
        optics,
        (camera.height_px, camera.width_px),
        spherical_waves=spherical_waves,
        light=_true_light(config, spherical_waves),
    )
    facts: VirtualSensor = (
        camera.sensor if isinstance(camera, AravisCameraConfig) else camera
    )
    sensor = Sensor(
        full_well_e=facts.full_well_e,
        read_noise_e=facts.read_noise_e,
        white_level=facts.white_level,
        falloff=facts.falloff,
        falloff_middle=facts.falloff_middle,
        white_balance=facts.white_balance,
        dark_level=facts.dark_level,
        is_lamp_on=facts.lamp == "on",
        tone_curve=facts.tone_curve or optics.tone_curve,
    )
    truth = VirtualTruth(
        slide=slide,
        renderer=renderer,
        sensor=sensor,
        tissue_description=tissue.description,
        true_pose_at=_needed(poses, config).true_pose_at,
        glass_for=_needed(poses, config).glass_for,
        commanded_for=_needed(poses, config).commanded_for,
        z_drift_um=_needed(poses, config).z_drift_um,
    )
    return truth, sensor


def _true_optics(config: Instrument) -> Optics:
    """Return what the file says, but where the virtual optics truly differ."""
    na = config.virtual_optics.na
    return config.optics if na is None else config.optics.model_copy(update={"na": na})


def _true_light(config: Instrument, spherical_waves: float) -> Light | None:
    """Return the light of a partially coherent virtual instrument, else None."""
    virtual = config.virtual_optics
    if virtual.condenser is None:
        return None
    return Light(
        condenser=virtual.condenser,
        phase_ratio=virtual.phase_ratio,
        spherical_waves=spherical_waves,
        pupil=config.optics.pupil,
    )


def _needed(poses: PoseSource | None, config: Instrument) -> PoseSource:
    if poses is None:
        msg = (
            f"instrument '{config.name}': a virtual camera cannot see a real stage; "
            "use a virtual stage, or the virtual firmware's"
        )
        raise ConfigError(msg)
    return poses
