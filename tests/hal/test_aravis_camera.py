"""The GenICam driver and our GigE Vision camera, over the real protocol on loopback."""

import ctypes.util
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bifocus.camera_config import AravisCameraConfig
from bifocus.clock import Clock, RealClock
from bifocus.config import Instrument
from bifocus.config_model import parse_model
from bifocus.errors import ConfigError, DeviceError, DeviceTimeoutError
from bifocus.hal.aravis_camera import AravisSource
from bifocus.hal.devices import Camera, Stage
from bifocus.hal.fresh_frames import FreshCamera
from bifocus.hal.gige_fake import LOOPBACK, GigeFake
from bifocus.hal.open_instrument import open_instrument
from bifocus.records import StagePosition, UInt8Image
from tests.contracts.camera_contract import CameraContract
from tests.hal.real_time import opened, quick_stage

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        ctypes.util.find_library("aravis-0.8") is None,
        reason="needs libaravis: apt install libaravis-0.8-0",
    ),
]

SHAPE = (64, 80, 3)
GREY = np.full(SHAPE, 128, np.uint8)
Render = Callable[[float, float], UInt8Image]


@pytest.fixture(autouse=True)
def _alone_on_the_port(gige_port: None) -> None:
    """Take turns with other runs of these tests on this machine."""


def section(**changes: Any) -> AravisCameraConfig:
    base: dict[str, Any] = {
        "kind": "aravis",
        "width_px": 80,
        "height_px": 64,
        "exposure_s": 0.004,
        "frame_rate_hz": 100.0,
        "timeout_s": 0.5,
    }
    return AravisCameraConfig.model_validate(base | changes)


def plain(_start_s: float, _exposure_s: float) -> UInt8Image:
    return GREY


@contextmanager
def served(
    render: Render = plain, *, lost_packets: float = 0.0, **changes: Any
) -> Iterator[FreshCamera]:
    config, clock = section(**changes), RealClock()
    server = GigeFake(render, clock=clock, lost_packets=lost_packets)
    try:
        source = AravisSource(config, address=LOOPBACK, clock=clock, server=server)
        with opened(source, config) as camera:
            yield camera
    finally:
        server.close()


@pytest.fixture
def clock() -> Clock:
    return RealClock()


@pytest.fixture
def stage() -> Stage:
    return quick_stage()


@pytest.fixture(params=["software", "free"])
def camera(request: pytest.FixtureRequest) -> Iterator[Camera]:
    with served(trigger=request.param) as opened_camera:
        yield opened_camera


class TestAravisCamera(CameraContract):
    pass


def test_pixels_arrive_byte_for_byte() -> None:
    rng = np.random.default_rng(1)
    pictures = [rng.integers(0, 256, SHAPE, np.uint8) for _ in range(3)]
    order = itertools.cycle(pictures)
    with served(lambda _start_s, _exposure_s: next(order)) as camera:
        for picture in pictures:
            assert np.array_equal(camera.grab().pixels, picture)
        assert camera.capabilities.simulated
        assert camera.capabilities.identity == "Aravis Fake BIFOCUS1"


@pytest.mark.parametrize("trigger", ["software", "free"])
def test_the_stated_start_is_never_later_than_the_true_one(trigger: str) -> None:
    """The camera paints a number into each picture and remembers when it began."""
    true_starts_s: dict[int, float] = {}
    numbers = itertools.count(1)

    def render(start_s: float, _exposure_s: float) -> UInt8Image:
        number = next(numbers)
        true_starts_s[number] = start_s
        return np.full(SHAPE, number % 251, np.uint8)

    with served(render, trigger=trigger) as camera:
        time.sleep(0.3)  # a free-running camera fills its queue with the past
        stage = quick_stage()
        for step in range(6):
            here = stage.position()
            target = type(here)(x_um=here.x_um + step, y_um=here.y_um, z_um=here.z_um)
            receipt = stage.move_to(target)
            frame = camera.grab(after=receipt)
            true_s = true_starts_s[int(frame.pixels[0, 0, 0])]
            assert receipt.settled_s <= frame.exposure_start_s <= true_s
            assert frame.pose == receipt.reported


