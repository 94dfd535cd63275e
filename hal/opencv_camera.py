"""UVC/V4L2 cameras, network streams and GStreamer pipelines, read through OpenCV.

A thread takes every frame as it comes, so that OpenCV's and the driver's queues hold no
past; only frames that somebody waits for are decoded.
"""

from collections.abc import Callable
from typing import Protocol, cast

import cv2

from bifocus.camera_config import GStreamerCameraConfig, OpenCvCameraConfig
from bifocus.clock import Clock
from bifocus.errors import ConfigError, DeviceError
from bifocus.hal.devices import CameraCapabilities
from bifocus.hal.frame_clock import ArrivalClock, MonotonicStamps
from bifocus.hal.frame_memory import FrameMemory
from bifocus.hal.frame_reader import FrameReader, Got
from bifocus.hal.fresh_frames import BrokenFrame, RawFrame
from bifocus.hal.v4l2_controls import lock_controls, set_exposure
from bifocus.records import UInt8Image

# NVIDIA's source for CSI cameras: exposure and gains locked, white balance that of its
# daylight preset (5; locking the automatic one would keep what each start happens to
# find), newest frame only. Written from NVIDIA's documentation; never run by us.
JETSON_PIPELINE = (
    "nvarguscamerasrc sensor-id=0 wbmode=5 aelock=true "
    'exposuretimerange="{exposure_ns} {exposure_ns}" gainrange="1 1" '
    'ispdigitalgainrange="1 1" tnr-mode=0 ee-mode=0 ! '
    "video/x-raw(memory:NVMM),width={width_px},height={height_px},"
    "framerate={frame_rate_hz}/1,format=NV12 ! "
    "nvvidconv ! video/x-raw,format=BGRx ! videoconvert ! video/x-raw,format=BGR ! "
    "appsink drop=true max-buffers=1 sync=false"
)


class Capture(Protocol):
    """The calls of `cv2.VideoCapture` that are used."""

    def isOpened(self) -> bool: ...  # noqa: D102, N802
    def grab(self) -> bool: ...  # noqa: D102
    def retrieve(self) -> tuple[bool, UInt8Image]: ...  # noqa: D102
    def get(self, prop: int) -> float: ...  # noqa: D102
    def set(self, prop: int, value: float) -> bool: ...  # noqa: D102
    def release(self) -> None: ...  # noqa: D102


