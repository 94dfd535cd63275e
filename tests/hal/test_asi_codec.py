"""ASI texts against the maker's command pages, in both styles of reply."""

import pytest

from bifocus.errors import DeviceError, ProtocolError
from bifocus.hal import asi_codec as codec


def test_every_number_has_its_letter_and_sign() -> None:
    """A letter without `=` would mean zero: a move to the origin."""
    assert codec.encode_move("XZ", (0.0, -1234.5)) == b"M X=0 Z=-12345\r"
    assert codec.encode_move("Z", (0.0055,)) == b"M Z=0.055\r"
    assert codec.encode_speed("Z", (1750.0,)) == b"S Z=1.75\r"
    assert codec.encode_backlash_off("XY") == b"B X=0 Y=0\r"
    assert codec.encode_question("S", "XY") == b"S X? Y?\r"
    assert codec.encode_where("XYZ") == b"W X Y Z\r"


@pytest.mark.parametrize(
    ("line", "letters", "places_um"),
    [
        (b":A 1234.5 432.1 0", "XYZ", {"X": 123.45, "Y": 43.21, "Z": 0.0}),
        (b":A 1234.5 432.1 0 ", "XYZ", {"X": 123.45, "Y": 43.21, "Z": 0.0}),
        (b":A -7 5", "ZX", {"Z": -0.7, "X": 0.5}),
        (b"X=1234 Y=-5.0", "XYZ", {"X": 123.4, "Y": -0.5}),
        (b":A X=1234.5", "XYZ", {"X": 123.45}),
    ],
)
def test_places(line: bytes, letters: str, places_um: dict[str, float]) -> None:
    assert codec.parse_where(line, letters) == pytest.approx(places_um)


def test_a_missing_place_is_no_place() -> None:
    with pytest.raises(ProtocolError, match="3 axes"):
        codec.parse_where(b":A 1 2", "XYZ")
    assert codec.parse_where(b":A", "XYZ") is None
    assert codec.parse_where(b"N", "XYZ") is None


@pytest.mark.parametrize(
    ("line", "value"),
    [(b":A Z=1.000000", 1.0), (b":Z=0.040000 A", 0.04), (b"Z=7.5", 7.5)],
)
def test_all_three_styles_of_a_setting(line: bytes, value: float) -> None:
    assert codec.parse_pairs(line) == {"Z": value}


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6, 7])
def test_errors_are_errors_everywhere(number: int) -> None:
    line = b":N-%d" % number
    for parse in (
        codec.parse_taken,
        codec.parse_busy,
        codec.parse_pairs,
        codec.parse_version,
        codec.parse_halted,
        codec.parse_axes,
    ):
        with pytest.raises(DeviceError, match=f"-{number}"):
            parse(line)


def test_a_halt_that_cut_a_move_off_is_no_error() -> None:
    assert codec.parse_halted(b":N-21")
    assert codec.parse_halted(b":A")
    with pytest.raises(DeviceError, match="halted"):
        codec.parse_taken(b":N-21")


def test_an_empty_line_is_an_answer_only_in_the_bare_style() -> None:
    assert codec.parse_taken(b"") is None
    assert codec.parse_taken(b"", is_bare=True)
    assert codec.parse_taken(b":A ")


def test_busy() -> None:
    assert codec.parse_busy(b"B") is True
    assert codec.parse_busy(b"N") is False
    assert codec.parse_busy(b":A") is None


def test_versions_and_axes() -> None:
    assert codec.parse_version(b":A Version: USB-9.2m") == "USB-9.2m"
    assert codec.parse_version(b":A") is None
    axes = codec.parse_axes(
        b"TIGER_COMM\rMotor Axes: X Y Z\rAxis Types: x x z\rAxis Addr: 1 1 2"
    )
    assert axes == codec.Axes(
        letters=("X", "Y", "Z"), addresses=("1", "1", "2"), is_tiger=True
    )
    plain = codec.parse_axes(b"STD_XYZ\rMotor Axes: Z X Y\rCMDS: XYZFTR")
    assert plain is not None
    assert (plain.letters, plain.is_tiger) == (("Z", "X", "Y"), False)
    with pytest.raises(ProtocolError, match="do not match"):
        codec.parse_axes(b"Motor Axes: X Y Z\rAxis Addr: 1 1")


@pytest.mark.parametrize("line", [b":\xc1", b"\x01B", b":A 1\x002"])
def test_damaged_lines(line: bytes) -> None:
    for parse in (codec.parse_taken, codec.parse_busy, codec.parse_pairs):
        with pytest.raises(ProtocolError):
            parse(line)