@pytest.mark.parametrize("trigger", ["software", "free"])
def test_a_bad_cable_costs_time_and_never_a_wrong_pixel(trigger: str) -> None:
    """Of 11 packets a frame, 3 % are lost: about two frames in seven arrive cut."""
    picture = np.random.default_rng(2).integers(0, 256, SHAPE, np.uint8)
    with served(lambda _s, _e: picture, lost_packets=0.03, trigger=trigger) as camera:
        for _ in range(30):
            assert np.array_equal(camera.grab().pixels, picture)
        assert camera.broken_frames + camera.lost_frames > 0


def test_bayer_and_grey_are_refused_by_our_server_out_loud() -> None:
    with (
        served(pixel_format="BayerRG8") as camera,
        pytest.raises(DeviceError, match="serves RGB8"),
    ):
        camera.grab()


def test_a_renderer_that_fails_is_told(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_start_s: float, _exposure_s: float) -> UInt8Image:
        raise ValueError("no light")

    with served(broken) as camera, pytest.raises(DeviceError, match="no light"):
        camera.grab()
    assert "cannot make a frame" in caplog.text


def test_two_servers_on_one_machine_are_refused() -> None:
    with served(), pytest.raises(DeviceError, match="port 3956"):
        GigeFake(plain, clock=RealClock())


def test_a_camera_that_is_not_there_is_told() -> None:
    with pytest.raises(DeviceError, match=r"no GenICam camera at '127\.0\.0\.1'"):
        AravisSource(section(), address=LOOPBACK, clock=RealClock())


def test_a_camera_that_dies_is_an_error_in_time() -> None:
    config, clock = section(timeout_s=0.3), RealClock()
    server = GigeFake(plain, clock=clock)
    source = AravisSource(config, address=LOOPBACK, clock=clock)
    with opened(source, config) as camera:
        camera.grab()
        server.close()
        began_s = time.monotonic()
        with pytest.raises((DeviceError, DeviceTimeoutError)):
            camera.grab()
        assert time.monotonic() - began_s < 15


def test_the_virtual_slide_is_seen_through_the_real_protocol(
    make_config: Any, tmp_path: Path
) -> None:
    """Each frame shows the true place of the glass, as the in-process camera would."""
    small = make_config(
        stage={"speed_um_per_s": (2000.0,) * 3, "settle_s": 0.02},
        camera={},
    ).model_dump()
    small["clock"] = "real"
    small["camera"] = section(
        address="virtual", sensor={"read_noise_e": 4.0}
    ).model_dump()
    config = Instrument.model_validate(small)
    assert config.is_simulated
    with open_instrument(config, base_dir=tmp_path) as instrument:
        truth = instrument.truth
        assert truth is not None
        assert instrument.camera.capabilities.simulated
        x_um, y_um = truth.slide.centre_um
        focus_um = truth.mean_focus_um(x_um, y_um)
        for x_step_um, z_step_um in ((0.0, 0.0), (4.0, 1.0), (-3.0, -1.0)):
            target = StagePosition(
                x_um=x_um + x_step_um, y_um=y_um, z_um=focus_um + z_step_um
            )
            receipt = instrument.stage.move_to(target)
            frame = instrument.camera.grab(after=receipt)
            pose = truth.true_pose_at(frame.exposure_start_s)
            light = truth.renderer.render(pose.x_um, pose.y_um, pose.z_um)
            error = frame.pixels.astype(float) - truth.encode(light)
            assert abs(error.mean()) < 0.2
            assert error.std() < 3.0  # shot noise: 255 / sqrt(20000) is 1.8


def test_the_file_without_a_slide_is_refused(make_config: Any) -> None:
    document = make_config().model_dump()
    document["camera"] = section(address="virtual").model_dump()
    del document["virtual_slide"]
    with pytest.raises(ConfigError, match="virtual_slide"):
        parse_model(Instrument, document, source="bench.yaml")
