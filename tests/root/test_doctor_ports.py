"""The doctor's eyes on serial ports: boards by USB number, permissions, thieves."""

import os
from pathlib import Path

import pytest

from bifocus.diagnosis import Machine
from bifocus.doctor_ports import (
    PortAccess,
    PortFacts,
    diagnose_our_port,
    diagnose_ports,
    find_holders,
    likely_board,
    read_access,
)
from tests.root.machines import machine, states, the

OURS = PortAccess(exists=True, may_open=True, group="dialout", is_member=True)


@pytest.mark.parametrize(
    ("vendor", "product", "word"),
    [
        (0x2E8A, 0x000A, "Sangaboard v0.5"),
        (0x1A86, 0x7523, "GRBL"),
        (0x2341, 0x0043, "GRBL"),
        (0x2341, 0x0042, "Marlin"),
        (0x10C4, 0xEA60, "ASI"),
        (0x2C99, 0x0002, "Prusa"),
        (0xDEAD, 0xBEEF, "unknown board dead:beef"),
        (None, None, "not a USB port"),
    ],
)
def test_a_board_is_guessed_from_its_usb_numbers(
    vendor: int | None, product: int | None, word: str
) -> None:
    port = PortFacts(device="/dev/ttyUSB0", vendor=vendor, product=product)
    assert word in likely_board(port)


def test_no_port_is_said(tmp_path: Path) -> None:
    rows = list(diagnose_ports([], Machine(root=tmp_path)))
    assert [(row.state, row.found) for row in rows] == [("info", "none is plugged in")]


def test_brltty_that_took_a_ch340_is_found(tmp_path: Path) -> None:
    usb = "/sys/bus/usb/devices/1-1.2"
    facts = {f"{usb}/idVendor": "1a86\n", f"{usb}/idProduct": "7523\n"}
    stolen = machine(tmp_path, facts)
    assert the(list(diagnose_ports([], stolen)), "CH340 board").state == "fail"
    there = PortFacts(device="/dev/ttyUSB0", vendor=0x1A86, product=0x7523)
    assert states(list(diagnose_ports([there], stolen))) == {"/dev/ttyUSB0": "info"}


def test_a_missing_port_names_those_that_are_there() -> None:
    gone = PortAccess(exists=False, may_open=False, group="", is_member=False)
    ports = [PortFacts(device="/dev/ttyACM3")]
    (row,) = diagnose_our_port("/dev/ttyUSB0", gone, ports, [])
    assert row.state == "fail"
    assert "/dev/ttyACM3" in row.found
    assert "by-id" in row.advice


@pytest.mark.parametrize(
    ("is_member", "word"), [(False, "usermod -aG dialout"), (True, "udev")]
)
def test_a_forbidden_port_says_what_to_do(is_member: bool, word: str) -> None:
    access = PortAccess(
        exists=True, may_open=False, group="dialout", is_member=is_member
    )
    (row,) = diagnose_our_port("/dev/ttyUSB0", access, [], [])
    assert row.state == "fail"
    assert word in row.advice


def test_a_port_in_use_names_the_program() -> None:
    (row,) = diagnose_our_port("/dev/ttyUSB0", OURS, [], ["ModemManager (process 7)"])
    assert row.state == "fail"
    assert "ModemManager (process 7)" in row.found


def test_a_port_of_ours_is_fine_and_a_passing_name_is_noted() -> None:
    rows = list(diagnose_our_port("/dev/ttyUSB0", OURS, [], []))
    assert states(rows) == {"/dev/ttyUSB0": "ok", "port name": "info"}
    stable = "/dev/serial/by-id/usb-Arduino-if00"
    assert states(list(diagnose_our_port(stable, OURS, [], []))) == {stable: "ok"}


def test_a_port_on_the_network_is_left_alone() -> None:
    gone = PortAccess(exists=False, may_open=False, group="", is_member=False)
    (row,) = diagnose_our_port("socket://board:23", gone, [], [])
    assert row.state == "info"


def test_access_and_holders_of_a_real_file(tmp_path: Path) -> None:
    """A second method: the kernel itself, on a file that this very process holds."""
    device = tmp_path / "port"
    assert not read_access(str(device)).exists
    device.write_bytes(b"")
    assert read_access(str(device)).may_open
    assert find_holders(str(device), Machine()) == []
    with device.open("rb"):
        (holder,) = find_holders(str(device), Machine())
    assert f"(process {os.getpid()})" in holder
