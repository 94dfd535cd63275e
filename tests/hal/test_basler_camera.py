"""The Basler driver against the vendor's own camera emulation."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if importlib.util.find_spec("pypylon") is None:
    pytest.skip("needs pypylon: pip install 'bifocus[basler]'", allow_module_level=True)
os.environ["PYLON_CAMEMU"] = "1"  # read when the vendor's library loads

from bifocus.camera_config import BaslerCameraConfig
from bifocus.clock import Clock, RealClock
from bifocus.config import Instrument
from bifocus.errors import ConfigError, DeviceError
from bifocus.hal.devices import Camera, Stage
from bifocus.hal.fresh_frames import FreshCamera
from bifocus.hal.open_instrument import open_instrument
from tests.contracts.camera_contract import CameraContract
from tests.hal.real_time import opened_config, quick_stage

pytestmark = pytest.mark.slow


def section(**changes: Any) -> BaslerCameraConfig:
    base: dict[str, Any] = {
        "kind": "basler",
        "serial": "0815-0000",
        "width_px": 80,
        "height_px": 64,
        "pixel_format": "RGB8",
        "exposure_s": 0.005,
        "frame_rate_hz": 50.0,
        "timeout_s": 0.5,
    }
    return BaslerCameraConfig.model_validate(base | changes)


@pytest.fixture
def clock() -> Clock:
    return RealClock()


@pytest.fixture
def stage() -> Stage:
    return quick_stage()


@pytest.fixture(params=["software", "free"])
def camera(request: pytest.FixtureRequest) -> Iterator[Camera]:
    with opened_config(section(trigger=request.param)) as opened:
        yield opened


class TestBaslerEmulation(CameraContract):
    pass


def inner(camera: FreshCamera) -> Any:
    return camera._source._camera  # type: ignore[attr-defined]


def test_the_region_is_the_middle_of_the_sensor() -> None:
    with opened_config(section()) as camera:
        device = inner(camera)
        for offset, size in (
            (device.OffsetX, device.Width),
            (device.OffsetY, device.Height),
        ):
            middle = offset.Value + size.Value / 2
            sensor = offset.Max + size.Value
            assert abs(middle - sensor / 2) <= offset.Inc


def test_it_says_that_it_is_simulated() -> None:
    with opened_config(section()) as camera:
        assert camera.capabilities.simulated
        assert camera.capabilities.identity == "Emulation 0815-0000"


def test_colour_comes_as_red_green_blue(tmp_path: Any) -> None:
    import cv2

    rgb = np.zeros((64, 80, 3), np.uint8)
    rgb[:, :40], rgb[:, 40:] = (200, 100, 50), (10, 20, 30)
    cv2.imwrite(str(tmp_path / "own.png"), rgb[..., ::-1])
    with opened_config(section()) as camera:
        device = inner(camera)
        device.StopGrabbing()
        device.TestImageSelector.SetValue("Off")
        device.ImageFileMode.SetValue("On")
        device.ImageFilename.SetValue(str(tmp_path / "own.png"))
        camera.configure(exposure_s=0.005)
        assert np.array_equal(camera.grab().pixels, rgb)


def test_a_failed_frame_is_taken_again_and_counted() -> None:
    with opened_config(section()) as camera:
        device = inner(camera)
        device.ForceFailedBufferCount.SetValue(2)
        device.ForceFailedBuffer.Execute()
        assert camera.grab().pixels.shape == (64, 80, 3)
        assert camera.broken_frames >= 1


def test_a_camera_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(DeviceError, match=r"serial 999 found; seen:.*0815-0000"):
        with opened_config(section(serial="999")):
            pass


def test_a_format_it_has_not_is_a_config_error() -> None:
    config = section().model_copy(update={"pixel_format": "Mono32"})
    with pytest.raises(ConfigError, match=r"Mono32.*RGB8Packed"):
        with opened_config(config):
            pass


def test_the_emulation_must_be_meant(make_config: Any, tmp_path: Path) -> None:
    document = make_config().model_dump() | {"clock": "real"}
    document["camera"] = section().model_dump()
    config = Instrument.model_validate(document)
    with pytest.raises(ConfigError, match="simulated: true"):
        with open_instrument(config, base_dir=tmp_path):
            pass
    document["camera"]["simulated"] = True
    config = Instrument.model_validate(document)
    with open_instrument(config, base_dir=tmp_path) as instrument:
        receipt = instrument.stage.move_to(instrument.stage.position())
        frame = instrument.camera.grab(after=receipt)
        assert frame.pixels.shape == (64, 80, 3)
        assert instrument.truth is None
