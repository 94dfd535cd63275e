"""The virtual Sangaboard against the command tables of the real ones."""

import pytest

from tests.hal.firmware_bench import Typist


@pytest.fixture
def old() -> Typist:
    return Typist("sangaboard")


@pytest.fixture
def new() -> Typist:
    return Typist("sangaboard-v1")


def test_opening_the_port_prints_the_banner(old: Typist, new: Typist) -> None:
    assert old.banner == ["Sangaboard Firmware v0.5.1"]
    assert new.banner == ["Sangaboard Firmware v1.0.4"]


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("version", "Sangaboard Firmware v0.5.1"),
        ("board", "Sangaboard v0.3"),
        ("list_modules", "--END--"),
        ("p?", "0 0 0"),
        ("p?junk", "0 0 0"),
        ("position?", "0 0 0"),
        ("dt 900", "done."),
        ("dt?", "minimum step delay 1000"),
        ("ramp_time?", "ramp time 0"),
        ("release", "motors released"),
        ("zero", "position reset to 0 0 0"),
        ("mrx 4", "done"),
        ("mr 1 2 3", "done."),
        ("move_rel 1 2 3", "done."),
        ("dt x", "Bad command."),
        ("moving?", "Type 'help' for a list of commands."),
        ("stop", "Type 'help' for a list of commands."),
    ],
)
def test_replies_of_version_0_5(old: Typist, command: str, reply: str) -> None:
    assert old.ask(command + "\n") == reply


def test_a_move_blocks_for_steps_times_delay(old: Typist) -> None:
    began_s = old.clock.monotonic_s()
    assert old.ask("mr 500 -2000 10\n") == "done."
    # The slowest axis sets the time: 2000 steps of 1000 us; 3 ms to answer.
    assert old.clock.monotonic_s() - began_s == pytest.approx(2.003, abs=1e-4)
    assert old.ask("p?\n") == "500 -2000 10"
    truth = old.board.true_pose_at(old.clock.monotonic_s())
    assert truth.x_um == pytest.approx(500 * 0.09)
    assert truth.y_um == pytest.approx(-2000 * 0.09)


def test_nothing_is_answered_during_a_move(old: Typist) -> None:
    old.type("mrx 1000\n")
    old.type("p?\n")
    assert old.hear(0.9) == []
    assert old.hear(0.2) == ["done", "1000 0 0"]


def test_a_full_buffer_loses_bytes(old: Typist) -> None:
    old.type("mrx 1000\n")
    old.type("p?\n" * 30)  # 90 bytes; 63 fit
    heard = old.hear(1.2)
    assert heard == ["done"] + ["1000 0 0"] * 21
    assert old.board.lost_bytes == 27


def test_a_cut_line_is_executed_after_a_second(old: Typist) -> None:
    old.type("mrz 10")  # was to be 1000
    assert old.hear(0.99) == []
    assert old.line(0.1) == "done"
    assert old.ask("p?\n") == "0 0 10"


def test_a_line_completed_in_time_is_one_line(old: Typist) -> None:
    old.type("mrz 1")
    assert old.hear(0.8) == []
    old.type("00\n")
    assert old.line(0.2) == "done"
    assert old.ask("p?\n") == "0 0 100"


def test_too_few_numbers_complain_and_move_all_the_same(old: Typist) -> None:
    old.ask("mr 1 2 30\n")
    assert old.ask("mr 5 5\n") == "Error: command is mr <int> <int> <int>"
    assert old.line() == "done."
    assert old.ask("p?\n") == "6 7 60"


def test_a_reset_in_a_move_forgets_the_move(old: Typist) -> None:
    old.ask("mrx 400\n")
    old.type("mrx 1000\n")
    old.hear(0.5)
    old.link.reopen()
    assert old.line() == "Sangaboard Firmware v0.5.1"
    # The count is that of before the move; the motor is half-way.
    assert old.ask("p?\n") == "400 0 0"
    motor = old.shared.motor_at(old.clock.monotonic_s())
    assert motor.x_um == pytest.approx(900 * 0.09, abs=0.1)


def test_version_1_moves_without_blocking_and_stops(new: Typist) -> None:
    assert new.ask("blocking_moves false\n") == "done."
    assert new.ask("mr 1000 0 0\n", 0.1) == "done."
    assert new.ask("moving?\n") == "true"
    new.hear(0.5)
    new.type("stop\n")
    assert new.hear(0.1) == ["Move aborted"]
    assert new.ask("moving?\n") == "false"
    x = int(new.ask("p?\n").split()[0])
    assert 500 < x < 700
    assert new.shared.motor_at(new.clock.monotonic_s()).x_um == pytest.approx(
        x * 0.09, abs=0.05
    )


def test_version_1_blocks_when_told_and_notifies(new: Typist) -> None:
    began_s = new.clock.monotonic_s()
    assert new.ask("mr 1000 0 0\n") == "done."
    assert new.clock.monotonic_s() - began_s > 1.0
    new.ask("blocking_moves false\n")
    new.ask("mr -1000 0 0\n", 0.1)
    began_s = new.clock.monotonic_s()
    new.ask("notify_on_stop\n")
    assert new.clock.monotonic_s() - began_s > 0.9


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("board", "Sangaboard v0.5.5"),
        ("n_motors?", "n_motors 3"),
        ("led_channels?", "CC:1 PWM:0"),
        ("led_cc?", "CC LED:0.00"),
        ("led_cc 0.5", "CC LED:0.50"),
        ("p", "0 0 0"),
    ],
)
def test_replies_of_version_1(new: Typist, command: str, reply: str) -> None:
    assert new.ask(command + "\n") == reply


def test_version_1_names_what_it_does_not_know(new: Typist) -> None:
    assert new.ask("fly\n").startswith("Command not recognised: 'fly'")
