"""The byte link to firmware in this process, on both kinds of clock."""

import threading
import time

import pytest

from bifocus.clock import FakeClock, RealClock
from bifocus.errors import LinkLostError
from bifocus.hal.fault_plan import FaultPlan, Unplug
from bifocus.hal.faulty_firmware import FaultyFirmware
from bifocus.hal.firmware_kinds import make_firmware
from bifocus.hal.shared_firmware import SharedFirmware
from bifocus.hal.virtual_link import VirtualLink


def test_waiting_jumps_to_the_reply_and_no_further() -> None:
    clock = FakeClock()
    link = VirtualLink(
        SharedFirmware(make_firmware("asi", now_s=0.0, seed=1), clock=clock)
    )
    link.write(b"/\r")
    assert link.discard_input() == b""
    assert link.read(deadline_s=60.0) == b"N\r\n"
    assert clock.monotonic_s() == pytest.approx(0.005)  # the board's time to answer
    assert link.read(deadline_s=3.0) == b""
    assert clock.monotonic_s() == 3.0


def test_a_pulled_cable_is_an_error_until_opened_again() -> None:
    clock = FakeClock()
    plan = FaultPlan(faults=(Unplug(at=0, progress=0.5, back_after_s=2.0),))
    board = make_firmware("asi", now_s=0.0, seed=1)
    shared = SharedFirmware(FaultyFirmware(board, plan, seed=1), clock=clock)
    link = VirtualLink(shared)
    link.write(b"M X=70000\r")
    with pytest.raises(LinkLostError):
        while clock.monotonic_s() < 30.0:
            link.read(deadline_s=30.0)
    assert clock.monotonic_s() == pytest.approx(0.525, abs=1e-3)  # half of the move
    with pytest.raises(LinkLostError):
        link.write(b"/\r")
    with pytest.raises(LinkLostError):
        link.reopen()
    clock.sleep(2.0)
    with pytest.raises(LinkLostError):
        link.read(deadline_s=9.0)  # back, but the old handle is dead
    link.reopen()
    # The motor has gone on meanwhile; the controller was not reset.
    link.write(b"W X\r")
    assert link.read(deadline_s=60.0).startswith(b":A 70000")


def test_on_a_real_clock_another_thread_may_write_while_one_reads() -> None:
    clock = RealClock()
    board = make_firmware("sangaboard-v1", now_s=clock.monotonic_s(), seed=1)
    link = VirtualLink(SharedFirmware(board, clock=clock))
    banner = link.read(deadline_s=clock.monotonic_s() + 5.0)
    assert banner.startswith(b"Sangaboard")
    writer = threading.Timer(0.05, link.write, [b"p?\n"])
    writer.start()
    began_s = time.monotonic()
    assert link.read(deadline_s=clock.monotonic_s() + 5.0) == b"0 0 0\r\n"
    assert time.monotonic() - began_s < 1.0
    writer.join()
