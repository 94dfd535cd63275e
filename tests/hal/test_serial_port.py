"""The port: lines, deadlines, late and stray answers, resets, losses, the journal."""

import re
from typing import Literal

import pytest

from bifocus.clock import FakeClock
from bifocus.errors import (
    DeviceTimeoutError,
    LinkLostError,
    ProtocolError,
    ReferenceLostError,
)
from bifocus.hal.serial_port import SerialPort
from tests.hal.scripted_link import Answer, ScriptedLink

Direction = Literal["tx", "rx", "event"]


class Journal:
    """Keeps every exchange."""

    def __init__(self) -> None:
        self.entries: list[tuple[Direction, bytes, float]] = []

    def exchange(self, direction: Direction, data: bytes, at_s: float) -> None:
        self.entries.append((direction, data, at_s))


def number(line: bytes) -> int | None:
    return int(line) if line.isdigit() else None


@pytest.fixture
def journal() -> Journal:
    return Journal()


def make_port(
    clock: FakeClock, journal: Journal, **rules: list[Answer]
) -> tuple[SerialPort, ScriptedLink]:
    link = ScriptedLink(clock, {key.encode(): rule for key, rule in rules.items()})
    port = SerialPort(
        link,
        clock=clock,
        name="toy",
        reference_lost=re.compile(rb"Toy v\d"),
        reply_s=0.5,
        observer=journal,
    )
    return port, link


def test_an_answer_in_pieces(clock: FakeClock, journal: Journal) -> None:
    pieces: list[tuple[float, bytes]] = [(0.1, b"4"), (0.2, b"2\r"), (0.3, b"\n7\r\n")]
    port, _ = make_port(clock, journal, n=[pieces])
    assert port.ask(b"n\n", number) == 42
    assert clock.monotonic_s() == pytest.approx(0.3)
    assert port.read_line(1.0) == b"7"


def test_silence_ends_at_the_deadline(clock: FakeClock, journal: Journal) -> None:
    port, _ = make_port(clock, journal)
    with pytest.raises(DeviceTimeoutError, match="toy"):
        port.read_line(0.75)
    assert clock.monotonic_s() == pytest.approx(0.75)


def test_half_a_line_is_none(clock: FakeClock, journal: Journal) -> None:
    port, link = make_port(clock, journal)
    link.say(b"4")
    with pytest.raises(DeviceTimeoutError, match="heard only b'4'"):
        port.read_line(0.5)
    assert port.has_broken_line


def test_endless_noise_ends(clock: FakeClock, journal: Journal) -> None:
    port, link = make_port(clock, journal)
    link.say(b"\x00" * 5000)
    with pytest.raises(ProtocolError, match="without an end of line"):
        port.read_line(0.5)


def test_a_question_is_asked_again(clock: FakeClock, journal: Journal) -> None:
    port, link = make_port(clock, journal, n=[b"", b"", b"5\r\n"])
    assert port.ask(b"n\n", number) == 5
    assert link.sent == [b"n\n"] * 3


def test_but_not_for_ever(clock: FakeClock, journal: Journal) -> None:
    port, link = make_port(clock, journal, n=[b""])
    with pytest.raises(DeviceTimeoutError):
        port.ask(b"n\n", number)
    assert len(link.sent) == 3
    # Three deadlines, and the silence that is waited for between them.
    assert clock.monotonic_s() < 3 * 0.5 + 2 * 0.2


def test_a_late_answer_is_not_taken_for_the_next(
    clock: FakeClock, journal: Journal
) -> None:
    late: list[tuple[float, bytes]] = [(0.55, b"1\r\n")]
    port, _ = make_port(clock, journal, n=[late, b"2\r\n"])
    assert port.ask(b"n\n", number) == 2


def test_stray_lines_are_counted(clock: FakeClock, journal: Journal) -> None:
    port, _ = make_port(clock, journal, n=[b"done.\r\n\r\n9\r\n"])
    assert port.ask(b"n\n", number) == 9
    assert port.strays == 1


@pytest.mark.parametrize("where", ["line", "waiting", "draining"])
def test_a_reset_is_heard_wherever_it_comes(
    clock: FakeClock, journal: Journal, where: str
) -> None:
    port, link = make_port(clock, journal, n=[b"1\r\n"])
    link.say(b"\x00\r\nToy v1 ready\r\n")
    with pytest.raises(ReferenceLostError, match="home"):
        if where == "line":
            port.wait_for(number, 1.0)
        elif where == "waiting":
            port.ask(b"n\n", number)
        else:
            port.drain()
    assert journal.entries[-1][:2] == ("event", b"reset or alarm")
    assert link.sent == []


def test_while_connecting_a_banner_is_a_line(
    clock: FakeClock, journal: Journal
) -> None:
    port, link = make_port(clock, journal)
    link.say(b"Toy v1\r\n")
    with port.resets_expected():
        assert port.read_line(1.0) == b"Toy v1"
    link.say(b"Toy v1\r\n")
    with pytest.raises(ReferenceLostError):
        port.read_line(1.0)


def test_a_babbler_is_not_listened_to_for_ever(
    clock: FakeClock, journal: Journal
) -> None:
    port, link = make_port(clock, journal)
    for number_ in range(1000):
        link.say(b"wait\r\n", after_s=0.05 * number_)
    port.drain()
    assert clock.monotonic_s() == pytest.approx(2.0, abs=0.11)


def test_the_journal_has_every_byte(clock: FakeClock, journal: Journal) -> None:
    late: list[tuple[float, bytes]] = [(0.25, b"3\r\n")]
    port, link = make_port(clock, journal, n=[late])
    port.ask(b"n\n", number)
    link.is_gone = True
    with pytest.raises(LinkLostError):
        port.send(b"n\n")
    assert [(what, data) for what, data, _ in journal.entries] == [
        ("tx", b"n\n"),
        ("rx", b"3\r\n"),
        ("tx", b"n\n"),
        ("event", b"link lost: the scripted link is gone"),
    ]
    assert [at_s for *_, at_s in journal.entries[:2]] == [0.0, 0.25]


def test_after_a_loss_it_opens_again(clock: FakeClock, journal: Journal) -> None:
    port, link = make_port(clock, journal, n=[b"1\r\n"])
    link.is_gone = True
    with pytest.raises(LinkLostError):
        port.reopen()
    link.is_gone = False
    port.reopen()
    assert port.ask(b"n\n", number) == 1
