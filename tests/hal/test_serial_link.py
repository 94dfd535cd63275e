"""The serial link over a pseudo-terminal and a socket: bytes, deadlines, losses."""

import os
import re
import socket
import statistics
import threading
import tty
from collections.abc import Iterator

import pytest

from bifocus.clock import RealClock
from bifocus.errors import LinkLostError
from bifocus.hal.serial_link import SerialLink
from bifocus.hal.serial_port import SerialPort

CLOCK = RealClock()


class Terminal:
    """Our end of a pseudo-terminal and the path of the other."""

    def __init__(self) -> None:
        self.end, self._theirs = os.openpty()
        tty.setraw(self._theirs)
        self.path = os.ttyname(self._theirs)

    def unplug(self) -> None:
        for end in (self.end, self._theirs):
            if end >= 0:
                os.close(end)
        self.end = self._theirs = -1


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.unplug()


@pytest.fixture(params=[True, False])
def link(terminal: Terminal, request: pytest.FixtureRequest) -> Iterator[SerialLink]:
    opened = SerialLink(
        terminal.path, baud=250000, assert_dtr=request.param, clock=CLOCK
    )
    yield opened
    opened.close()
    opened.close()


def test_bytes_go_both_ways(link: SerialLink, terminal: Terminal) -> None:
    link.write(b"$J=\x85\x00\xff\n")
    assert os.read(terminal.end, 100) == b"$J=\x85\x00\xff\n"
    os.write(terminal.end, b"ok\r\n\x00\xff")
    assert link.read(deadline_s=CLOCK.monotonic_s() + 5.0) == b"ok\r\n\x00\xff"


def test_waiting_ends_at_the_deadline(link: SerialLink) -> None:
    deadline_s = CLOCK.monotonic_s() + 0.05
    assert link.read(deadline_s=deadline_s) == b""
    assert 0.0 <= CLOCK.monotonic_s() - deadline_s < 1.0
    assert link.read(deadline_s=deadline_s) == b""


def test_discarding_never_waits(link: SerialLink, terminal: Terminal) -> None:
    begin_s = CLOCK.monotonic_s()
    assert link.discard_input() == b""
    os.write(terminal.end, b"banner")
    assert link.discard_input() == b"banner"
    assert CLOCK.monotonic_s() - begin_s < 1.0


def test_a_pulled_plug_is_named_everywhere(
    link: SerialLink, terminal: Terminal
) -> None:
    terminal.unplug()
    for action in (
        lambda: link.write(b"?"),
        lambda: link.read(deadline_s=CLOCK.monotonic_s() + 5.0),
        link.discard_input,
        link.reopen,
        lambda: link.read(deadline_s=CLOCK.monotonic_s() + 5.0),
    ):
        with pytest.raises(LinkLostError, match=terminal.path):
            action()


def test_a_second_program_is_kept_out(link: SerialLink, terminal: Terminal) -> None:
    del link
    with pytest.raises(LinkLostError, match="no other program"):
        SerialLink(terminal.path, baud=9600, assert_dtr=False, clock=CLOCK)


def test_a_round_trip_costs_under_two_milliseconds(
    link: SerialLink, terminal: Terminal
) -> None:
    """What driver and terminal add to the time of a board that answers at once."""

    def answer() -> None:
        for _ in range(100):
            os.read(terminal.end, 100)
            os.write(terminal.end, b"1 2 3\r\n")

    port = SerialPort(
        link, clock=CLOCK, name="toy", reference_lost=re.compile(rb"(?!)"), reply_s=5.0
    )
    thread = threading.Thread(target=answer)
    thread.start()
    times_s = []
    for _ in range(100):
        begin_s = CLOCK.monotonic_s()
        assert port.ask(b"p?\n", lambda line: line) == b"1 2 3"
        times_s.append(CLOCK.monotonic_s() - begin_s)
    thread.join()
    assert statistics.median(times_s) < 2e-3


def test_a_server_on_the_network() -> None:
    """A URL of pyserial instead of a device, such as a terminal server's."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def echo() -> None:
            client, _ = server.accept()
            with client:
                client.sendall(client.recv(100)[::-1])
                client.recv(100)

        thread = threading.Thread(target=echo)
        thread.start()
        url = f"socket://127.0.0.1:{server.getsockname()[1]}"
        link = SerialLink(url, baud=115200, assert_dtr=False, clock=CLOCK)
        link.write(b"abc")
        assert link.read(deadline_s=CLOCK.monotonic_s() + 5.0) == b"cba"
        link.close()
        thread.join()
