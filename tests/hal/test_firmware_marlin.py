"""The virtual Marlin board against Marlin's line protocol and replies."""

import functools
import operator

import pytest

from bifocus.hal.firmware_axes import FirmwareAxes
from bifocus.hal.firmware_kinds import typical_facts
from bifocus.hal.firmware_marlin import MarlinBuild, MarlinFirmware
from tests.hal.firmware_bench import Typist


@pytest.fixture
def marlin() -> Typist:
    return Typist("marlin")


def numbered(number: int, text: str) -> str:
    """Marlin's checksum: exclusive or of all characters before the star."""
    body = f"N{number} {text}"
    return f"{body}*{functools.reduce(operator.xor, body.encode())}\n"


def place(typist: Typist) -> tuple[dict[str, float], dict[str, int]]:
    text = typist.ask("M114\n")
    assert typist.line() == "ok"
    planned, _, counted = text.partition(" Count ")
    return (
        {part[0]: float(part[2:]) for part in planned.split()},
        {part[0]: int(part[2:]) for part in counted.split()},
    )


def built(build: MarlinBuild) -> Typist:
    axes = FirmwareAxes(typical_facts("marlin"), now_s=0.0, seed=1)
    return Typist("marlin", board=MarlinFirmware(axes, now_s=0.0, build=build))


def test_the_boot_says_start(marlin: Typist) -> None:
    assert marlin.banner[0] == "start"


def test_moves_are_queued_and_m400_waits(marlin: Typist) -> None:
    assert marlin.ask("G91\n") == "ok"
    began_s = marlin.clock.monotonic_s()
    assert marlin.ask("G0 X10 F600\n") == "ok"
    assert marlin.clock.monotonic_s() - began_s < 0.01
    planned, counted = place(marlin)
    assert planned["X"] == 10.00
    assert counted["X"] < 1600  # under way
    assert marlin.ask("M400\n") == "ok"
    # 10 mm at 10 mm/s with one ramp of 0.1 s, and Marlin's 0.1 s for M400.
    assert marlin.clock.monotonic_s() - began_s == pytest.approx(1.2, abs=0.02)
    assert place(marlin)[1]["X"] == 16000


def test_the_place_is_told_coarsely_but_counted_finely(marlin: Typist) -> None:
    marlin.ask("G0 Z0.0025 F60\n")
    marlin.ask("M400\n")
    planned, counted = place(marlin)
    assert planned["Z"] == 0.0  # 2.5 um, in a field of 10 um
    assert counted["Z"] == 8


def test_long_waits_say_busy_every_two_seconds(marlin: Typist) -> None:
    marlin.ask("G0 X50 F600\n")
    marlin.type("M400\n")
    assert marlin.hear(5.4) == ["echo:busy: processing"] * 2 + ["ok"]


def test_numbered_lines_are_checked(marlin: Typist) -> None:
    assert marlin.ask(numbered(1, "G91")) == "ok"
    assert marlin.ask(numbered(2, "G0 X1 F600")) == "ok"
    marlin.type(numbered(2, "G0 X1 F600"))  # sent again: not done again
    assert marlin.hear(0.1) == [
        "Error:Line Number is not Last Line Number+1, Last Line: 2",
        "Resend: 3",
        "ok",
    ]
    marlin.type("N3 G0 X1*1\n")
    assert marlin.hear(0.1)[:2] == [
        "Error:checksum mismatch, Last Line: 2",
        "Resend: 3",
    ]
    marlin.type("N3 G0 X1\n")
    assert marlin.hear(0.1)[0].startswith("Error:No Checksum with line number")
    assert marlin.ask(numbered(3, "G0 X1 F600")) == "ok"
    marlin.ask("M400\n")
    assert place(marlin)[1]["X"] == 3200


def test_m110_sets_the_line_number(marlin: Typist) -> None:
    assert marlin.ask(numbered(0, "M110 N0")) == "ok"
    assert marlin.ask(numbered(1, "M400")) == "ok"
    assert marlin.ask(numbered(41, "M110 N41")) == "ok"
    assert marlin.ask(numbered(42, "M400")) == "ok"


