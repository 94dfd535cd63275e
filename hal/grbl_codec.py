"""GRBL 1.1 texts: jogs and settings to bytes, status reports and codes to values.

Pure. Lengths are in micrometres here and in millimetres on the wire. Source: GRBL's
own interface, commands and jogging documents and its code tables.
"""

import re
from dataclasses import dataclass

from bifocus.errors import DeviceError, ProtocolError, ReferenceLostError
from bifocus.hal.take_up import Triple

REFERENCE_LOST = re.compile(rb"Grbl \d+\.\d|ALARM:\d")
"""Printed after a reset, or in an alarm; GRBL prints neither in an answer."""

STATUS_QUERY = b"?"
JOG_CANCEL = b"\x85"
SOFT_RESET = b"\x18"

_LONGEST_LINE = 80
_NUMBER = rb"-?\d{1,7}(?:\.\d{1,6})?"
_PLACE = re.compile(rb"(%b),(%b),(%b)(?:,%b)*" % ((_NUMBER,) * 4))
_REPORT = re.compile(rb"<([A-Z][a-z]+)(?::(\d))?((?:\|[A-Za-z]+:[^|<>]*)+)>")
_SETTING = re.compile(rb"\$(\d{1,3})=(%b)(?: .*)?" % _NUMBER)
_CODE = re.compile(rb"(error|ALARM):(\d{1,3})")
_STATES = frozenset(
    (b"Idle", b"Run", b"Hold", b"Jog", b"Alarm", b"Door", b"Check", b"Home", b"Sleep")
)
_ERRORS = {
    2: "bad number",
    5: "homing is not enabled",
    8: "not idle",
    9: "locked in alarm or jog",
    11: "the line is too long",
    15: "the jog would leave the travel",
    16: "a jog without '=' or with a forbidden word",
    20: "unsupported command",
    22: "no feed rate",
}
_ALARMS = {
    1: "hard limit, position lost",
    2: "target beyond a soft limit",
    3: "reset while moving, position lost",
    6: "homing: reset while moving",
    7: "homing: door opened",
    8: "homing: the switch did not open again",
    9: "homing: no switch found",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One status report; of the two places GRBL sends one, and the offset at times."""

    state: str
    machine_um: Triple | None
    work_um: Triple | None
    offset_um: Triple | None


def encode_jog(target_um: Triple, *, speed_um_per_s: float) -> bytes:
    r"""Return a jog to a place in machine coordinates, a straight line.

    Examples
    --------
    >>> encode_jog((1000.0, -2.5, 0.0), speed_um_per_s=500.0)
    b'$J=G21G90G53X1Y-0.0025Z0F30\n'
    """
    x, y, z = (_plain(value_um / 1e3, 5) for value_um in target_um)
    feed = _plain(speed_um_per_s * 60 / 1e3, 3)
    line = f"$J=G21G90G53X{x}Y{y}Z{z}F{feed}\n".encode()
    if len(line) > _LONGEST_LINE:
        msg = f"the jog to {target_um} um does not fit into GRBL's line of 80 bytes"
        raise ProtocolError(msg)
    return line


def parse_status(line: bytes) -> Status | None:
    """Read a status report `<Idle|MPos:0.000,0.000,0.000|FS:0,0>`.

    Returns None for other sound lines; raises for alarms as `check_code`.

    Raises
    ------
    ProtocolError
        If the report is damaged.
    """
    if b"<" not in line and b">" not in line:
        check_code(line)
        return None
    found = _REPORT.fullmatch(line)
    if found is None or found[1] not in _STATES:
        msg = f"a damaged GRBL status report: {line!r}"
        raise ProtocolError(msg)
    places: dict[bytes, Triple] = {}
    for field in found[3][1:].split(b"|"):
        name, _, text = field.partition(b":")
        if name in (b"MPos", b"WPos", b"WCO"):
            places[name] = _place_um(text)
    if not places.keys() & {b"MPos", b"WPos"}:
        msg = f"a GRBL status report without a place: {line!r}"
        raise ProtocolError(msg)
    return Status(
        state=found[1].decode(),
        machine_um=places.get(b"MPos"),
        work_um=places.get(b"WPos"),
        offset_um=places.get(b"WCO"),
    )


def parse_ok(line: bytes) -> bool | None:
    """Read the word that ends an answer: True for `ok`.

    Raises
    ------
    DeviceError
        For `error:n`.
    ReferenceLostError
        For `ALARM:n`.
    ProtocolError
        For a line that GRBL does not print.
    """
    check_code(line)
    if line == b"ok":
        return True
    if line and not line.startswith((b"[", b"<", b"$", b"Grbl ")):
        msg = f"a line that GRBL does not print: {line!r}"
        raise ProtocolError(msg)
    return None


def check_code(line: bytes) -> None:
    """Raise what an `error:n` or an `ALARM:n` means; other lines pass."""
    found = _CODE.fullmatch(line)
    if found is None:
        return
    number = int(found[2])
    if found[1] == b"ALARM":
        msg = (
            f"GRBL alarm {number} ({_ALARMS.get(number, 'see its list')}): it holds "
            "all motion; look at the stage, then home it or start again"
        )
        raise ReferenceLostError(msg)
    msg = f"GRBL error {number} ({_ERRORS.get(number, 'see its list of errors')})"
    raise DeviceError(msg)


def parse_settings(lines: list[bytes]) -> dict[int, float]:
    """Read the lines of `$$` into numbers by setting.

    Examples
    --------
    >>> parse_settings([b"$100=250.000", b"$13=0"])
    {100: 250.0, 13: 0.0}
    """
    found = (_SETTING.fullmatch(line) for line in lines)
    return {int(match[1]): float(match[2]) for match in found if match}


def parse_build(lines: list[bytes]) -> str | None:
    """Find the version in the lines of `$I`, such as `1.1h.20190830:`."""
    for line in lines:
        if line.startswith(b"[VER:") and line.endswith(b"]"):
            return line[len(b"[VER:") : -1].decode(errors="replace")
    return None


def _place_um(text: bytes) -> Triple:
    found = _PLACE.fullmatch(text)
    if found is None:
        msg = f"a damaged place in a GRBL status report: {text!r}"
        raise ProtocolError(msg)
    return float(found[1]) * 1e3, float(found[2]) * 1e3, float(found[3]) * 1e3


def _plain(value: float, decimals: int) -> str:
    """Return the shortest plain decimal; never an exponent, never `-0`."""
    text = f"{value:.{decimals}f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
