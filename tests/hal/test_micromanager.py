"""The Micro-Manager bridges against the real core and its demonstration devices."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bifocus.clock import Clock, RealClock, VirtualClock
from bifocus.config import Instrument
from bifocus.config_model import parse_model
from bifocus.errors import (
    ConfigError,
    DeviceError,
    DeviceTimeoutError,
    ProtocolError,
)
from bifocus.hal.devices import Camera, Stage
from bifocus.hal.micromanager_camera import as_rgb
from bifocus.hal.micromanager_core import lease_core
from bifocus.hal.micromanager_stage import MicroManagerStage, open_micromanager_stage
from bifocus.hal.open_instrument import open_instrument
from bifocus.hal.open_stage import open_stage
from bifocus.micromanager_config import MicroManagerCore
from bifocus.records import StagePosition
from tests.contracts.camera_contract import CameraContract
from tests.contracts.stage_contract import StageContract
from tests.hal.micromanager_demo import camera_section, core, stage_section
from tests.hal.real_time import opened_config

pytestmark = pytest.mark.slow


@contextmanager
def opened_stage(**changes: Any) -> Iterator[MicroManagerStage]:
    config = stage_section(**changes)
    stage = open_micromanager_stage(config, base_dir=Path(), clock=RealClock())
    try:
        yield stage
    finally:
        stage.close()


def at(x_um: float, y_um: float = 0.0, z_um: float = 0.0) -> StagePosition:
    return StagePosition(x_um=x_um, y_um=y_um, z_um=z_um)


@pytest.fixture
def clock() -> Clock:
    return RealClock()


@pytest.fixture
def stage() -> Iterator[Stage]:
    with opened_stage() as opened:
        yield opened


@pytest.fixture
def camera() -> Iterator[Camera]:
    with opened_config(camera_section()) as opened:
        yield opened


class TestMicroManagerStage(StageContract):
    pass


class TestMicroManagerStageWithTakeUp(StageContract):
    @pytest.fixture
    def stage(self) -> Iterator[Stage]:
        with opened_stage(
            take_up_um=(6.0, 6.0, 4.0), invert=(True, False, True)
        ) as opened:
            opened.move_to(opened.position())  # now every gap is known to be closed
            yield opened


class TestMicroManagerCamera(CameraContract):
    """Stage and camera hang on one core, as on a real instrument."""


def test_both_say_that_they_are_simulated(stage: Stage, camera: Camera) -> None:
    assert stage.capabilities.simulated
    assert camera.capabilities.simulated
    assert camera.capabilities.identity == "Micro-Manager DemoCamera DCam Cam"
    assert stage_section().is_simulated
    assert camera_section().is_simulated


def test_a_move_longer_than_its_deadline_is_stopped_and_told() -> None:
    """Micro-Manager's own wait would end in silence (nicost/micro-manager 24)."""
    with opened_stage(x_um=(-450.0, 9000.0), speed_um_per_s=(1e5,) * 3) as stage:
        began_s = time.monotonic()
        with pytest.raises(DeviceTimeoutError, match=r"XY.*still busy"):
            stage.move_to(at(8000.0))
        assert time.monotonic() - began_s < 4.0  # the whole way takes 8 s
        here = stage.position()
        assert here.x_um < 4000.0
        time.sleep(0.05)
        assert stage.position() == here


def test_a_stage_that_stops_short_is_an_error() -> None:
    with opened_stage() as stage:
        stage.move_to(at(10.0), wait=False)
        stage._lease.core.stop("XY")  # as an operator's joystick button does
        with pytest.raises(ProtocolError, match="says that the move has ended"):
            stage.move_to(at(0.0))


def test_what_an_adapter_refuses_is_told_in_its_words() -> None:
    with opened_stage(z_um=(-2000.0, 2000.0)) as stage:
        with pytest.raises(DeviceError, match="Position out of range"):
            stage.move_to(at(0.0, z_um=1500.0))


