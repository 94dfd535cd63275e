"""Basler cameras through pypylon, the vendor's package (proprietary, optional).

Node names differ between generations (SFNC 1 and 2), so each is taken from the first
name that the camera has. The vendor's camera emulation takes the same path as a camera.
"""

import math
import warnings
from typing import Any

import numpy as np

from bifocus.camera_config import BaslerCameraConfig
from bifocus.clock import Clock
from bifocus.errors import ConfigError, DeviceError, DeviceTimeoutError
from bifocus.hal.bayer import to_rgb
from bifocus.hal.devices import CameraCapabilities
from bifocus.hal.frame_clock import ArrivalClock
from bifocus.hal.frame_memory import FrameMemory
from bifocus.hal.frame_reader import Got
from bifocus.hal.fresh_frames import BrokenFrame, RawFrame

_EXPOSURE_NODES = ("ExposureTime", "ExposureTimeAbs")
_RATE_NODES = ("AcquisitionFrameRate", "AcquisitionFrameRateAbs")
_AUTOMATICS = ("ExposureAuto", "GainAuto", "BalanceWhiteAuto")
# Vendor's names of the formats, older ones second; the demosaicing is ours.
_FORMATS = {"RGB8": ("RGB8", "RGB8Packed")}
_BUFFERS = 4


