"""Homing: z away from the glass first, nothing moves before it, and after a reset."""

import threading

import pytest

from bifocus.clock import Clock, FakeClock, RealClock
from bifocus.errors import ConfigError, DeviceError, ReferenceLostError
from bifocus.hal.firmware_axes import AxesFacts
from bifocus.hal.firmware_kinds import FirmwareKind, make_firmware
from bifocus.hal.open_stage import open_serial_stage
from bifocus.hal.serial_stage import SerialStage
from bifocus.hal.shared_firmware import SharedFirmware
from bifocus.hal.virtual_link import VirtualLink
from bifocus.records import StagePosition
from tests.hal.boards import stage_config
from tests.hal.scripted_link import ScriptedLink

# The corner with the switches is zero for GRBL; for Marlin the low ends of x and y are,
# and the top of z is its length.
TRAVEL = {
    "grbl": ((-8000.0, 0.0), (-8000.0, 0.0), (-6000.0, 0.0)),
    "marlin": ((0.0, 2000.0), (0.0, 2000.0), (0.0, 1000.0)),
}
LIMITS = {
    "grbl": {
        "x_um": (-5000.0, -1500.0),
        "y_um": (-5000.0, -1500.0),
        "z_um": (-4000.0, -1500.0),
    },
    "marlin": {
        "x_um": (50.0, 1900.0),
        "y_um": (50.0, 1900.0),
        "z_um": (50.0, 900.0),
    },
}


class Machine:
    """A stage with switches, switched on in the middle of its travel."""

    def __init__(self, kind: FirmwareKind, clock: Clock) -> None:
        self.clock = clock
        config = stage_config(kind, port="toy", homing="switches", **LIMITS[kind])
        x, y, z = (sum(span) / 2 for span in TRAVEL[kind])
        facts = AxesFacts(
            step_um=config.step_um,
            speed_um_per_s=config.speed_um_per_s,
            acceleration_um_per_s2=config.acceleration_um_per_s2,
            start_um=(x, y, z),
            travel_um=TRAVEL[kind],
        )
        self.firmware = make_firmware(kind, facts, now_s=clock.monotonic_s(), seed=1)
        self.truth = SharedFirmware(self.firmware, clock=clock)
        self.link = VirtualLink(self.truth)
        self._config = config

    def open(self) -> SerialStage:
        return open_serial_stage(self._config, self.link, clock=self.clock)


@pytest.fixture(params=["grbl", "marlin"])
def machine(request: pytest.FixtureRequest, clock: FakeClock) -> Machine:
    return Machine(request.param, clock)


def middle(stage: SerialStage) -> StagePosition:
    x_um, y_um, z_um = (
        sum(ends) / 2
        for ends in (stage.limits.x_um, stage.limits.y_um, stage.limits.z_um)
    )
    return StagePosition(x_um=x_um, y_um=y_um, z_um=z_um)


def check_true(machine: Machine, stage: SerialStage) -> None:
    truly = machine.truth.motor_at(machine.clock.monotonic_s())
    told = stage.position()
    for axis in ("x_um", "y_um", "z_um"):
        assert getattr(truly, axis) == pytest.approx(getattr(told, axis), abs=1.0)


def test_nothing_moves_before_homing(machine: Machine) -> None:
    stage = machine.open()
    assert stage.capabilities.needs_home
    for ask in (stage.position, lambda: stage.move_to(middle(stage))):
        with pytest.raises(ReferenceLostError, match="home"):
            ask()
    assert machine.firmware.axes.n_moves == 0


def test_z_goes_first_and_to_the_top(machine: Machine) -> None:
    stage = machine.open()
    begin_s = machine.clock.monotonic_s()
    start = machine.truth.motor_at(begin_s)
    receipt = stage.home()
    # GRBL stops $27 = 1 mm short of its switch; Marlin stays where the switch closed.
    top_um = {0.0: -1000.0, 1000.0: 1000.0}[machine.firmware.axes.facts.travel_um[2][1]]
    highest_um = start.z_um
    at_s = begin_s
    while at_s < receipt.end_s:
        here = machine.truth.motor_at(at_s)
        highest_um = max(highest_um, here.z_um)
        if abs(here.x_um - start.x_um) + abs(here.y_um - start.y_um) > 1.0:
            assert highest_um == pytest.approx(top_um, abs=1.0)
        at_s += 0.02
    low_um, high_um = stage.limits.z_um
    assert low_um <= receipt.reported.z_um <= high_um
    check_true(machine, stage)
    stage.move_to(middle(stage))
    check_true(machine, stage)


def test_homing_heals_a_reset(machine: Machine) -> None:
    stage = machine.open()
    stage.home()
    stage.move_to(middle(stage))
    machine.firmware.reset(machine.clock.monotonic_s())
    machine.clock.sleep(5.0)
    with pytest.raises(ReferenceLostError):
        stage.move_to(middle(stage))
    with pytest.raises(ReferenceLostError):
        stage.position()
    stage.home()
    stage.move_to(middle(stage))
    check_true(machine, stage)


def test_grbl_that_would_home_towards_the_glass(clock: FakeClock) -> None:
    machine = Machine("grbl", clock)
    clock.sleep(1.0)  # it boots
    machine.link.write(b"$X\n")
    machine.link.write(b"$23=4\n")
    clock.sleep(1.0)
    stage = machine.open()
    with pytest.raises(ConfigError, match=r"\$23"):
        stage.home()
    assert machine.firmware.axes.n_moves == 0


@pytest.mark.slow
def test_grbl_stops_homing_at_once() -> None:
    machine = Machine("grbl", RealClock())
    stage = machine.open()
    ended: list[BaseException] = []

    def home() -> None:
        try:
            stage.home()
        except ReferenceLostError as error:
            ended.append(error)

    thread = threading.Thread(target=home)
    thread.start()
    while machine.firmware.axes.rest_from_s() <= machine.clock.monotonic_s():
        machine.clock.sleep(0.01)
    begin_s = machine.clock.monotonic_s()
    stage.stop()
    assert machine.clock.monotonic_s() - begin_s < 3.0
    thread.join(5.0)
    assert [type(error) for error in ended] == [ReferenceLostError]
    assert machine.truth.rest_from_s() <= machine.clock.monotonic_s()
    with pytest.raises(ReferenceLostError):
        stage.position()


def test_sangaboard_homes_z_before_x_and_y(clock: FakeClock) -> None:
    link = ScriptedLink(
        clock,
        {
            b"version": [b"Sangaboard Firmware v0.5\r\n"],
            b"dt?": [b"minimum step delay 1000\r\n"],
            b"ramp_time?": [b"ramp time 0\r\n"],
            b"board": [b"Sangaboard v0.3\r\n"],
            b"home_min": [[(20.0, b"done.\r\n")]],
            b"p?": [b"3500 3500 -3500\r\n"],
            b"mr": [b"done.\r\n"],
        },
    )
    config = stage_config(
        "sangaboard", port="toy", homing="switches", invert=(False, False, True)
    )
    stage = open_serial_stage(config, link, clock=clock)
    with pytest.raises(DeviceError, match="obstacle"):  # the script's place stays
        stage.home()
    homing = [line for line in link.sent if line.startswith(b"home")]
    assert homing == [b"home_min 4\n", b"home_min 3\n"]


def test_sangaboard_must_home_away_from_the_glass() -> None:
    with pytest.raises(ValueError, match="inverted"):
        stage_config("sangaboard", port="toy", homing="switches")
