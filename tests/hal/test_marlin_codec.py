"""Marlin texts against its sources, and the variants other firmwares print."""

from functools import reduce
from operator import xor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bifocus.errors import DeviceError, ProtocolError, ReferenceLostError
from bifocus.hal import marlin_codec as codec


@given(st.integers(0, 10**6), st.text("GMXYZ0123456789 .-", min_size=1))
def test_every_line_has_its_checksum(number: int, command: str) -> None:
    line = codec.encode_line(number, command)
    body, _, checksum = line.rstrip(b"\n").rpartition(b"*")
    assert body == f"N{number} {command}".encode()
    assert reduce(xor, body) == int(checksum)


def test_moves_are_plain_decimals() -> None:
    command = codec.move_command((1e-7, -0.3125, 76000.0), speed_um_per_s=5000.0)
    assert command == "G1 X0.00000 Y-0.00031 Z76.00000 F300.000"


@pytest.mark.parametrize(
    "line",
    [
        b"X:1.00 Y:-2.50 Z:0.30 E:0.00 Count X:1600 Y:-4000 Z:120",
        b"X:1.00 Y:-2.50 Z:0.30 E:0.00 Count X: 1600 Y:-4000 Z:120",
        b"ok X:1.00 Y:-2.50 Z:0.30 E:0.00 Count: A:1600 B:-4000 C:120",
    ],
)
def test_places(line: bytes) -> None:
    place = codec.parse_place(line)
    assert place is not None
    assert place.planned_um == pytest.approx((1000.0, -2500.0, 300.0))
    assert place.steps == (1600, -4000, 120)


@pytest.mark.parametrize(
    "line", [b"ok", b"X:1.00 Y:2.00 Z:3.00 E:0.00", b"Count X:1 Y:2", b"echo:busy"]
)
def test_half_a_place_is_none(line: bytes) -> None:
    assert codec.parse_place(line) is None


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        (b"ok", True),
        (b"ok N7 P15 B3", True),
        (b"ok P15 B3", True),
        (b"ok N6 P15 B3", False),
        (b"ok X:1.00 Y:0.00", True),
        (b"okay", False),
        (b"o", False),
        (b"echo:busy: processing", False),
        (b"wait", False),
    ],
)
def test_acknowledgements(line: bytes, counts: bool) -> None:
    assert codec.parse_ok(line, number=7) is counts


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (b"Resend: 8", 8),
        (b"Resend:8", 8),
        (b"rs N8", 8),
        (b"Error:checksum mismatch, Last Line: 7", 8),
        (b"Error:No Checksum with line number, Last Line: 7", 8),
        (b"Error:Line Number is not Last Line Number+1, Last Line: 7", 8),
        (b"ok", None),
        (b"Resend: x", None),
    ],
)
def test_complaints_name_the_next_line(line: bytes, wanted: int | None) -> None:
    assert codec.parse_resend(line) == wanted
    codec.check_fault(line)  # none of them is fatal


def test_what_a_killed_or_unwilling_board_says() -> None:
    killed = b"Error:Printer halted. kill() called!"
    with pytest.raises(ReferenceLostError):
        codec.check_fault(killed)
    assert codec.REFERENCE_LOST.search(b"ok\n" + killed)
    with pytest.raises(DeviceError, match="does not know"):
        codec.check_fault(b'echo:Unknown command: "G17"')
    with pytest.raises(DeviceError, match="homing"):
        codec.check_fault(b"echo:Home XYZ first")
    codec.check_fault(b"echo:busy: processing")


@pytest.mark.parametrize(
    "text", [b"start\n", b"junk\nstart\r\n", b"echo:Marlin 2.1.2\n"]
)
def test_banners(text: bytes) -> None:
    assert codec.REFERENCE_LOST.search(text)


@pytest.mark.parametrize(
    "text", [b"FIRMWARE_NAME:Marlin 2.1.2 (Aug 1) SOURCE", b"ok", b"restarted"]
)
def test_what_is_no_banner(text: bytes) -> None:
    assert not codec.REFERENCE_LOST.search(text)


def test_reports() -> None:
    text = b"FIRMWARE_NAME:Marlin bugfix-2.0.x (GitHub) SOURCE_CODE_URL:github.com"
    assert codec.parse_firmware(text) == "Marlin bugfix-2.0.x (GitHub)"
    assert codec.parse_steps_per_mm(b"echo:  M92 X80.00 Y80.00 Z400.00 E93.00") == (
        80.0,
        80.0,
        400.0,
    )
    assert codec.parse_switch(b"z_max: TRIGGERED") == ("z_max", True)
    assert codec.parse_switch(b"x_min: open") == ("x_min", False)
    assert codec.parse_switch(b"filament: open") is None


@pytest.mark.parametrize(
    "line",
    [
        b"Soft endstops: ON  Min: X0.00 Y0.00 Z-2.00   Max: X200.00 Y210.00 Z180.00",
        b"echo:Soft endstops: On  Min:  X0.00 Y0.00 Z-2.00   Max:  X200 Y210 Z180",
    ],
)
def test_soft_endstops(line: bytes) -> None:
    ends = codec.parse_soft_endstops(line)
    assert ends is not None
    assert ends.are_on
    assert ends.low_um == (0.0, 0.0, -2000.0)
    assert ends.high_um == (200000.0, 210000.0, 180000.0)


def test_damaged_lines() -> None:
    codec.check_sense(b"ok N7 P15 B3")
    for line in (b"o\xeb", b"ok\x01"):
        with pytest.raises(ProtocolError):
            codec.check_sense(line)
