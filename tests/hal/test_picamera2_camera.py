"""The Raspberry Pi driver against a stand-in: picamera2 itself runs on a Pi only.

`FakePicamera2` keeps to the calls used, as picamera2's own source and manual tell them:
BGR888 arrays are red, green, blue; controls reach the frames some frames late; a
request that timed out must be cancelled; SensorTimestamp counts on the boot-time clock.
"""

import sys
import time
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from bifocus.camera_config import Picamera2CameraConfig
from bifocus.clock import Clock, RealClock
from bifocus.errors import ConfigError, DeviceError, DeviceTimeoutError
from bifocus.hal.devices import Camera, Stage
from bifocus.hal.picamera2_camera import Picamera2Source, open_picamera2_source
from bifocus.records import StagePosition
from tests.contracts.camera_contract import CameraContract
from tests.hal.real_time import opened, quick_stage

LATE_FRAMES = 3  # controls take this many frames to show
_PERIOD_S = 0.02


class FakeRequest:
    def __init__(self, camera: "FakePicamera2", end_s: float, exposure_us: int) -> None:
        self.camera = camera
        boot_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self.stamp_ns = boot_ns - round((time.monotonic() - end_s) * 1e9)
        self.exposure_us = exposure_us
        camera.held += 1

    def get_metadata(self) -> dict[str, Any]:
        whole = {"SensorTimestamp": self.stamp_ns, "ExposureTime": self.exposure_us}
        return {} if self.camera.is_dumb else whole

    def make_array(self, name: str) -> Any:
        assert name == "main"
        width_px, height_px = self.camera.main["size"]
        return np.full((height_px, width_px, 3), (200, 100, 50), np.uint8)

    def release(self) -> None:
        self.camera.held -= 1


class FakePicamera2:
    """A free-running sensor with a queue of finished frames nobody asked for."""

    def __init__(self, number: int = 0) -> None:
        if number > 0:
            raise IndexError("list index out of range")
        self.camera_properties = {"Model": "imx219"}
        self.controls: dict[str, Any] = {}
        self.exposures: list[int] = []
        self.main: dict[str, Any] = {}
        self.log: list[str] = []
        self.held = 0
        self.cancelled = 0
        self.is_silent = self.is_dumb = False
        self.refuses_size = False

    def create_video_configuration(self, **options: Any) -> dict[str, Any]:
        return options

    def configure(self, configuration: dict[str, Any]) -> None:
        assert configuration["queue"] is False
        self.main = dict(configuration["main"])
        if self.refuses_size:
            self.main["size"] = (128, 96)
        self.set_controls(configuration["controls"])

    def camera_configuration(self) -> dict[str, Any]:
        return {"main": self.main}

    def set_controls(self, controls: dict[str, Any]) -> None:
        old = self.controls.get("ExposureTime", controls["ExposureTime"])
        self.controls |= controls
        self.exposures = [old] * LATE_FRAMES

    def start(self) -> None:
        self.log.append("start")

    def stop(self) -> None:
        self.log.append("stop")

    def close(self) -> None:
        self.log.append("close")

    def cancel_all_and_flush(self) -> None:
        self.cancelled += 1

    def capture_request(self, wait: Any = None) -> FakeRequest:
        if self.is_silent:
            time.sleep(wait)
            raise TimeoutError
        exposure_us = (
            self.exposures.pop() if self.exposures else self.controls["ExposureTime"]
        )
        time.sleep(_PERIOD_S)
        self.last_end_s = time.monotonic() - 0.001
        return FakeRequest(self, self.last_end_s, exposure_us)


def section(**changes: Any) -> Picamera2CameraConfig:
    base: dict[str, Any] = {
        "kind": "picamera2",
        "width_px": 80,
        "height_px": 64,
        "exposure_s": 0.008,
        "frame_rate_hz": 50.0,
        "timeout_s": 0.3,
    }
    return Picamera2CameraConfig.model_validate(base | changes)


def source_of(fake: FakePicamera2) -> Picamera2Source:
    return Picamera2Source(section(), fake, clock=RealClock())


@pytest.fixture
def clock() -> Clock:
    return RealClock()


@pytest.fixture
def stage() -> Stage:
    return quick_stage()


@pytest.fixture
def camera() -> Iterator[Camera]:
    with opened(source_of(FakePicamera2()), section()) as opened_camera:
        yield opened_camera


@pytest.mark.slow
class TestPicamera2(CameraContract):
    pass


def test_everything_automatic_is_off_from_the_first_frame() -> None:
    fake = FakePicamera2()
    with opened(source_of(fake), section()):
        assert fake.controls["AeEnable"] is False
        assert fake.controls["AwbEnable"] is False
        assert fake.controls["ColourGains"] == (1.8, 1.6)
        assert fake.controls["AnalogueGain"] == 1.0
        assert fake.controls["ExposureTime"] == 8000
        assert fake.controls["FrameDurationLimits"] == (20000, 20000)
    assert fake.log == ["start", "stop", "close"]


def test_frames_of_the_old_exposure_are_thrown_away() -> None:
    fake = FakePicamera2()
    with opened(source_of(fake), section()) as camera:
        camera.grab()
        discarded = camera.discarded_frames
        camera.configure(exposure_s=0.004)
        frame = camera.grab()
        assert camera.discarded_frames >= discarded + LATE_FRAMES
        length_s = frame.exposure_end_s - frame.exposure_start_s
        assert length_s == pytest.approx(0.004)
        assert frame.pixels[0, 0].tolist() == [200, 100, 50]
    assert fake.held == 0


def test_the_stamp_is_mapped_from_the_boot_clock() -> None:
    fake = FakePicamera2()
    with opened(source_of(fake), section()) as camera:
        receipt = quick_stage().move_to(StagePosition(x_um=501, y_um=400, z_um=150))
        frame = camera.grab(after=receipt)
        assert receipt.settled_s <= frame.exposure_start_s
        assert frame.exposure_end_s == pytest.approx(fake.last_end_s, abs=0.05)


def test_silence_is_a_timeout_and_the_request_is_cancelled() -> None:
    fake = FakePicamera2()
    with opened(source_of(fake), section()) as camera:
        fake.is_silent = True
        with pytest.raises(DeviceTimeoutError):
            camera.grab()
        assert fake.cancelled >= 1


def test_frames_without_a_time_are_broken_ones() -> None:
    fake = FakePicamera2()
    fake.is_dumb = True
    with opened(source_of(fake), section()) as camera:
        with pytest.raises(DeviceTimeoutError):
            camera.grab()
        assert camera.broken_frames > 0
    assert fake.held == 0


def test_a_size_it_has_not_is_told() -> None:
    fake = FakePicamera2()
    fake.refuses_size = True
    with pytest.raises(DeviceError, match=r"BGR888 frames of \(128, 96\)"):
        with opened(source_of(fake), section()):
            pass


def test_a_missing_camera_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("picamera2")
    module.Picamera2 = FakePicamera2  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "picamera2", module)
    assert open_picamera2_source(section(), clock=RealClock())
    with pytest.raises(DeviceError, match="cannot open Raspberry Pi camera 1"):
        open_picamera2_source(section(camera_number=1), clock=RealClock())


def test_without_the_package_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(ConfigError, match="apt install python3-picamera2"):
        open_picamera2_source(section(), clock=RealClock())