class BaslerSource:
    """A `FrameSource` over one `pylon.InstantCamera`."""

    def __init__(
        self, config: BaslerCameraConfig, *, pylon: Any, genicam: Any, clock: Clock
    ) -> None:
        self._config = config
        self._pylon = pylon
        self._genicam = genicam
        self._clock = clock
        self._memory = FrameMemory()
        self.borrow_from = self._memory.borrow_from
        self._arrivals = ArrivalClock(
            stale_frames=config.stale_frames, period_s=1 / config.frame_rate_hz
        )
        self._camera = _find(pylon, config.serial)
        try:
            self._camera.Open()
            self._lock_settings()
            info = self._camera.GetDeviceInfo()
            self.capabilities = CameraCapabilities(
                kind="basler",
                identity=f"{info.GetModelName()} {info.GetSerialNumber()}",
                simulated=info.GetDeviceClass() == "BaslerCamEmu",
                width_px=config.width_px,
                height_px=config.height_px,
            )
        except pylon.GenericException as error:
            self._camera.Close()
            raise DeviceError(_plain(error)) from error
        except BaseException:
            self._camera.Close()
            raise

    @property
    def is_triggered(self) -> bool:
        """Whether each grab begins its exposure."""
        return self._config.trigger == "software"

    def set_exposure(self, exposure_s: float) -> float:
        """Stop, set the exposure, start; frames of before are gone."""
        try:
            self._camera.StopGrabbing()
            node = self._node(_EXPOSURE_NODES)
            node.SetValue(exposure_s * 1e6)
            taken_s = float(node.GetValue()) / 1e6
            self._start()
        except self._pylon.GenericException as error:
            raise DeviceError(_plain(error)) from error
        return taken_s

    def trigger(self) -> None:
        """Send the software trigger."""
        camera, pylon = self._camera, self._pylon
        wait_ms = round(1e3 * self._config.timeout_s)
        try:
            # A trigger sent before the camera is ready is lost without a word.
            if camera.CanWaitForFrameTriggerReady():
                ready = camera.WaitForFrameTriggerReady(
                    wait_ms, pylon.TimeoutHandling_Return
                )
                if not ready:
                    msg = (
                        f"the camera '{self.capabilities.identity}' was not ready for "
                        f"a trigger within {self._config.timeout_s:g} s"
                    )
                    raise DeviceTimeoutError(msg)
            camera.ExecuteSoftwareTrigger()
        except self._pylon.GenericException as error:
            raise DeviceError(_plain(error)) from error

    def restart(self) -> None:
        """Stop and start grabbing, with empty queues."""
        try:
            self._camera.StopGrabbing()
            self._start()
        except self._pylon.GenericException as error:
            raise DeviceError(_plain(error)) from error

    def fetch(self, timeout_s: float) -> Got:
        """Return the next frame; see `FrameSource`."""
        pylon, camera = self._pylon, self._camera
        if camera.IsCameraDeviceRemoved():
            msg = f"the camera '{self.capabilities.identity}' was unplugged"
            raise DeviceError(msg)
        timeout_ms = max(1, round(1e3 * timeout_s))
        try:
            result = camera.RetrieveResult(timeout_ms, pylon.TimeoutHandling_Return)
            if not result.IsValid():
                return None
            with result:
                return self._take(result)
        except pylon.GenericException as error:
            raise DeviceError(_plain(error)) from error

    def close(self) -> None:
        """Stop and release the camera."""
        self._camera.StopGrabbing()
        self._camera.Close()

    def _take(self, result: Any) -> Got:
        arrival_s = self._clock.monotonic_s()
        if not result.GrabSucceeded():
            return BrokenFrame(reason=result.GetErrorDescription())
        start_s = self._earliest_start_s(arrival_s)
        if start_s is None:
            return None
        pixels = to_rgb(
            np.ascontiguousarray(result.GetArray()).tobytes(),
            pixel_format=self._config.pixel_format,
            shape=(result.GetHeight(), result.GetWidth()),
            memory=self._memory,
        )
        return RawFrame(pixels=pixels, not_before_s=start_s)

    def _earliest_start_s(self, arrival_s: float) -> float | None:
        if self.is_triggered:
            return -math.inf
        return self._arrivals.earliest_start_s(arrival_s)

    def _start(self) -> None:
        self._arrivals.restart()
        self._camera.StartGrabbing(self._pylon.GrabStrategy_OneByOne)

    def _lock_settings(self) -> None:
        config, camera = self._config, self._camera
        for name in _AUTOMATICS:
            if self._has(name):
                getattr(camera, name).SetValue("Off")
        offsets = [name for name in ("OffsetX", "OffsetY") if self._has(name)]
        for name in offsets:
            getattr(camera, name).SetValue(0)
        camera.Width.SetValue(config.width_px)
        camera.Height.SetValue(config.height_px)
        for name in offsets:  # the middle of the sensor, where the optical axis is
            node = getattr(camera, name)
            node.SetValue(node.Max // 2 // node.Inc * node.Inc)
        self._set_pixel_format()
        camera.MaxNumBuffer.SetValue(_BUFFERS)
        if self._has("AcquisitionFrameRateEnable"):
            camera.AcquisitionFrameRateEnable.SetValue(True)
        self._node(_RATE_NODES).SetValue(config.frame_rate_hz)
        camera.TriggerSelector.SetValue("FrameStart")
        camera.TriggerMode.SetValue("On" if self.is_triggered else "Off")
        if self.is_triggered:
            camera.TriggerSource.SetValue("Software")

    def _set_pixel_format(self) -> None:
        wanted = self._config.pixel_format
        known = self._camera.PixelFormat.Symbolics
        for name in _FORMATS.get(wanted, (wanted,)):
            if name in known:
                self._camera.PixelFormat.SetValue(name)
                return
        msg = f"pixel_format {wanted}: this camera has {sorted(known)}"
        raise ConfigError(msg)

    def _has(self, name: str) -> bool:
        """Return whether the camera has a setting and lets us write it now."""
        node = self._camera.GetNodeMap().GetNode(name)
        return node is not None and bool(self._genicam.IsWritable(node))

    def _node(self, names: tuple[str, ...]) -> Any:
        for name in names:
            if self._has(name):
                return getattr(self._camera, name)
        msg = f"the camera has none of {names}, which this driver sets"
        raise DeviceError(msg)


def open_basler_source(config: BaslerCameraConfig, *, clock: Clock) -> BaslerSource:
    """Open a Basler camera.

    Raises
    ------
    ConfigError
        If pypylon is not installed.
    DeviceError
        If there is no such camera, or it refuses a setting.
    """
    try:
        with warnings.catch_warnings():
            # SWIG's generated modules crash where their own warnings become errors.
            warnings.simplefilter("ignore")
            from pypylon import genicam, pylon
    except ImportError as error:
        msg = "a Basler camera needs pypylon: `pip install 'bifocus[basler]'`"
        raise ConfigError(msg) from error
    return BaslerSource(config, pylon=pylon, genicam=genicam, clock=clock)


def _find(pylon: Any, serial: str) -> Any:
    factory = pylon.TlFactory.GetInstance()
    devices = list(factory.EnumerateDevices())
    seen = [f"{d.GetModelName()} {d.GetSerialNumber()}" for d in devices]
    for device in devices:
        if serial in ("", device.GetSerialNumber()):
            return pylon.InstantCamera(factory.CreateDevice(device))
    msg = (
        f"no Basler camera {f'of serial {serial} ' if serial else ''}found; seen: "
        f"{seen or 'none'}; check its cable and power, and that the pylon viewer is "
        "closed"
    )
    raise DeviceError(msg)


def _plain(error: Exception) -> str:
    return f"Basler camera: {' '.join(str(error).split())}"
