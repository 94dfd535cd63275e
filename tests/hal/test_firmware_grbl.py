"""The virtual GRBL board against GRBL's interface, commands and jogging pages."""

import pytest

from bifocus.hal.firmware_kinds import make_firmware, typical_facts
from tests.hal.firmware_bench import Typist


@pytest.fixture
def grbl() -> Typist:
    """A board that has been unlocked, in relative millimetres."""
    typist = Typist("grbl")
    assert typist.ask("$X\n") == "[MSG:Caution: Unlocked]"
    assert typist.line() == "ok"
    assert typist.ask("G21 G91\n") == "ok"
    return typist


def status(typist: Typist) -> dict[str, str]:
    text = typist.ask("?")
    assert text.startswith("<")
    assert text.endswith(">")
    state, *fields = text[1:-1].split("|")
    return {"state": state} | dict(field.split(":", 1) for field in fields)


def test_a_board_with_switches_wakes_up_locked() -> None:
    grbl = Typist("grbl")
    assert grbl.banner == ["Grbl 1.1h ['$' for help]", "[MSG:'$H'|'$X' to unlock]"]
    assert status(grbl)["state"] == "Alarm"
    assert grbl.ask("G0 X1\n") == "error:9"
    assert grbl.ask("$J=G91 X1 F10\n") == "error:8"


def test_ok_means_queued(grbl: Typist) -> None:
    began_s = grbl.clock.monotonic_s()
    assert grbl.ask("$J=G91 X-10 F600\n") == "ok"
    assert grbl.clock.monotonic_s() - began_s < 0.01
    grbl.hear(0.5)
    found = status(grbl)
    assert found["state"] == "Jog"
    # 10 mm/s after 0.1 s of ramp at 100 mm/s2: 0.5 s make 4.5 mm.
    assert float(found["MPos"].split(",")[0]) == pytest.approx(-4.5, abs=0.1)
    assert grbl.ask("G4 P0.01\n") == "error:9"  # g-code is locked out during a jog
    grbl.hear(1.0)
    assert status(grbl)["state"] == "Idle"
    assert grbl.shared.motor_at(grbl.clock.monotonic_s()).x_um == pytest.approx(-1e4)


def test_a_dwell_waits_for_the_planner(grbl: Typist) -> None:
    began_s = grbl.clock.monotonic_s()
    assert grbl.ask("G1 X-1 F60\n") == "ok"
    grbl.type("G4 P0.5\n")
    assert grbl.hear(1.4) == []
    assert grbl.line() == "ok"
    # 1 mm at 1 mm/s, one ramp of 10 ms, and the dwell.
    assert grbl.clock.monotonic_s() - began_s == pytest.approx(1.51, abs=0.02)


def test_jog_cancel_keeps_the_position(grbl: Typist) -> None:
    grbl.ask("$J=G91 X-10 F600\n")
    grbl.hear(0.5)
    grbl.type("\x85")
    found = status(grbl)
    assert found["state"] == "Idle"
    x_mm = float(found["MPos"].split(",")[0])
    truth_um = grbl.shared.motor_at(grbl.clock.monotonic_s()).x_um
    assert x_mm * 1000 == pytest.approx(truth_um, abs=0.7)
    grbl.ask("$J=G91 X-1 F600\n")
    grbl.hear(1.0)
    after = float(status(grbl)["MPos"].split(",")[0])
    assert after == pytest.approx(x_mm - 1, abs=0.002)


def test_hold_and_resume_reach_the_target(grbl: Typist) -> None:
    grbl.ask("G1 X-2 F600\n")
    grbl.ask("G1 Y-1 F600\n")
    grbl.hear(0.1)
    grbl.type("!")
    assert status(grbl)["state"] == "Hold:0"
    held = status(grbl)["MPos"]
    grbl.hear(5.0)
    assert status(grbl)["MPos"] == held
    grbl.type("~")
    grbl.hear(5.0)
    assert status(grbl)["MPos"] == "-2.000,-1.000,0.000"


def test_a_soft_reset_in_motion_is_alarm_3(grbl: Typist) -> None:
    grbl.ask("$J=G91 X-10 F600\n")
    grbl.hear(0.5)
    grbl.type("\x18")
    assert grbl.hear(0.5) == [
        "ALARM:3",
        "Grbl 1.1h ['$' for help]",
        "[MSG:'$H'|'$X' to unlock]",
    ]
    assert status(grbl)["state"] == "Alarm"


def test_homing_ends_off_the_switches_with_negative_space_below(grbl: Typist) -> None:
    grbl.ask("$J=G91 X-10 Y-5 Z-2 F600\n")
    grbl.hear(3.0)
    grbl.type("$H\n")
    grbl.type("?")
    assert grbl.hear(0.1) == []  # no status report while homing
    assert grbl.line() == "ok"
    assert status(grbl)["MPos"] == "-1.000,-1.000,-1.000"
    motor = grbl.shared.motor_at(grbl.clock.monotonic_s())
    assert (motor.x_um, motor.y_um, motor.z_um) == (-1000.0, -1000.0, -1000.0)


