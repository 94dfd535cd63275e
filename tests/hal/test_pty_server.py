"""Virtual firmware behind a real pseudo-terminal, driven by pyserial."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import serial

from bifocus.errors import ConfigError
from bifocus.hal.fault_plan import FaultPlan, Unplug
from bifocus.hal.faulty_firmware import FaultyFirmware
from bifocus.hal.firmware_asi import AsiFirmware
from bifocus.hal.firmware_axes import FirmwareAxes
from bifocus.hal.firmware_board import Firmware
from bifocus.hal.firmware_kinds import make_firmware, typical_facts
from bifocus.hal.pty_server import PtyServer

ROUND_TRIP_S = 0.002  # promised, beyond the firmware's own time

Serve = Callable[..., PtyServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:

        def start(board: Firmware, link: Path | None = None) -> PtyServer:
            return stack.enter_context(PtyServer(board, link=link))

        yield start


@pytest.fixture
def quick_asi() -> AsiFirmware:
    """A board that takes no time to answer."""
    axes = FirmwareAxes(typical_facts("asi"), now_s=time.monotonic(), seed=1)
    return AsiFirmware(axes, now_s=time.monotonic(), answer_s=0.0)


def until(is_so: Callable[[], bool], within_s: float = 3.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline_s, "it never came to pass"
        time.sleep(0.005)


def ask(port: serial.Serial, command: bytes) -> bytes:
    port.write(command)
    return port.read_until(b"\n")


def test_a_round_trip_costs_less_than_two_milliseconds(
    serve: Serve, quick_asi: AsiFirmware
) -> None:
    server = serve(quick_asi)
    with serial.Serial(server.port, 115200, timeout=2.0) as port:
        assert ask(port, b"/\r") == b"N\r\n"
        times_s = []
        for _ in range(100):
            began_s = time.perf_counter()
            assert ask(port, b"/\r") == b"N\r\n"
            times_s.append(time.perf_counter() - began_s)
    # The median: other programs may hold up single ones.
    assert statistics.median(times_s) < ROUND_TRIP_S


def test_opening_the_port_resets_an_arduino(serve: Serve, tmp_path: Path) -> None:
    link = tmp_path / "stage"
    server = serve(make_firmware("grbl", now_s=time.monotonic(), seed=1), link)
    assert server.port == str(link)
    for _ in range(2):
        with serial.Serial(str(link), 115200, timeout=3.0) as port:
            assert port.read_until(b"help]\r\n") == b"\r\nGrbl 1.1h ['$' for help]\r\n"
        until(lambda: not server.has_client)


def test_no_reset_and_nothing_lost_where_the_board_has_no_dtr(
    serve: Serve, quick_asi: AsiFirmware
) -> None:
    server = serve(quick_asi)
    with serial.Serial(server.port, 9600, timeout=3.0) as port:
        assert ask(port, b"M X=1234\r") == b":A\r\n"
    with serial.Serial(server.port, 9600, timeout=3.0) as port:
        until(lambda: ask(port, b"/\r") == b"N\r\n")
        assert ask(port, b"W X\r") == b":A 1234.0\r\n"
    now_s = server.shared.clock.monotonic_s()
    assert server.shared.true_pose_at(now_s).x_um == pytest.approx(123.4, abs=0.022)


def test_the_cable_comes_off_and_back(serve: Serve, tmp_path: Path) -> None:
    plan = FaultPlan(faults=(Unplug(at=0, progress=0.5, back_after_s=0.3),))
    board = make_firmware("asi", now_s=time.monotonic(), seed=1)
    link = tmp_path / "stage"
    server = serve(FaultyFirmware(board, plan, seed=1), link)
    port = serial.Serial(server.port, 115200, timeout=2.0)
    assert ask(port, b"M X=1100\r") == b":A\r\n"
    with pytest.raises((serial.SerialException, OSError)):
        for _ in range(50):
            ask(port, b"/\r")
    assert not link.exists()
    port.close()
    until(link.exists)
    with serial.Serial(server.port, 115200, timeout=2.0) as port:
        assert ask(port, b"W X\r").startswith(b":A 1100.")


def test_closing_takes_the_link_away(tmp_path: Path, quick_asi: AsiFirmware) -> None:
    link = tmp_path / "stage"
    server = PtyServer(quick_asi, link=link)
    assert link.is_symlink()
    server.close()
    server.close()
    assert not link.is_symlink()


def test_a_file_in_the_place_of_the_link_is_kept(
    tmp_path: Path, quick_asi: AsiFirmware
) -> None:
    link = tmp_path / "stage"
    link.write_text("mine")
    with pytest.raises(ConfigError, match="no symbolic link"):
        PtyServer(quick_asi, link=link)
    assert link.read_text() == "mine"