def test_stop_from_another_thread_ends_the_wait() -> None:
    with opened_stage() as stage:
        timer = threading.Timer(0.1, stage.stop)
        timer.start()
        with pytest.raises(DeviceError, match="was stopped"):
            stage.move_to(at(400.0))
        timer.join()
        assert 0.0 < stage.position().x_um < 400.0
        assert stage.move_to(at(400.0)).reported.x_um == pytest.approx(400, abs=0.02)


def test_homing_by_the_adapter_ends_inside_the_limits() -> None:
    with opened_stage(homing="adapter") as stage:
        receipt = stage.home()
        assert receipt.reported.z_um == 250.0


def test_axes_may_count_the_other_way() -> None:
    with opened_stage(invert=(True, False, True)) as stage:
        stage.move_to(at(20.0, 30.0, 40.0))
        lease = stage._lease
        assert lease.core.getXYPosition("XY") == pytest.approx([-20.0, 30.0], abs=0.02)
        assert lease.core.getPosition("Z") == pytest.approx(-40.0, abs=1e-3)


def test_the_objective_guard_keeps_z_off_the_glass() -> None:
    guard = {"bed_focus_um": -1000.0, "working_distance_um": 200.0}
    with opened_stage(objective_guard=guard) as stage:
        assert stage.limits.z_um == (20.0, 250.0)


def test_colour_pixels_are_rgb() -> None:
    with opened_config(camera_section()) as camera:
        device = camera._source._lease.core  # type: ignore[attr-defined]
        device.setProperty("Cam", "Mode", "Color Test Pattern")
        pixels = camera.grab().pixels
        assert pixels.shape == (64, 80, 3)
        raw = device.getImage()
        blue, green, red = (raw >> shift & 255 for shift in (0, 8, 16))
        assert np.array_equal(pixels, np.stack([red, green, blue], axis=-1))


def test_a_smaller_region_is_the_middle_of_the_sensor() -> None:
    wide = core()
    wide["devices"][2]["properties"] = {}  # 512 x 512 px
    with opened_config(camera_section(core=wide)) as camera:
        assert camera.grab().pixels.shape == (64, 80, 3)
        device = camera._source._lease.core  # type: ignore[attr-defined]
        assert device.getROI() == [216, 224, 80, 64]


def test_a_region_larger_than_the_sensor_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"has \(80, 64\) px.*\(96, 64\) px"):
        with opened_config(camera_section(width_px=96)):
            pass


def test_deep_pixels_are_refused() -> None:
    with pytest.raises(ConfigError, match="uint16"):
        as_rgb(np.zeros((4, 4), np.uint16))
    with pytest.raises(ConfigError, match=r"pixel_format '12bit'.*32bitRGB"):
        with opened_config(camera_section(pixel_format="12bit")):
            pass


def test_a_camera_that_hangs_in_its_adapter_is_an_error_in_time() -> None:
    """An exposure far longer than told stands for an adapter that hangs."""
    with opened_config(camera_section(timeout_s=0.1)) as camera:
        device = camera._source._lease.core  # type: ignore[attr-defined]
        device.setExposure("Cam", 2500.0)
        began_s = time.monotonic()
        with pytest.raises(DeviceTimeoutError):
            camera.grab()
        assert time.monotonic() - began_s < 2.0


def test_two_sections_share_one_core() -> None:
    with ExitStack() as stack:
        stage = stack.enter_context(opened_stage())
        camera = stack.enter_context(opened_config(camera_section()))
        theirs = camera._source._lease.core  # type: ignore[attr-defined]
        assert stage._lease.core is theirs
        stage.close()
        assert camera.grab().pixels.size