def test_z_homes_before_x_and_y(grbl: Typist) -> None:
    grbl.ask("$J=G91 X-10 Z-2 F600\n")
    grbl.hear(3.0)
    grbl.type("$H\n")
    for _ in range(200):
        grbl.hear(0.01)
        motor = grbl.shared.motor_at(grbl.clock.monotonic_s())
        if motor.x_um > -9999:
            assert motor.z_um == pytest.approx(-1000.0)
            return
    pytest.fail("x never moved")


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("G1 X", "error:2"),
        ("1X", "error:1"),
        ("$foo", "error:3"),
        ("$22=-1", "error:4"),
        ("G1 X-1", "error:22"),
        ("G2 X1 I1", "error:20"),
        ("G5", "error:20"),
        ("$J=G91 X-1", "error:22"),
        ("$J=G91 F100", "error:26"),
        ("$J=G91 G1 X-1 F100", "error:16"),
        ("$J=G90 X1 F100", "error:15"),
        ("$J=G91 X-1000 F100", "error:15"),
        ("G4", "error:28"),
        ("X" * 81, "error:11"),
        ("", "ok"),
        ("(comment)", "ok"),
        ("M3 S100", "ok"),
    ],
)
def test_errors_have_their_numbers(grbl: Typist, line: str, reply: str) -> None:
    before = status(grbl)["MPos"]
    assert grbl.ask(line + "\n") == reply
    grbl.hear(0.5)
    assert status(grbl)["MPos"] == before


def test_a_soft_limit_is_alarm_2_until_reset(grbl: Typist) -> None:
    assert grbl.ask("G90 G0 X1\n") == "ALARM:2"
    assert grbl.line() == "[MSG:Reset to continue]"
    grbl.type("?\n$X\n")
    assert grbl.hear(1.0) == []
    grbl.type("\x18")
    assert "[MSG:'$H'|'$X' to unlock]" in grbl.hear(0.5)
    assert grbl.ask("$X\n") == "[MSG:Caution: Unlocked]"


def test_a_hard_limit_is_alarm_1(grbl: Typist) -> None:
    grbl.ask("$J=G91 X-10 F600\n")
    grbl.hear(0.5)
    grbl.board.raise_limit_alarm(grbl.clock.monotonic_s())
    assert grbl.hear(0.1) == ["ALARM:1", "[MSG:Reset to continue]"]
    stopped = grbl.shared.motor_at(grbl.clock.monotonic_s())
    grbl.hear(2.0)
    assert grbl.shared.motor_at(grbl.clock.monotonic_s()) == stopped


def test_the_planner_holds_fifteen_blocks(grbl: Typist) -> None:
    for _ in range(15):
        assert grbl.ask("G1 X-0.1 F60\n", 0.01) == "ok"
    grbl.type("G1 X-0.1 F60\n")
    assert grbl.hear(0.05) == []
    assert status(grbl)["state"] == "Run"  # real-time bytes get through all the same
    assert grbl.line(0.1) == "ok"
    grbl.hear(3.0)
    assert status(grbl)["MPos"] == "-1.600,0.000,0.000"


def test_settings_are_told_and_can_be_set(grbl: Typist) -> None:
    grbl.type("$$\n")
    lines = grbl.hear(0.2)
    assert lines[-1] == "ok"
    settings = dict(line.split("=") for line in lines[:-1])
    assert settings["$100"] == "1600.000"  # 3200 microsteps over 2 mm
    assert settings["$110"] == "600.000"
    assert settings["$130"] == "80.000"
    assert grbl.ask("$10=3\n") == "ok"
    assert status(grbl)["Bf"] == "15,128"


def test_work_offsets_shift_what_g90_means(grbl: Typist) -> None:
    assert grbl.ask("G10 L20 P1 X5\n") == "ok"
    assert grbl.ask("G90 G0 X4\n") == "ok"
    grbl.hear(1.0)
    found = status(grbl)
    assert found["MPos"] == "-1.000,0.000,0.000"
    assert found.get("WCO", "-5.000,0.000,0.000") == "-5.000,0.000,0.000"
    assert grbl.ask("$#\n") == "[G54:-5.000,0.000,0.000]"


def test_without_switches_there_is_no_lock_and_no_homing() -> None:
    facts = typical_facts("grbl")
    free = type(facts)(
        step_um=facts.step_um,
        speed_um_per_s=facts.speed_um_per_s,
        acceleration_um_per_s2=facts.acceleration_um_per_s2,
    )
    board = make_firmware("grbl", free, now_s=0.0, seed=1)
    grbl = Typist("grbl", board=board)
    assert grbl.banner == ["Grbl 1.1h ['$' for help]"]
    assert grbl.ask("$H\n") == "error:5"
    assert grbl.ask("$J=G91 X7 F600\n") == "ok"


def test_inches_are_inches(grbl: Typist) -> None:
    grbl.ask("$J=G20 G91 X-0.1 F100\n")
    grbl.hear(2.0)
    assert status(grbl)["MPos"] == "-2.540,0.000,0.000"