def test_homing_is_low_in_x_y_and_high_in_z(marlin: Typist) -> None:
    marlin.ask("G0 X3 Y4 Z5 F600\n")
    marlin.ask("M400\n")
    assert marlin.ask("G28 Z\n").startswith("X:3.00 Y:4.00 Z:20.00")
    assert marlin.line() == "ok"
    marlin.ask("G28\n")
    marlin.line()
    motor = marlin.shared.motor_at(marlin.clock.monotonic_s())
    assert (motor.x_um, motor.y_um, motor.z_um) == (0.0, 0.0, 20000.0)


def test_targets_beyond_the_soft_endstops_are_clipped_in_silence(
    marlin: Typist,
) -> None:
    marlin.type("G28\n")
    marlin.hear(10.0)
    assert marlin.ask("G90\n") == "ok"
    assert marlin.ask("G0 X-5 Z30 F6000\n") == "ok"
    marlin.ask("M400\n")
    assert place(marlin)[0] == {"X": 0.0, "Y": 0.0, "Z": 20.0, "E": 0.0}
    assert marlin.ask("M211\n").startswith("Soft endstops: ON   Min:  X0.00 Y0.00")


def test_g92_shifts_the_told_place_not_the_count(marlin: Typist) -> None:
    marlin.ask("G92 X7\n")
    planned, counted = place(marlin)
    assert planned["X"] == 7.0
    assert counted["X"] == 0
    marlin.ask("G0 X8 F600\n")
    marlin.ask("M400\n")
    assert place(marlin)[1]["X"] == 1600


def test_unknown_commands_are_echoed_and_ok(marlin: Typist) -> None:
    assert marlin.ask("M777\n") == 'echo:Unknown command: "M777"'
    assert marlin.line() == "ok"


def test_only_four_lines_wait_in_the_queue(marlin: Typist) -> None:
    marlin.ask("G0 X50 F600\n")
    marlin.type("M400\n")
    marlin.type("M114\n" * 40)  # 3 fit in the queue, 128 bytes in the buffer
    assert marlin.hear(1.0) == []
    oks = [text for text in marlin.hear(10.0) if text == "ok"]
    assert len(oks) == 1 + 3 + 128 // 5
    assert marlin.board.lost_bytes == 40 * 5 - 3 * 5 - 128


def test_m112_is_seen_late_without_an_emergency_parser(marlin: Typist) -> None:
    marlin.ask("G0 X20 F600\n")
    marlin.type("M400\n")
    marlin.type("M112\n")
    heard = marlin.hear(10.0)
    assert heard[-2:] == ["ok", "Error:Printer halted. kill() called!"]
    assert marlin.shared.motor_at(marlin.clock.monotonic_s()).x_um == 20000.0
    marlin.type("M114\n")
    assert marlin.hear(5.0) == []  # silence until the board is reset
    marlin.link.reopen()
    assert marlin.line() == "start"


def test_m410_with_an_emergency_parser_stops_at_once() -> None:
    marlin = built(MarlinBuild(has_emergency_parser=True))
    marlin.ask("G0 X20 F600\n")
    marlin.type("M400\n")
    marlin.hear(0.5)
    marlin.type("M410\n")
    now_s = marlin.clock.monotonic_s()
    assert marlin.shared.rest_from_s() == pytest.approx(now_s, abs=0.01)
    marlin.hear(30.0)
    counted = place(marlin)[1]["X"]
    motor = marlin.shared.motor_at(marlin.clock.monotonic_s())
    assert counted * 0.625 == pytest.approx(motor.x_um, abs=0.7)


def test_capabilities_are_told() -> None:
    for has_parser in (False, True):
        marlin = built(MarlinBuild(has_emergency_parser=has_parser))
        marlin.type("M115\n")
        heard = marlin.hear(0.1)
        assert heard[0].startswith("FIRMWARE_NAME:Marlin")
        assert f"Cap:EMERGENCY_PARSER:{int(has_parser)}" in heard
        assert heard[-1] == "ok"


def test_an_advanced_ok_counts_places() -> None:
    marlin = built(MarlinBuild(has_advanced_ok=True))
    assert marlin.ask(numbered(1, "G0 X1 F60")) == "ok N1 P14 B3"


def test_steps_per_mm_are_told(marlin: Typist) -> None:
    assert marlin.ask("M92\n") == "echo:  M92 X1600.00 Y1600.00 Z3200.00 E100.00"
