"""Marlin texts: numbered and checked lines to bytes, reports to values.

Pure. Lengths are in micrometres here, in millimetres and steps on the wire. Source:
Marlin's command queue, its position report and its language file.
"""

import re
from dataclasses import dataclass

from bifocus.errors import DeviceError, ProtocolError, ReferenceLostError
from bifocus.hal.take_up import Triple

REFERENCE_LOST = re.compile(
    rb"^start\s*$|^(?:echo: ?)?Marlin \d|^Error:Printer (?:halted|stopped)",
    re.MULTILINE,
)
"""The first lines after a reset, or the last before silence."""

Steps = tuple[int, int, int]
_NUMBER = rb"-?\d{1,8}(?:\.\d{1,6})?"
_OK = re.compile(rb"ok(?: N(\d{1,9}))?(?: P\d+)?(?: B\d+)?(?= |$)")
_PLACE = re.compile(rb"X: ?(%b) Y: ?(%b) Z: ?(%b)" % ((_NUMBER,) * 3))
_COUNT = re.compile(
    rb"Count:? ?(?:A|X): ?(-?\d{1,10}) ?(?:B|Y): ?(-?\d{1,10}) ?(?:C|Z): ?(-?\d{1,10})"
)
_RESEND = re.compile(rb"(?:Resend|rs):? ?N?(\d{1,9})")
_LAST_LINE = re.compile(rb"Error:.*Last Line: ?(\d{1,9})")
_STEPS = re.compile(rb"M92 X(%b) Y(%b) Z(%b)" % ((_NUMBER,) * 3))
_SOFT = re.compile(rb"(?i)soft endstops:? *(ON|OFF)\b.*?Min: *(.*?) *Max: *(.*)")
_LABELLED = re.compile(rb"([XYZ]):? ?(%b)" % _NUMBER)
_SWITCH = re.compile(rb"([xyz]_(?:min|max)\d?): *(TRIGGERED|open)")
_LINE_TROUBLE = (b"checksum mismatch", b"Line Number", b"Line number", b"No Checksum")
_NOT_HOMED = re.compile(rb"(?i)home [xyz]+ first")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One `M114` report: the planned place, and the steps that were really made."""

    planned_um: Triple
    steps: Steps


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftEndstops:
    """The answer of `M211`: targets beyond them are clipped without a word."""

    are_on: bool
    low_um: Triple
    high_um: Triple


def encode_line(number: int, command: str) -> bytes:
    r"""Return a numbered line with the XOR of its bytes.

    Examples
    --------
    >>> encode_line(0, "M110 N0")
    b'N0 M110 N0*125\n'
    """
    body = f"N{number} {command}".encode("ascii")
    checksum = 0
    for byte in body:
        checksum ^= byte
    return b"%b*%d\n" % (body, checksum)


def move_command(target_um: Triple, *, speed_um_per_s: float) -> str:
    """Return a straight move to an absolute place.

    Examples
    --------
    >>> move_command((1000.0, 0.0, -2.5), speed_um_per_s=500.0)
    'G1 X1.00000 Y0.00000 Z-0.00250 F30.000'
    """
    x, y, z = (value_um / 1e3 + 0.0 for value_um in target_um)
    return f"G1 X{x:.5f} Y{y:.5f} Z{z:.5f} F{speed_um_per_s * 60 / 1e3:.3f}"


def parse_place(line: bytes) -> Place | None:
    """Read the answer of `M114`, also where `ok` stands on the same line."""
    planned, count = _PLACE.search(line), _COUNT.search(line)
    if planned is None or count is None:
        return None
    return Place(
        planned_um=(
            float(planned[1]) * 1e3,
            float(planned[2]) * 1e3,
            float(planned[3]) * 1e3,
        ),
        steps=(int(count[1]), int(count[2]), int(count[3])),
    )


def parse_ok(line: bytes, *, number: int) -> bool:
    """Return whether the line acknowledges line `number`.

    An `ok` that names no line counts; one that names another does not.
    """
    found = _OK.match(line)
    return found is not None and (found[1] is None or int(found[1]) == number)


def parse_resend(line: bytes) -> int | None:
    """Return the number of the line that the board wants next, where it complains.

    It complains in two lines, either of which may be lost.

    Examples
    --------
    >>> parse_resend(b"Error:checksum mismatch, Last Line: 6")
    7
    """
    found = _LAST_LINE.fullmatch(line)
    if found is not None:
        return int(found[1]) + 1
    found = _RESEND.fullmatch(line)
    return int(found[1]) if found else None


def check_fault(line: bytes) -> None:
    """Raise what an error text means; busy words, echoes and reports pass.

    Complaints about line numbers and checksums pass too: a `Resend` follows them.

    Raises
    ------
    ReferenceLostError
        If the board was killed or stopped.
    DeviceError
        If it refuses the command, or wants to be homed first.
    """
    text = line.decode(errors="replace")
    if line.startswith(b"Error:") and not any(part in line for part in _LINE_TROUBLE):
        msg = (
            f"Marlin has stopped: {text!r}; find out why, restart the board, home the "
            "stage"
        )
        raise ReferenceLostError(msg)
    if b"Unknown command" in line:
        msg = f"Marlin does not know a command: {text!r}"
        raise DeviceError(msg)
    if _NOT_HOMED.search(line):
        msg = f"Marlin refuses to move: {text!r}; set `stage.homing: switches`"
        raise DeviceError(msg)


def check_sense(line: bytes) -> None:
    """Refuse a line that is none of the kinds that Marlin prints.

    Raises
    ------
    ProtocolError
        If the line has bytes that are not text.
    """
    if not line.isascii() or any(byte < 32 and byte != 9 for byte in line):
        msg = f"a damaged line from Marlin: {line!r}"
        raise ProtocolError(msg)


def parse_firmware(line: bytes) -> str | None:
    """Read the name in the answer of `M115`.

    Examples
    --------
    >>> parse_firmware(b"FIRMWARE_NAME:Marlin 2.1.2 (Aug 1 2023) SOURCE_CODE_URL:x")
    'Marlin 2.1.2 (Aug 1 2023)'
    """
    _, mark, rest = line.partition(b"FIRMWARE_NAME:")
    if not mark:
        return None
    name = re.split(rb" [A-Z_]+:", rest)[0]
    return name.decode(errors="replace").strip() or None


def parse_steps_per_mm(line: bytes) -> Triple | None:
    """Read `M92 X80.00 Y80.00 Z400.00`, wherever it stands in the line."""
    found = _STEPS.search(line)
    return (float(found[1]), float(found[2]), float(found[3])) if found else None


def parse_soft_endstops(line: bytes) -> SoftEndstops | None:
    """Read `Soft endstops: ON  Min: X0.00 ... Max: X200.00 ...`."""
    found = _SOFT.search(line)
    if found is None:
        return None
    low, high = _labelled_um(found[2]), _labelled_um(found[3])
    if low is None or high is None:
        return None
    return SoftEndstops(are_on=found[1].upper() == b"ON", low_um=low, high_um=high)


def parse_switch(line: bytes) -> tuple[str, bool] | None:
    """Read one line of `M119`: the switch's name, and whether it is pressed."""
    found = _SWITCH.fullmatch(line)
    return (found[1].decode(), found[2] == b"TRIGGERED") if found else None


def _labelled_um(text: bytes) -> Triple | None:
    """Read `X0.00 Y0.00 Z0.00`, with or without colons."""
    found = {name: float(value) * 1e3 for name, value in _LABELLED.findall(text)}
    if found.keys() < {b"X", b"Y", b"Z"}:
        return None
    return found[b"X"], found[b"Y"], found[b"Z"]
