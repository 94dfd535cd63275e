"""The virtual ASI controller against ASI's command pages."""

import dataclasses

import pytest

from bifocus.hal.firmware_kinds import typical_facts
from tests.hal.firmware_bench import Typist


@pytest.fixture
def asi() -> Typist:
    """A controller whose encoder lines fall on whole tenths of a micrometre."""
    facts = dataclasses.replace(typical_facts("asi"), step_um=(0.02, 0.02, 0.005))
    return Typist("asi", facts)


def wait_idle(typist: Typist) -> None:
    while typist.ask("/\r") == "B":
        typist.hear(0.01)


def test_opening_resets_nothing(asi: Typist) -> None:
    assert asi.banner == []
    asi.ask("M X=1000\r")
    wait_idle(asi)
    asi.link.reopen()
    assert asi.ask("W X\r") == ":A 1000.0"


def test_a_move_is_answered_at_once(asi: Typist) -> None:
    began_s = asi.clock.monotonic_s()
    assert asi.ask("M X=70000 Z=-1000\r") == ":A"
    assert asi.clock.monotonic_s() - began_s < 0.01
    assert asi.ask("/\r") == "B"
    wait_idle(asi)
    # 7 mm at 7 mm/s with ramps of 50 ms.
    assert asi.clock.monotonic_s() - began_s == pytest.approx(1.05, abs=0.03)
    motor = asi.shared.motor_at(asi.clock.monotonic_s())
    assert motor.x_um == pytest.approx(7000, abs=0.022)
    assert motor.z_um == pytest.approx(-100, abs=0.0055)


def test_a_missing_number_is_zero(asi: Typist) -> None:
    asi.ask("M Z=500\r")
    wait_idle(asi)
    assert asi.ask("M Z\r") == ":A"
    wait_idle(asi)
    assert asi.ask("W Z\r") == ":A 0"


def test_where_answers_in_hardware_order(asi: Typist) -> None:
    asi.ask("M X=100 Y=200 Z=300\r")
    wait_idle(asi)
    asi.ask("VB Z=0\r")
    assert asi.ask("W Z X Y\r") == ":A 100 200 300"


def test_halt_says_minus_21_only_in_a_move(asi: Typist) -> None:
    assert asi.ask("\\\r") == ":A"
    asi.ask("M X=70000\r")
    asi.hear(0.5)
    assert asi.ask("HALT\r") == ":N-21"
    assert asi.ask("/\r") == "N"
    told = float(asi.ask("W X\r").split()[1]) / 10
    motor = asi.shared.motor_at(asi.clock.monotonic_s())
    assert 0 < motor.x_um < 7000
    assert told == pytest.approx(motor.x_um, abs=0.1)


def test_an_axis_on_its_way_goes_on_when_another_starts(asi: Typist) -> None:
    asi.ask("M X=70000\r")
    asi.hear(0.3)
    asi.ask("R Z=100\r")
    wait_idle(asi)
    assert asi.ask("W X Z\r") == ":A 70000.0 100.0"


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("FLY X=1", ":N-1"),
        ("M Q=1", ":N-2"),
        ("M", ":N-3"),
        ("m x=1", ":A"),
        ("MOVE X=1", ":A"),
        ("H Z=0", ":A"),
        ("Z", ":A"),
        ("S Z?", ":A Z=1.750000"),
        ("AC X?", ":X=50.000000 A"),
        ("B X?", ":X=0.000000 A"),
        ("SU X?", ":A X=1000.000000"),
        ("V", ":A Version: USB-9.2m"),
        ("RS X?", ":A N"),
        ("RS X Y? Z", ":A 10N 10"),
        ("MC Z+", ":A"),
    ],
)
def test_replies(asi: Typist, command: str, reply: str) -> None:
    assert asi.ask(command + "\r") == reply


def test_speed_is_clamped_to_the_highest(asi: Typist) -> None:
    assert asi.ask("S X=99\r") == ":A"
    assert asi.ask("S X?\r") == ":A X=7.000000"


def test_a_speed_left_out_is_the_lowest_and_moves_still_end(asi: Typist) -> None:
    asi.ask("M X=-1000\r")
    wait_idle(asi)
    assert asi.ask("S X\r") == ":A"  # a number left out is zero
    assert asi.ask("S X?\r") == ":A X=0.010000"
    assert asi.ask("M X=-1010\r") == ":A"
    wait_idle(asi)
    assert asi.ask("W X\r") == ":A -1010.0"


def test_a_limit_may_be_set_to_this_place(asi: Typist) -> None:
    asi.ask("M X=-1000\r")
    wait_idle(asi)
    assert asi.ask("SL X+\r") == ":A"
    assert asi.ask("SL X?\r") == ":A X=-0.100000"
    assert asi.ask("SL X-\r") == ":A"  # back to the factory's
    assert asi.ask("SL X?\r") == ":A X=-1000.000000"


def test_soft_limits_clip_in_silence(asi: Typist) -> None:
    asi.ask("SU X=0.1\r")
    assert asi.ask("M X=5000\r") == ":A"
    wait_idle(asi)
    assert asi.ask("W X\r") == ":A 1000.0"


def test_backlash_setting_makes_the_last_stretch_upward(asi: Typist) -> None:
    asi.ask("B X=0.04\r")
    asi.ask("M X=-1000\r")
    lowest = 0.0
    while asi.ask("/\r") == "B":
        here_um = asi.shared.motor_at(asi.clock.monotonic_s()).x_um
        lowest = min(lowest, here_um)
        asi.hear(0.002)
    assert lowest == pytest.approx(-140, abs=2)
    assert asi.ask("W X\r") == ":A -1000.0"


def test_a_reset_is_silent_and_loses_the_coordinates(asi: Typist) -> None:
    asi.ask("M X=1000\r")
    wait_idle(asi)
    assert asi.ask("~\r") == ":A"
    assert asi.hear(1.0) == []
    assert asi.ask("W X\r") == ":A 0"
    assert asi.shared.motor_at(asi.clock.monotonic_s()).x_um == pytest.approx(100.0)


def test_a_disabled_axis_stays(asi: Typist) -> None:
    asi.ask("MC X-\r")
    assert asi.ask("M X=1000 Y=1000\r") == ":A"
    wait_idle(asi)
    assert asi.ask("W X Y\r") == ":A 0 1000.0"


def test_tiger_addresses_are_checked() -> None:
    tiger = Typist("asi-tiger")
    assert tiger.ask("9V\r") == ":N-7"
    tiger.type("1BU X\r")
    assert tiger.line().split("\r")[0] == "STD_XY"
    tiger.type("BU X\r")
    lines = tiger.line().split("\r")
    assert lines[0] == "TIGER_COMM"
    assert "Motor Axes: X Y Z" in lines
    assert "Hex Addr: 31 31 32" in lines


def test_an_ms2000_knows_no_addresses(asi: Typist) -> None:
    assert asi.ask("1V\r") == ":N-1"
