"""Any camera of Micro-Manager: one exposure for each grab, never from its live stream.

Snapping blocks inside the adapter without a deadline, so a thread of its own does it.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from bifocus.camera_config import MicroManagerCameraConfig
from bifocus.clock import Clock
from bifocus.errors import ConfigError, DeviceTimeoutError
from bifocus.hal.devices import CameraCapabilities
from bifocus.hal.frame_memory import NEW_MEMORY, FrameMemory
from bifocus.hal.frame_reader import FrameReader, Got
from bifocus.hal.fresh_frames import RawFrame
from bifocus.hal.micromanager_core import CoreLease, lease_core
from bifocus.records import UInt8Image

_POLL_S = 0.01


class MicroManagerSource:
    """A triggered `FrameSource` over `snapImage`."""

    is_triggered = True

    def __init__(
        self, config: MicroManagerCameraConfig, lease: CoreLease, clock: Clock
    ) -> None:
        self._config = config
        self._clock = clock
        self._lease = lease
        self._memory = FrameMemory()
        self.borrow_from = self._memory.borrow_from
        core, label = lease.core, config.device
        lease.check_loaded(label, key="camera.device")
        core.setCameraDevice(label)
        if core.isSequenceRunning(label):
            core.stopSequenceAcquisition(label)
        # A shutter that opens for each frame would light it late.
        core.setAutoShutter(False)
        if core.hasProperty(label, "PixelType"):
            _set_pixel_type(lease, config)
        _centre_region(lease, config)
        self.capabilities = CameraCapabilities(
            kind="micromanager",
            identity=lease.identity(label),
            simulated=lease.is_simulated(label),
            width_px=config.width_px,
            height_px=config.height_px,
        )
        name = f"camera '{self.capabilities.identity}'"
        self._pending = 0
        self._reader = FrameReader(self._snap, name=name, continuous=False)

    def set_exposure(self, exposure_s: float) -> float:
        """Set the exposure and return the one in force."""
        core, label = self._lease.core, self._config.device
        core.setExposure(label, exposure_s * 1e3)
        return float(core.getExposure(label)) / 1e3

    def trigger(self) -> None:
        """Begin one snap."""
        self._pending += 1
        self._reader.request()

    def fetch(self, timeout_s: float) -> Got:
        """Return the frame of the snap; see `FrameSource`."""
        got = self._reader.fetch(timeout_s)
        self._pending -= got is not None
        return got

    def restart(self) -> None:
        """Wait for a snap that overran its deadline, and drop its frame.

        Raises
        ------
        DeviceTimeoutError
            If it still hangs.
        """
        deadline_s = self._clock.monotonic_s() + self._config.timeout_s
        while self._pending:
            if self._clock.monotonic_s() > deadline_s:
                msg = (
                    f"the camera '{self.capabilities.identity}' hangs in its adapter "
                    "since an earlier exposure; restart this program, then its power"
                )
                raise DeviceTimeoutError(msg)
            self.fetch(_POLL_S)

    def close(self) -> None:
        """End the thread, then give the core back."""
        if self._reader.close():
            self._lease.close()

    def _snap(self, is_wanted: Callable[[], bool]) -> Got:
        core = self._lease.core
        begin_s = self._clock.monotonic_s()
        core.setCameraDevice(self._config.device)
        core.snapImage()
        return RawFrame(
            pixels=as_rgb(core.getImage(), self._memory), not_before_s=begin_s
        )


def open_micromanager_source(
    config: MicroManagerCameraConfig, *, base_dir: Path, clock: Clock
) -> MicroManagerSource:
    """Open a camera of Micro-Manager."""
    lease = lease_core(config.core, base_dir=base_dir)
    try:
        return MicroManagerSource(config, lease, clock)
    except BaseException:
        lease.close()
        raise


def as_rgb(
    image: np.ndarray,  # type: ignore[type-arg]
    memory: FrameMemory = NEW_MEMORY,
) -> UInt8Image:
    """Return 8-bit grey as it is, and packed BGRA (HxW uint32) as HxWx3 RGB.

    Raises
    ------
    ConfigError
        For deeper pixels, which would have to be scaled by guessing.
    """
    if image.dtype == np.uint8 and image.ndim == 2:
        return np.array(image)
    if image.dtype == np.uint32 and image.ndim == 2:
        bgra = np.ascontiguousarray(image).view(np.uint8)
        pixels = memory.take((image.shape[0], image.shape[1]))
        pixels[...] = bgra.reshape(*image.shape, 4)[..., 2::-1]
        return pixels
    msg = (
        f"the camera gives {image.dtype} pixels of shape {image.shape}; set "
        "`pixel_format:` to its name for 8-bit grey (8bit) or colour (32bitRGB)"
    )
    raise ConfigError(msg)


def _centre_region(lease: CoreLease, config: MicroManagerCameraConfig) -> None:
    """Cut the region out of the middle of the sensor, where the optical axis is."""
    core, label = lease.core, config.device
    core.clearROI()
    full_px = core.getImageWidth(), core.getImageHeight()
    wanted_px = config.width_px, config.height_px
    if wanted_px[0] > full_px[0] or wanted_px[1] > full_px[1]:
        msg = f"the camera has {full_px} px, its section asks for {wanted_px} px"
        raise ConfigError(msg)
    if wanted_px != full_px:
        x_px, y_px = (
            (full - wanted) // 2
            for full, wanted in zip(full_px, wanted_px, strict=True)
        )
        core.setROI(label, x_px, y_px, *wanted_px)


def _set_pixel_type(lease: CoreLease, config: MicroManagerCameraConfig) -> None:
    core, label = lease.core, config.device
    allowed = list(core.getAllowedPropertyValues(label, "PixelType"))
    if config.pixel_format not in allowed:
        msg = f"pixel_format '{config.pixel_format}': this camera has {allowed}"
        raise ConfigError(msg)
    core.setProperty(label, "PixelType", config.pixel_format)
