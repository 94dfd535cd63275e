"""Sangaboard texts against the firmware's own table of commands and replies."""

import pytest

from bifocus.errors import DeviceError, ProtocolError
from bifocus.hal import sangaboard_codec as codec


@pytest.mark.parametrize(
    ("line", "major", "minor"),
    [
        (b"Sangaboard Firmware v0.5", 0, 5),
        (b"OpenFlexure Motor Board v0.4", 0, 4),
        (b"Sangaboard Firmware v1.0.4", 1, 0),
        (b"Sangaboard Firmware v1.0.3-dev", 1, 0),
    ],
)
def test_versions(line: bytes, major: int, minor: int) -> None:
    version = codec.parse_version(line)
    assert version is not None
    assert (version.major, version.minor, version.text) == (major, minor, line.decode())
    assert codec.BANNER.search(b"\x00\r\n" + line + b"\r\n")


@pytest.mark.parametrize("line", [b"done.", b"Sangaboard v0.3", b"1 2 3", b""])
def test_other_lines_are_no_version(line: bytes) -> None:
    assert codec.parse_version(line) is None
    assert not codec.BANNER.search(line)


def test_replies_of_queries() -> None:
    assert codec.parse_position(b"-12 0 4096") == (-12, 0, 4096)
    assert codec.parse_step_delay(b"minimum step delay 1000") == 1000
    assert codec.parse_ramp_time(b"ramp time 0") == 0
    assert codec.parse_board(b"Sangaboard v0.2") == "Sangaboard v0.2"
    assert codec.parse_moving(b"true") is True
    assert codec.parse_moving(b"false") is False


@pytest.mark.parametrize("line", [b"done", b"done."])
def test_both_spellings_of_done(line: bytes) -> None:
    assert codec.parse_done(line)


@pytest.mark.parametrize(
    "line",
    [
        b"Error: command is mr <int> <int> <int>",
        b"Bad command.",
        b"Type 'help' for a list of commands.",
        b"Command not recognised: 'mrr', Type 'help' for a list of commands.",
    ],
)
def test_refusals_are_errors_and_no_position(line: bytes) -> None:
    with pytest.raises(DeviceError, match="refused"):
        codec.parse_done(line)
    assert codec.parse_position(line) is None


@pytest.mark.parametrize("line", [b"dnoe.", b"12 34", b"1 2 3 4", b"1 2 3x", b"\xff"])
def test_damaged_lines_are_told_from_stray_ones(line: bytes) -> None:
    for parse in (codec.parse_done, codec.parse_position, codec.parse_moving):
        with pytest.raises(ProtocolError):
            parse(line)
    assert codec.parse_done(b"1 2 3") is None


def test_commands() -> None:
    assert codec.encode_move((0, -1, 65536)) == b"mr 0 -1 65536\n"
    # The firmware's mask: bit 0 is x, bit 1 y, bit 2 z.
    assert codec.encode_home_low("z") == b"home_min 4\n"
    assert codec.encode_home_low("xy") == b"home_min 3\n"


def test_a_move_too_long_for_the_board_is_not_sent() -> None:
    with pytest.raises(ProtocolError, match="too long"):
        codec.encode_move((10**30, 10**30, 0))
