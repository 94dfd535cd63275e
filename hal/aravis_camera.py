"""GenICam cameras (GigE Vision, USB3 Vision) through libaravis.

With `trigger: software` each grab begins its own exposure. Free-running cameras tell
their own time, which `CameraClock` maps; a camera that can latch its clock is asked.
"""

import ctypes
import logging
import math
import time

from bifocus.camera_config import AravisCameraConfig
from bifocus.clock import Clock
from bifocus.errors import DeviceError
from bifocus.hal.aravis_library import Aravis, load_aravis
from bifocus.hal.bayer import bytes_per_pixel, to_rgb
from bifocus.hal.devices import CameraCapabilities
from bifocus.hal.frame_clock import CameraClock
from bifocus.hal.frame_memory import FrameMemory
from bifocus.hal.frame_reader import Got
from bifocus.hal.fresh_frames import BrokenFrame, RawFrame
from bifocus.hal.gige_fake import GigeFake

logger = logging.getLogger(__name__)

_BUFFERS = 4
_SLICE_S = 0.5  # how often a silent camera is asked whether it is still ours
# ArvBufferStatus, arvbuffer.h
_STATUS = {
    -1: "unknown status",
    1: "cleared",
    2: "timed out before it was whole",
    3: "packets are missing",
    4: "a packet has a wrong number",
    5: "it is larger than expected",
    6: "it was being filled",
    7: "aborted",
    8: "its payload is of another kind",
}
# Name of the latch command and of the value, in nanoseconds: SFNC 2, then GigE Vision.
_LATCHES = (
    ("TimestampLatch", "TimestampLatchValue"),
    ("GevTimestampControlLatch", "GevTimestampValue"),
)
# Without a latch only the stream's start anchors the camera's clock; by then it may
# have drifted by 0.18 s, which every fresh frame would wait longer.
_ANCHOR_S = 1800.0
_AUTOMATICS = ("ExposureAuto", "GainAuto", "BalanceWhiteAuto", "BlackLevelAuto")


