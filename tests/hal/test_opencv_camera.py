"""Cameras through OpenCV: a real network stream; V4L2's controls by a stand-in.

No /dev/video* exists where these tests run: `FakeV4l2` keeps the calls' rules as the
kernel's documentation gives them. See docs/cameras.md for what was never run.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import cv2
import numpy as np
import pytest

from bifocus.camera_config import GStreamerCameraConfig, OpenCvCameraConfig
from bifocus.clock import Clock, RealClock
from bifocus.errors import (
    ConfigError,
    DeviceError,
    DeviceTimeoutError,
    ProtocolError,
)
from bifocus.hal.devices import Camera, Stage
from bifocus.hal.opencv_camera import (
    OpenCvSource,
    has_gstreamer,
    open_gstreamer_source,
    open_opencv_source,
    pipeline_text,
)
from bifocus.hal.v4l2_controls import lock_controls, set_exposure
from bifocus.records import Frame, MoveReceipt, StagePosition
from tests.contracts.camera_contract import CameraContract
from tests.hal.network_camera import (
    EXPOSURE_S,
    PERIOD_S,
    network_camera,
    picture,
    read_time_s,
)
from tests.hal.real_time import opened, opened_config, quick_stage

slow = pytest.mark.slow


def section(**changes: Any) -> OpenCvCameraConfig:
    base: dict[str, Any] = {
        "kind": "opencv",
        "width_px": 80,
        "height_px": 64,
        "exposure_s": EXPOSURE_S,
        "frame_rate_hz": 1 / PERIOD_S,
        "timeout_s": 0.5,
        "stale_frames": 1,
    }
    return OpenCvCameraConfig.model_validate(base | changes)


def network_section(url: str, **changes: Any) -> OpenCvCameraConfig:
    fixed = {"device": url, "controls": "fixed", "timestamps": "arrival"}
    return section(**fixed | changes)


@pytest.fixture
def clock() -> Clock:
    return RealClock()


@pytest.fixture
def stage() -> Stage:
    return quick_stage()


@pytest.fixture
def camera() -> Iterator[Camera]:
    with network_camera() as url, opened_config(network_section(url)) as opened_camera:
        yield opened_camera


@slow
class TestNetworkCamera(CameraContract):
    pass


def grab_in_the_end(camera: Camera, receipt: MoveReceipt) -> Frame:
    """Grab; a machine too busy to serve the stream in time gets more tries."""
    for _ in range(4):
        with suppress(DeviceTimeoutError):
            return camera.grab(after=receipt)
    return camera.grab(after=receipt)


@slow
@pytest.mark.parametrize("held_back", [0, 4])
def test_the_picture_itself_shows_that_it_is_fresh(held_back: int) -> None:
    """The scene is a clock: no picture shows a time before the stage had settled."""
    with network_camera(held_back) as url:
        config = network_section(url, stale_frames=held_back + 1)
        with opened_config(config) as camera:
            stage = quick_stage()
            for step in range(8):
                time.sleep(0.03 * (step % 3))
                target = StagePosition(x_um=500 + step, y_um=400, z_um=150)
                receipt = stage.move_to(target)
                frame = grab_in_the_end(camera, receipt)
                shown_s = read_time_s(frame.pixels)
                assert shown_s >= receipt.settled_s - 1e-4
                assert frame.exposure_start_s <= shown_s + 1e-4
            assert camera.discarded_frames > 0


@slow
def test_believing_arrival_alone_would_take_stale_frames() -> None:
    """The same stream, with a depth that is not true: the guard is what protects."""
    with network_camera(4) as url:
        config = network_section(url, stale_frames=0)
        with opened_config(config) as camera:
            stage, early_s = quick_stage(), []
            for step in range(8):
                target = StagePosition(x_um=500 + step, y_um=400, z_um=150)
                receipt = stage.move_to(target)
                shown_s = read_time_s(grab_in_the_end(camera, receipt).pixels)
                early_s.append(receipt.settled_s - shown_s)
            assert max(early_s) > PERIOD_S


@slow
def test_a_server_that_ends_is_an_error_in_time() -> None:
    ending = threading.Event()
    with (
        network_camera(ending=ending) as url,
        opened_config(network_section(url)) as camera,
    ):
        camera.grab()
        ending.set()
        with pytest.raises(DeviceError, match="the stream ended"):
            for _ in range(100):  # what had been sent already may still come
                camera.grab()


def test_a_stream_with_fixed_exposure_refuses_another() -> None:
    config = network_section("http://127.0.0.1:9/")
    source = open_opencv_source(config, clock=RealClock())
    with pytest.raises(ConfigError, match=r"fixed at 0\.004 s"):
        source.set_exposure(0.008)


def test_a_camera_that_is_not_there_says_what_to_look_at() -> None:
    with pytest.raises(DeviceError, match=r"cannot open the camera 63: .*group video"):
        with opened_config(section(device=63)):
            pass


def test_driver_times_need_a_driver() -> None:
    with pytest.raises(ValueError, match="timestamps: arrival"):
        section(controls="fixed", timestamps="driver")


class FakeV4l2:
    """The calls of `cv2.VideoCapture` on a UVC camera, with the kernel's own rules."""

    def __init__(self, *, ignores: tuple[int, ...] = ()) -> None:
        self.values: dict[int, float] = {cv2.CAP_PROP_AUTO_EXPOSURE: 3}
        self.ignores = ignores
        self.released = False
        self.stamp_offset_s = 0.0

    def isOpened(self) -> bool:  # noqa: N802
        return True

    def grab(self) -> bool:
        time.sleep(0.01)
        self._stamp_s = time.monotonic() + self.stamp_offset_s
        return True

    def retrieve(self) -> tuple[bool, Any]:
        return True, picture(self._stamp_s)

    def get(self, prop: int) -> float:
        if prop == cv2.CAP_PROP_POS_MSEC:
            return self._stamp_s * 1e3
        return self.values.get(prop, 0.0)

    def set(self, prop: int, value: float) -> bool:
        if prop not in self.ignores:
            self.values[prop] = value
        return True

    def release(self) -> None:
        self.released = True


