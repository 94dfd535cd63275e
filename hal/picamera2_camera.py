"""Raspberry Pi cameras through picamera2, free-running, with every gain locked.

picamera2 comes with Raspberry Pi OS and not from PyPI. Its SensorTimestamp is on the
boot-time clock, which counts sleep; the two clocks are compared at each frame. New
controls reach the sensor frames later, so each frame must tell the exposure it had.
"""

import time
from typing import Any, Protocol

from bifocus.camera_config import Picamera2CameraConfig
from bifocus.clock import Clock
from bifocus.errors import ConfigError, DeviceError
from bifocus.hal.devices import CameraCapabilities
from bifocus.hal.frame_clock import CameraClock
from bifocus.hal.frame_memory import FrameMemory
from bifocus.hal.frame_reader import Got
from bifocus.hal.fresh_frames import BrokenFrame, RawFrame

_BUFFERS = 4


class Picamera(Protocol):
    """The calls of `picamera2.Picamera2` that are used."""

    camera_properties: dict[str, Any]

    def create_video_configuration(self, **options: Any) -> Any: ...  # noqa: D102
    def configure(self, configuration: Any) -> None: ...  # noqa: D102
    def camera_configuration(self) -> Any: ...  # noqa: D102
    def set_controls(self, controls: dict[str, Any]) -> None: ...  # noqa: D102
    def start(self) -> None: ...  # noqa: D102
    def stop(self) -> None: ...  # noqa: D102
    def capture_request(self, wait: Any = None) -> Any: ...  # noqa: D102
    def cancel_all_and_flush(self) -> None: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


class Picamera2Source:
    """A free-running `FrameSource`; the frames carry their true exposure and time."""

    is_triggered = False

    def __init__(
        self, config: Picamera2CameraConfig, camera: Picamera, *, clock: Clock
    ) -> None:
        self._config = config
        self._camera = camera
        self._clock = clock
        self._boot_clock = CameraClock()
        self._memory = FrameMemory()
        self.borrow_from = self._memory.borrow_from
        self._running = False
        model = camera.camera_properties.get("Model", "camera")
        self.capabilities = CameraCapabilities(
            kind="picamera2",
            identity=f"{model} {config.camera_number}",
            simulated=False,
            width_px=config.width_px,
            height_px=config.height_px,
        )

    def set_exposure(self, exposure_s: float) -> float:
        """Set exposure and frame time; frames still of the old one are told apart."""
        exposure_us = round(exposure_s * 1e6)
        frame_us = max(round(1e6 / self._config.frame_rate_hz), exposure_us)
        timing = {
            "ExposureTime": exposure_us,
            "FrameDurationLimits": (frame_us, frame_us),
        }
        if self._running:
            self._camera.set_controls(timing)
        else:
            self._start(timing)
        return exposure_us / 1e6

    def trigger(self) -> None:
        """Do nothing: the camera runs freely."""

    def restart(self) -> None:
        """Do nothing: no trigger can be pending."""

    def fetch(self, timeout_s: float) -> Got:
        """Return the next frame; see `FrameSource`."""
        try:
            request = self._camera.capture_request(wait=timeout_s)
        except TimeoutError:
            # The request asked for would else swallow the next frame.
            self._camera.cancel_all_and_flush()
            return None
        try:
            return self._take(request)
        finally:
            request.release()

    def close(self) -> None:
        """Stop and release the camera."""
        if self._running:
            self._camera.stop()
            self._running = False
        self._camera.close()

    def _start(self, timing: dict[str, Any]) -> None:
        config = self._config
        size = config.width_px, config.height_px
        # picamera2 names formats by their order in a 32-bit word: BGR888 is R, G, B.
        main = {"size": size, "format": "BGR888"}
        controls = {
            "AeEnable": False,
            "AwbEnable": False,
            "AnalogueGain": config.analogue_gain,
            "ColourGains": config.colour_gains,
            **timing,
        }
        plan = self._camera.create_video_configuration(
            main=main, buffer_count=_BUFFERS, queue=False, controls=controls
        )
        self._camera.configure(plan)
        got = self._camera.camera_configuration()["main"]
        if got["size"] != size or got["format"] != "BGR888":
            msg = (
                f"the camera gives {got['format']} frames of {got['size']}, asked for "
                f"were BGR888 of {size}; choose a size it has (`rpicam-hello "
                "--list-cameras`)"
            )
            raise DeviceError(msg)
        self._camera.start()
        self._running = True

    def _take(self, request: Any) -> Got:
        facts = request.get_metadata()
        if "SensorTimestamp" not in facts or "ExposureTime" not in facts:
            return BrokenFrame(reason="a frame without SensorTimestamp or ExposureTime")
        after_s = self._clock.monotonic_s()
        boot_s = time.clock_gettime_ns(time.CLOCK_BOOTTIME) / 1e9
        self._boot_clock.observe(
            boot_s, after_s=after_s, before_s=self._clock.monotonic_s()
        )
        # The stamp is the end of the first row's exposure (libcamera, SensorTimestamp).
        stamp_s = self._boot_clock.earliest_s(facts["SensorTimestamp"] / 1e9)
        exposure_s = facts["ExposureTime"] / 1e6
        array = request.make_array("main")
        pixels = self._memory.take((array.shape[0], array.shape[1]))
        pixels[...] = array
        return RawFrame(
            pixels=pixels,
            not_before_s=stamp_s - exposure_s,
            exposure_s=exposure_s,
        )


def open_picamera2_source(
    config: Picamera2CameraConfig, *, clock: Clock
) -> Picamera2Source:
    """Open a Raspberry Pi camera.

    Raises
    ------
    ConfigError
        If picamera2 is not installed.
    DeviceError
        If the camera is absent or in use.
    """
    try:
        from picamera2 import Picamera2
    except ImportError as error:
        msg = (
            "a Raspberry Pi camera needs picamera2, which comes with Raspberry Pi OS: "
            "`sudo apt install python3-picamera2`, in a venv made with "
            "--system-site-packages"
        )
        raise ConfigError(msg) from error
    try:
        camera = Picamera2(config.camera_number)
    except (IndexError, RuntimeError) as error:
        msg = (
            f"cannot open Raspberry Pi camera {config.camera_number}: {error}; look "
            "with `rpicam-hello --list-cameras`, and end other programs that use it"
        )
        raise DeviceError(msg) from error
    return Picamera2Source(config, camera, clock=clock)