def test_its_own_configuration_file_is_read(tmp_path: Path) -> None:
    lines = (
        "Device,Stage,DemoCamera,DXYStage",
        "Device,Focus,DemoCamera,DStage",
        "Property,Core,Initialize,1",
    )
    (tmp_path / "mm.cfg").write_text("\n".join(lines), encoding="utf-8")
    given = core(config_file="mm.cfg")
    del given["devices"]
    changes = {"core": given, "xy_device": "Stage", "z_device": "Focus"}
    with pytest.raises(ConfigError, match="is a simulation; if that is meant"):
        open_micromanager_stage(
            stage_section(**changes), base_dir=tmp_path, clock=RealClock()
        )
    config = stage_section(**changes, simulated=True)
    assert config.is_simulated
    stage = open_micromanager_stage(config, base_dir=tmp_path, clock=RealClock())
    try:
        assert stage.capabilities.simulated
        assert stage.move_to(at(1.5)).reported.x_um == 1.5
    finally:
        stage.close()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"config_file": "missing.cfg", "devices": []}, "missing.cfg is missing"),
        ({"adapter_paths": ["/nowhere"]}, "/nowhere is not a folder"),
    ],
)
def test_missing_files_are_config_errors(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        lease_core(MicroManagerCore.model_validate(core(**changes)), base_dir=Path())


def test_an_adapter_that_is_not_there_is_told() -> None:
    wrong = core(devices=[{"label": "X", "library": "Nikon", "device": "TI"}])
    with pytest.raises(DeviceError, match="Nikon"):
        lease_core(MicroManagerCore.model_validate(wrong), base_dir=Path())


def test_a_label_that_is_not_loaded_is_told_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"xy_device 'YX'.*'XY', 'Z', 'Cam'"):
        with opened_stage(xy_device="YX"):
            pass


def test_a_program_that_used_it_ends_in_peace(tmp_path: Path) -> None:
    """The core's threads abort the interpreter unless it is let go of in time."""
    program = tmp_path / "use.py"
    program.write_text(
        "from pathlib import Path\n"
        "from tests.hal.micromanager_demo import core\n"
        "from bifocus.hal.micromanager_core import lease_core\n"
        "from bifocus.micromanager_config import MicroManagerCore\n"
        "config = MicroManagerCore.model_validate(core())\n"
        "lease = lease_core(config, base_dir=Path())\n"
        "lease.core.setCameraDevice('Cam')\n"
        "lease.core.snapImage()\n"
        "lease.close()\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, str(program)],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONPATH": "."},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()


def test_a_whole_instrument_opens_from_its_file(tmp_path: Path) -> None:
    document = {
        "version": 1,
        "name": "demo",
        "optics": {"na": 0.75, "pixel_um": 0.25},
        "stage": stage_section().model_dump(),
        "camera": camera_section().model_dump(),
    }
    config = parse_model(Instrument, document, source="demo.yaml")
    assert config.is_simulated
    with open_instrument(config, base_dir=tmp_path) as instrument:
        receipt = instrument.stage.move_to(at(3.0, 4.5, 6.0))
        frame = instrument.camera.grab(after=receipt)
        assert frame.pose == receipt.reported == at(3.0, 4.5, 6.0)
        assert instrument.truth is None


def test_a_stage_that_is_busy_for_a_while_is_waited_for() -> None:
    """SequenceTester's devices stay busy for some questions after each command."""
    names = ("TXYStage-0", "TZStage-0")
    devices: list[dict[str, str]] = [
        {"label": "Hub", "library": "SequenceTester", "device": "THub"}
    ]
    devices += [
        {"label": name, "library": "SequenceTester", "device": name, "hub": "Hub"}
        for name in names
    ]
    with opened_stage(
        core=core(devices=devices),
        xy_device=names[0],
        z_device=names[1],
        step_um=(0.1, 0.1, 0.1),
    ) as stage:
        receipt = stage.move_to(at(3.0, 4.0, 5.0))
        assert receipt.reported == at(3.0, 4.0, 5.0)
        assert not stage._busy()


def test_it_needs_the_real_clock(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="clock: real"):
        open_stage(stage_section(), clock=VirtualClock(), seed=0)