class OpenCvSource:
    """A free-running `FrameSource`; `open_capture` opens the stream at an exposure.

    `exposure_control` sets a new exposure on the open capture; without one the stream
    is opened anew.
    """

    is_triggered = False

    def __init__(
        self,
        config: OpenCvCameraConfig | GStreamerCameraConfig,
        *,
        identity: str,
        clock: Clock,
        open_capture: Callable[[float], Capture],
        exposure_control: Callable[[Capture, float], float] | None = None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._open_capture = open_capture
        self._exposure_control = exposure_control
        self._memory = FrameMemory()
        self.borrow_from = self._memory.borrow_from
        self._exposure_s = config.exposure_s
        self._capture: Capture | None = None
        self._reader: FrameReader | None = None
        self._arrivals = ArrivalClock(
            stale_frames=config.stale_frames, period_s=1 / config.frame_rate_hz
        )
        self._stamps = MonotonicStamps() if _has_driver_times(config) else None
        self.capabilities = CameraCapabilities(
            kind=config.kind,
            identity=identity,
            simulated=False,
            width_px=config.width_px,
            height_px=config.height_px,
        )

    def set_exposure(self, exposure_s: float) -> float:
        """Set the exposure, or open the stream at it; the queue starts empty."""
        if self._capture is not None and self._exposure_control is None:
            self.close()
        capture = self._capture or self._open_capture(exposure_s)
        self._capture = capture
        taken_s = exposure_s
        if self._exposure_control is not None:
            taken_s = self._exposure_control(capture, exposure_s)
        self._exposure_s = taken_s
        self._arrivals.restart()
        if self._reader is None:
            name = f"camera '{self.capabilities.identity}'"
            self._reader = FrameReader(self._read, name=name, continuous=True)
        return taken_s

    def trigger(self) -> None:
        """Do nothing: the camera runs freely."""

    def restart(self) -> None:
        """Do nothing: no trigger can be pending."""

    def fetch(self, timeout_s: float) -> Got:
        """Return the next frame to arrive; see `FrameSource`."""
        if self._reader is None:
            msg = f"the camera '{self.capabilities.identity}' is closed"
            raise DeviceError(msg)
        return self._reader.fetch(timeout_s)

    def close(self) -> None:
        """End the reading thread, then release the device."""
        reader, self._reader = self._reader, None
        capture, self._capture = self._capture, None
        # Releasing under a reader that hangs in the driver would crash the process.
        if (reader is None or reader.close()) and capture is not None:
            capture.release()

    def _read(self, is_wanted: Callable[[], bool]) -> Got:
        capture = self._capture
        if capture is None or not capture.grab():
            msg = "the stream ended: unplugged, or the file or server is at its end"
            raise DeviceError(msg)
        start_s = self._earliest_start_s(capture)
        if start_s is None or not is_wanted():
            return None
        whole, bgr = capture.retrieve()
        if not whole:
            return BrokenFrame(reason="a frame could not be decoded")
        code = cv2.COLOR_GRAY2RGB if bgr.ndim == 2 else cv2.COLOR_BGR2RGB
        rgb = self._memory.take((bgr.shape[0], bgr.shape[1]))
        cv2.cvtColor(bgr, code, dst=rgb)
        return RawFrame(pixels=rgb, not_before_s=start_s)

    def _earliest_start_s(self, capture: Capture) -> float | None:
        arrival_s = self._clock.monotonic_s()
        if self._stamps is None:
            return self._arrivals.earliest_start_s(arrival_s)
        return self._stamps.earliest_start_s(
            capture.get(cv2.CAP_PROP_POS_MSEC) / 1000,
            arrival_s=arrival_s,
            exposure_s=self._exposure_s,
        )


def open_opencv_source(config: OpenCvCameraConfig, *, clock: Clock) -> OpenCvSource:
    """Open a UVC/V4L2 camera with its controls locked, or a network stream."""
    device = config.device
    backend = cv2.CAP_V4L2 if config.controls == "v4l2" else cv2.CAP_ANY

    def open_capture(exposure_s: float) -> Capture:
        if config.controls == "fixed":
            _check_fixed(exposure_s, config.exposure_s, where="`controls: fixed`")
        capture = cast("Capture", cv2.VideoCapture(device, backend))
        if not capture.isOpened():
            msg = (
                f"cannot open the camera {device!r}: is it plugged in, may you read it "
                "(`ls -l /dev/video*`, group video), does another program use it?"
            )
            raise DeviceError(msg)
        if config.controls == "v4l2":
            lock_controls(capture, config)
        return capture

    return OpenCvSource(
        config,
        identity=f"OpenCV {device}",
        clock=clock,
        open_capture=open_capture,
        exposure_control=set_exposure if config.controls == "v4l2" else None,
    )


def open_gstreamer_source(
    config: GStreamerCameraConfig, *, clock: Clock
) -> OpenCvSource:
    """Open a GStreamer pipeline through an OpenCV that was built with GStreamer."""
    if not has_gstreamer():
        msg = (
            f"this OpenCV ({cv2.__version__}, {cv2.__file__}) is built without "
            "GStreamer, as all opencv-python wheels are; uninstall opencv-python* from "
            "this environment and use the system's (Debian/Ubuntu/JetPack: "
            "`apt install python3-opencv`, in a venv made with --system-site-packages)"
        )
        raise ConfigError(msg)

    def open_capture(exposure_s: float) -> Capture:
        text = pipeline_text(config, exposure_s)
        capture = cast("Capture", cv2.VideoCapture(text, cv2.CAP_GSTREAMER))
        if not capture.isOpened():
            msg = (
                f"GStreamer cannot start the pipeline; try it: gst-launch-1.0 {text} "
                "(on Jetson, `sudo systemctl restart nvargus-daemon` frees a camera "
                "that was left busy)"
            )
            raise DeviceError(msg)
        return capture

    name = "jetson CSI" if config.pipeline == "jetson" else "pipeline"
    return OpenCvSource(
        config, identity=f"GStreamer {name}", clock=clock, open_capture=open_capture
    )


def pipeline_text(config: GStreamerCameraConfig, exposure_s: float) -> str:
    """Return the pipeline with size, rate and exposure filled in.

    Raises
    ------
    ConfigError
        If it has no place for the exposure and another than the file's is asked for.
    """
    text = JETSON_PIPELINE if config.pipeline == "jetson" else config.pipeline
    if "{exposure_ns}" not in text:
        _check_fixed(exposure_s, config.exposure_s, where="a pipeline without it")
    for key, value in (
        ("width_px", config.width_px),
        ("height_px", config.height_px),
        ("frame_rate_hz", round(config.frame_rate_hz)),
        ("exposure_ns", round(exposure_s * 1e9)),
    ):
        text = text.replace("{" + key + "}", str(value))
    return text


def has_gstreamer() -> bool:
    """Return whether this OpenCV reads GStreamer pipelines."""
    return any(
        line.split(":", 1)[1].strip().startswith("YES")
        for line in cv2.getBuildInformation().splitlines()
        if line.strip().startswith("GStreamer:")
    )


def _has_driver_times(config: OpenCvCameraConfig | GStreamerCameraConfig) -> bool:
    return isinstance(config, OpenCvCameraConfig) and config.timestamps == "driver"


def _check_fixed(asked_s: float, fixed_s: float, *, where: str) -> None:
    if asked_s != fixed_s:
        msg = (
            f"the exposure of this stream is fixed at {fixed_s:g} s ({where}); "
            f"{asked_s:g} s was asked for; use {{exposure_ns}} in a pipeline, or "
            "`controls: v4l2`"
        )
        raise ConfigError(msg)