def v4l2_source(fake: FakeV4l2) -> OpenCvSource:
    return OpenCvSource(
        section(),
        identity="stand-in",
        clock=RealClock(),
        open_capture=lambda _exposure_s: fake,
        exposure_control=set_exposure,
    )


def test_every_automatic_is_off_and_read_back() -> None:
    fake = FakeV4l2()
    lock_controls(fake, section(white_balance_k=4600, gain=8))
    assert fake.values[cv2.CAP_PROP_AUTO_EXPOSURE] == 1  # V4L2_EXPOSURE_MANUAL
    assert fake.values[cv2.CAP_PROP_AUTO_WB] == 0
    assert fake.values[cv2.CAP_PROP_WB_TEMPERATURE] == 4600
    assert fake.values[cv2.CAP_PROP_GAIN] == 8
    assert fake.values[cv2.CAP_PROP_FOURCC] == int.from_bytes(b"MJPG", "little")
    assert fake.values[cv2.CAP_PROP_FRAME_WIDTH] == 80


@pytest.mark.parametrize(
    ("prop", "name"),
    [
        (cv2.CAP_PROP_AUTO_EXPOSURE, "manual exposure"),
        (cv2.CAP_PROP_WB_TEMPERATURE, "white_balance_k"),
        (cv2.CAP_PROP_FRAME_WIDTH, "width_px"),
        (cv2.CAP_PROP_FOURCC, "pixel_format"),
    ],
)
def test_a_control_that_is_ignored_is_told(prop: int, name: str) -> None:
    with pytest.raises(DeviceError, match=f"does not take {name}.*v4l2-ctl"):
        lock_controls(FakeV4l2(ignores=(prop,)), section())


def test_exposure_counts_in_tenths_of_milliseconds() -> None:
    fake = FakeV4l2()
    assert set_exposure(fake, 0.00512) == pytest.approx(0.0051)
    assert fake.values[cv2.CAP_PROP_EXPOSURE] == 51
    with pytest.raises(ConfigError, match=r"counts exposure in 0\.0001 s"):
        set_exposure(fake, 2e-5)


@slow
def test_the_kernel_s_stamps_decide_what_is_fresh() -> None:
    fake = FakeV4l2()
    with opened(v4l2_source(fake), section()) as camera:
        receipt = quick_stage().move_to(StagePosition(x_um=501, y_um=400, z_um=150))
        frame = camera.grab(after=receipt)
        assert receipt.settled_s <= frame.exposure_start_s
        assert read_time_s(frame.pixels) == pytest.approx(
            frame.exposure_start_s + EXPOSURE_S, abs=2e-4
        )
    assert fake.released


@slow
def test_stamps_of_another_clock_are_told() -> None:
    fake = FakeV4l2()
    fake.stamp_offset_s = 1e9  # such as UTC
    with (
        opened(v4l2_source(fake), section()) as camera,
        pytest.raises(DeviceError, match="timestamps: arrival") as caught,
    ):
        camera.grab()
    assert isinstance(caught.value.__cause__, ProtocolError)


def pipeline_section(**changes: Any) -> GStreamerCameraConfig:
    base: dict[str, Any] = {
        "kind": "gstreamer",
        "width_px": 1920,
        "height_px": 1080,
        "exposure_s": 0.004,
    }
    return GStreamerCameraConfig.model_validate(base | changes)


def test_the_jetson_pipeline_locks_everything() -> None:
    text = pipeline_text(pipeline_section(), 0.0025)
    assert text.startswith("nvarguscamerasrc ")
    assert 'exposuretimerange="2500000 2500000"' in text
    assert "width=1920,height=1080,framerate=30/1" in text
    assert "wbmode=5 aelock=true" in text
    assert text.endswith("appsink drop=true max-buffers=1 sync=false")
    assert "{" not in text


def test_a_pipeline_without_exposure_keeps_the_file_s() -> None:
    config = pipeline_section(pipeline="videotestsrc ! appsink")
    assert pipeline_text(config, 0.004) == "videotestsrc ! appsink"
    with pytest.raises(ConfigError, match=r"fixed at 0\.004 s"):
        pipeline_text(config, 0.002)


@pytest.mark.skipif(has_gstreamer(), reason="this OpenCV has GStreamer")
def test_an_opencv_without_gstreamer_says_how_to_mend_it() -> None:
    with pytest.raises(ConfigError, match="apt install python3-opencv"):
        open_gstreamer_source(pipeline_section(), clock=RealClock())


@slow
@pytest.mark.skipif(not has_gstreamer(), reason="needs the system's python3-opencv")
def test_a_real_pipeline_gives_fresh_frames() -> None:
    text = (
        "videotestsrc is-live=true pattern=red ! video/x-raw,format=BGR,"
        "width={width_px},height={height_px},framerate={frame_rate_hz}/1 ! "
        "appsink drop=true max-buffers=1 sync=false"
    )
    config = pipeline_section(pipeline=text, width_px=80, height_px=64)
    with opened_config(config) as camera:
        receipt = quick_stage().move_to(StagePosition(x_um=501, y_um=400, z_um=150))
        frame = camera.grab(after=receipt)
        assert frame.exposure_start_s >= receipt.settled_s
        assert np.array_equal(frame.pixels[0, 0], [255, 0, 0])
