"""Whatever bytes come in, a codec answers, passes, or raises an error of our tree."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bifocus.errors import DeviceError
from bifocus.hal import asi_codec, grbl_codec, marlin_codec, sangaboard_codec

PARSERS: list[Callable[[bytes], object]] = [
    sangaboard_codec.parse_version,
    sangaboard_codec.parse_board,
    sangaboard_codec.parse_position,
    sangaboard_codec.parse_step_delay,
    sangaboard_codec.parse_ramp_time,
    sangaboard_codec.parse_moving,
    sangaboard_codec.parse_done,
    grbl_codec.parse_status,
    grbl_codec.parse_ok,
    lambda line: grbl_codec.parse_settings([line]),
    lambda line: grbl_codec.parse_build([line]),
    marlin_codec.parse_place,
    marlin_codec.parse_resend,
    marlin_codec.parse_firmware,
    marlin_codec.parse_steps_per_mm,
    marlin_codec.parse_soft_endstops,
    marlin_codec.parse_switch,
    marlin_codec.check_fault,
    marlin_codec.check_sense,
    lambda line: marlin_codec.parse_ok(line, number=1),
    asi_codec.parse_taken,
    asi_codec.parse_halted,
    asi_codec.parse_busy,
    lambda line: asi_codec.parse_where(line, "XYZ"),
    asi_codec.parse_pairs,
    asi_codec.parse_version,
    asi_codec.parse_axes,
]
SOUND = [
    b"Sangaboard Firmware v1.0.4",
    b"-12 0 4096",
    b"minimum step delay 1000",
    b"<Jog|MPos:-1.250,3.000,0.001|Bf:15,128|FS:500,0|WCO:1.000,0.000,-2.000>",
    b"[VER:1.1h.20190830:]",
    b"$100=250.000",
    b"error:15",
    b"X:1.00 Y:-2.50 Z:0.30 E:0.00 Count X:1600 Y:-4000 Z:120",
    b"Error:checksum mismatch, Last Line: 7",
    b"Soft endstops: ON  Min: X0.00 Y0.00 Z0.00   Max: X200.00 Y200.00 Z200.00",
    b"FIRMWARE_NAME:Marlin 2.1.2 (Aug 1) SOURCE_CODE_URL:x",
    b"echo:  M92 X80.00 Y80.00 Z400.00",
    b":A 1234.5 432.1 0",
    b":X=0.040000 A",
    b":N-21",
    b"Motor Axes: X Y Z\rAxis Types: x x z\rAxis Addr: 1 1 2",
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A sound line, cut, doubled, or with a few bytes replaced."""
    line = bytearray(draw(st.sampled_from(SOUND)))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(line) - 1))
        line[at] = draw(st.integers(0, 255))
    cut = draw(st.integers(0, len(line)))
    return bytes(line[:cut]) * draw(st.sampled_from([1, 1, 2]))


@pytest.mark.parametrize("parse", PARSERS)
@settings(max_examples=60, deadline=None)
@given(line=st.one_of(st.binary(max_size=80), damaged()))
def test_nothing_but_our_own_errors(
    parse: Callable[[bytes], object], line: bytes
) -> None:
    try:
        parse(line.replace(b"\n", b" "))
    except DeviceError as error:
        assert str(error)