class AravisSource:
    """A `FrameSource` over one Aravis camera; `close` is called by its owner once.

    `server` is the camera itself where this program provides it on loopback: it is
    closed last, and its failures are raised here.
    """

    def __init__(
        self,
        config: AravisCameraConfig,
        *,
        address: str,
        clock: Clock,
        server: GigeFake | None = None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._server = server
        self._memory = FrameMemory()
        self.borrow_from = self._memory.borrow_from
        self._arv = load_aravis()
        self._stream = 0
        self._is_silent = False
        self._exposure_s = config.exposure_s
        self._camera_clock = CameraClock()
        self._started_s = clock.monotonic_s()
        self._camera = _open_camera(self._arv, address)
        try:
            self._lock_settings()
            self.capabilities = self._read_capabilities()
            self._latch = self._find_latch()
        except BaseException:
            self.close()
            raise

    @property
    def is_triggered(self) -> bool:
        """Whether each grab begins its exposure."""
        return self._config.trigger == "software"

    def set_exposure(self, exposure_s: float) -> float:
        """Stop, set the exposure, start; frames of before are gone."""
        self._stop()
        self._arv.call("camera_set_exposure_time", self._camera, exposure_s * 1e6)
        taken_s = self._arv.call("camera_get_exposure_time", self._camera) / 1e6
        self._exposure_s = float(taken_s)
        self._start()
        return self._exposure_s

    def trigger(self) -> None:
        """Send the software trigger."""
        try:
            self._arv.call("camera_software_trigger", self._camera)
        except DeviceError:
            self._is_silent = True
            raise

    def restart(self) -> None:
        """Stop and start the stream, with empty buffers."""
        self._stop()
        self._start()

    def fetch(self, timeout_s: float) -> Got:
        """Return the next frame; see `FrameSource`."""
        deadline_s = time.monotonic() + timeout_s
        if self._must_anchor_again():
            self.restart()
        while (left_s := deadline_s - time.monotonic()) > 0:
            slice_us = int(1e6 * min(left_s, _SLICE_S))
            buffer = self._arv.plain(
                "stream_timeout_pop_buffer", self._stream, slice_us
            )
            if buffer:
                try:
                    return self._take(buffer)
                finally:
                    self._arv.plain("stream_push_buffer", self._stream, buffer)
            self._check_still_ours()
        return None

    def close(self) -> None:
        """Stop, and give the camera up."""
        try:
            if self._camera:
                camera, self._camera = self._camera, 0
                try:
                    self._stop_stream(camera)
                except DeviceError as error:
                    logger.warning("closing a camera that does not answer: %s", error)
                finally:
                    self._arv.unref(camera)
        finally:
            if self._server is not None:
                self._server.close()

    def _take(self, buffer: int) -> Got:
        arv, config = self._arv, self._config
        if self._server is not None and self._server.failure is not None:
            msg = f"the camera on loopback cannot make frames: {self._server.failure}"
            raise DeviceError(msg)
        status = arv.plain("buffer_get_status", buffer)
        if status != 0:
            return BrokenFrame(reason=_STATUS.get(status, f"status {status}"))
        size = ctypes.c_size_t()
        data = arv.plain("buffer_get_data", buffer, ctypes.byref(size))
        width_px = arv.plain("buffer_get_image_width", buffer)
        height_px = arv.plain("buffer_get_image_height", buffer)
        wanted = width_px * height_px * bytes_per_pixel(config.pixel_format)
        if size.value < wanted:
            return BrokenFrame(reason=f"{size.value} of {wanted} bytes came")
        pixels = to_rgb(
            ctypes.string_at(data, wanted),
            pixel_format=config.pixel_format,
            shape=(height_px, width_px),
            memory=self._memory,
        )
        return RawFrame(pixels=pixels, not_before_s=self._earliest_start_s(buffer))

    def _earliest_start_s(self, buffer: int) -> float:
        """Return the start in system time; that of a triggered frame is known."""
        if self.is_triggered:
            return -math.inf
        stamp_s = self._arv.plain("buffer_get_timestamp", buffer) / 1e9
        if self._latch is not None:
            self._observe_latch(self._latch)
        else:
            self._camera_clock.observe(
                stamp_s, after_s=self._started_s, before_s=self._clock.monotonic_s()
            )
        # The stamp may be of the exposure's start or end: take it for the end.
        return self._camera_clock.earliest_s(stamp_s) - self._exposure_s

    def _must_anchor_again(self) -> bool:
        needs_anchor = not self.is_triggered and self._latch is None
        return needs_anchor and self._clock.monotonic_s() - self._started_s > _ANCHOR_S

    def _find_latch(self) -> tuple[bytes, bytes] | None:
        device = self._arv.plain("camera_get_device", self._camera)
        for command, value in _LATCHES:
            names = command.encode(), value.encode()
            if all(self._arv.plain("device_get_feature", device, n) for n in names):
                return names
        return None

    def _observe_latch(self, latch: tuple[bytes, bytes]) -> None:
        command, value = latch
        after_s = self._clock.monotonic_s()
        self._arv.call("camera_execute_command", self._camera, command)
        before_s = self._clock.monotonic_s()
        ticks = self._arv.call("camera_get_integer", self._camera, value)
        self._camera_clock.observe(ticks / 1e9, after_s=after_s, before_s=before_s)

    def _lock_settings(self) -> None:
        arv, config, camera = self._arv, self._config, self._camera
        device = arv.plain("camera_get_device", camera)
        for name in _AUTOMATICS:
            if arv.plain("device_get_feature", device, name.encode()):
                arv.call("camera_set_string", camera, name.encode(), b"Off")
        width_px, height_px = config.width_px, config.height_px
        arv.call("camera_set_region", camera, 0, 0, width_px, height_px)
        for offset in (b"OffsetX", b"OffsetY"):
            if arv.plain("device_get_feature", device, offset):
                self._centre(offset)
        wanted = config.pixel_format.encode()
        arv.call("camera_set_pixel_format_from_string", camera, wanted)
        arv.call("camera_clear_triggers", camera)
        arv.call("camera_set_frame_rate", camera, config.frame_rate_hz)
        if self.is_triggered:
            arv.call("camera_set_trigger", camera, b"Software")

    def _centre(self, offset: bytes) -> None:
        """Put the region in the middle of the sensor, where the optical axis is."""
        arv, camera = self._arv, self._camera
        low, high = ctypes.c_int64(), ctypes.c_int64()
        arv.call(
            "camera_get_integer_bounds",
            camera,
            offset,
            ctypes.byref(low),
            ctypes.byref(high),
        )
        step = max(1, arv.call("camera_get_integer_increment", camera, offset))
        middle = (high.value - low.value) // 2 // step * step + low.value
        arv.call("camera_set_integer", camera, offset, middle)

    def _read_capabilities(self) -> CameraCapabilities:
        arv, camera = self._arv, self._camera
        vendor, model, serial = (
            (arv.call(f"camera_get_{name}", camera) or b"?").decode()
            for name in ("vendor_name", "model_name", "device_serial_number")
        )
        return CameraCapabilities(
            kind="aravis",
            identity=f"{vendor} {model} {serial}",
            simulated=vendor == "Aravis",
            width_px=self._config.width_px,
            height_px=self._config.height_px,
        )

    def _start(self) -> None:
        arv = self._arv
        payload = arv.call("camera_get_payload", self._camera)
        self._stream = arv.call("camera_create_stream", self._camera, None, None)
        for _ in range(_BUFFERS):
            buffer = arv.plain("buffer_new_allocate", payload)
            arv.plain("stream_push_buffer", self._stream, buffer)
        self._camera_clock = CameraClock()
        self._started_s = self._clock.monotonic_s()
        arv.call("camera_start_acquisition", self._camera)

    def _stop(self) -> None:
        self._stop_stream(self._camera)

    def _stop_stream(self, camera: int) -> None:
        if not self._stream:
            return
        stream, self._stream = self._stream, 0
        try:
            if not self._is_silent:  # else each request waits out its repeats
                self._arv.call("camera_stop_acquisition", camera)
        finally:
            self._arv.unref(stream)

    def _check_still_ours(self) -> None:
        """Raise if the camera has been silent for so long that control was lost."""
        arv, camera = self._arv, self._camera
        if not arv.plain("camera_is_gv_device", camera):
            return
        device = arv.plain("camera_get_device", camera)
        if not arv.plain("gv_device_is_controller", device):
            msg = (
                f"the camera '{self.capabilities.identity}' no longer obeys us: "
                "switched off, unplugged, or taken by another program; see to it, "
                "then open it again"
            )
            raise DeviceError(msg)


def _open_camera(arv: Aravis, address: str) -> int:
    try:
        found = arv.call("camera_new", address.encode() or None)
    except DeviceError as error:
        msg = (
            f"no GenICam camera at '{address or 'any address'}' ({error}); seen on "
            f"this machine's networks and USB: {arv.device_ids() or 'none'}"
        )
        raise DeviceError(msg) from error
    if not found:
        msg = f"no GenICam camera found; seen: {arv.device_ids() or 'none'}"
        raise DeviceError(msg)
    return int(found)
