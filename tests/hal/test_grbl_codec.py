"""GRBL texts against the lines of its interface document."""

import pytest

from bifocus.errors import DeviceError, ProtocolError, ReferenceLostError
from bifocus.hal import grbl_codec as codec


@pytest.mark.parametrize(
    ("line", "state", "machine_um", "work_um", "offset_um"),
    [
        (
            b"<Idle|MPos:0.000,0.000,0.000|FS:0.0,0>",
            "Idle",
            (0.0, 0.0, 0.0),
            None,
            None,
        ),
        (
            b"<Jog|MPos:-1.250,3.000,0.001|Bf:15,128|FS:500,0|WCO:1.000,0.000,-2.000>",
            "Jog",
            (-1250.0, 3000.0, 1.0),
            None,
            (1000.0, 0.0, -2000.0),
        ),
        (
            b"<Hold:0|WPos:5.000,6.000,7.000|F:0|Pn:XZ|Ov:100,100,100|A:SF>",
            "Hold",
            None,
            (5000.0, 6000.0, 7000.0),
            None,
        ),
        (
            b"<Alarm|MPos:1.000,2.000,3.000,4.000|FS:0,0>",
            "Alarm",
            (1000.0, 2000.0, 3000.0),
            None,
            None,
        ),
    ],
)
def test_status_reports(
    line: bytes, state: str, machine_um: object, work_um: object, offset_um: object
) -> None:
    status = codec.parse_status(line)
    assert status is not None
    assert status.state == state
    assert status.machine_um == pytest.approx(machine_um)
    assert status.work_um == pytest.approx(work_um)
    assert status.offset_um == pytest.approx(offset_um)


@pytest.mark.parametrize(
    "line",
    [
        b"<Idle|MPos:0.000,0.000,0.000|FS:0,0",
        b"Idle|MPos:0.000,0.000,0.000|FS:0,0>",
        b"<Idle|FS:0,0>",
        b"<Idle|MPos:0.000,0.000|FS:0,0>",
        b"<Idle|MPos:0.000,0.0x0,0.000|FS:0,0>",
        b"<Odle|MPos:0.000,0.000,0.000|FS:0,0>",
        b"<Idle|MPos:0.000,0.000,0.000|FS:0,0><Idle",
        b"<>",
    ],
)
def test_damaged_reports_are_refused(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        codec.parse_status(line)


def test_other_lines_are_no_report() -> None:
    assert codec.parse_status(b"ok") is None
    assert codec.parse_status(b"[MSG:Caution: Unlocked]") is None


def test_words_that_end_an_answer() -> None:
    assert codec.parse_ok(b"ok")
    assert codec.parse_ok(b"[VER:1.1h.20190830:]") is None
    with pytest.raises(DeviceError, match=r"error 15 .*leave the travel"):
        codec.parse_ok(b"error:15")
    with pytest.raises(DeviceError, match="error 60"):
        codec.parse_ok(b"error:60")
    with pytest.raises(ProtocolError):
        codec.parse_ok(b"o")


@pytest.mark.parametrize("number", range(1, 11))
def test_every_alarm_loses_the_reference(number: int) -> None:
    line = b"ALARM:%d" % number
    for parse in (codec.parse_ok, codec.parse_status):
        with pytest.raises(ReferenceLostError, match=f"alarm {number} "):
            parse(line)
    assert codec.REFERENCE_LOST.search(line)


def test_the_banner() -> None:
    assert codec.REFERENCE_LOST.search(b"\r\nGrbl 1.1h ['$' for help]")
    assert not codec.REFERENCE_LOST.search(b"[VER:1.1h.20190830:]")


def test_settings_and_build() -> None:
    lines = [b"$0=10", b"$100=250.000", b"$132=200.000 (z, mm)", b"junk", b"ok"]
    assert codec.parse_settings(lines) == {0: 10.0, 100: 250.0, 132: 200.0}
    assert codec.parse_build([b"[VER:1.1f.20170801:cnc]", b"ok"]) == "1.1f.20170801:cnc"
    assert codec.parse_build([b"ok"]) is None


@pytest.mark.parametrize(
    ("target_um", "words"),
    [
        ((0.0, 0.0, 0.0), b"X0Y0Z0"),
        ((-0.001, 0.0, 0.625), b"X0Y0Z0.00063"),
        ((-76000.0, 12.5, -0.3125), b"X-76Y0.0125Z-0.00031"),
        ((1e-9, 123456.789, 100.0), b"X0Y123.45679Z0.1"),
    ],
)
def test_jogs(target_um: tuple[float, float, float], words: bytes) -> None:
    line = codec.encode_jog(target_um, speed_um_per_s=1000.0)
    assert line == b"$J=G21G90G53" + words + b"F60\n"
    assert len(line) <= 80


def test_a_jog_too_long_for_the_board_is_not_sent() -> None:
    with pytest.raises(ProtocolError, match="80 bytes"):
        codec.encode_jog((1e30, 1e30, 1e30), speed_um_per_s=1000.0)
