"""Sangaboard texts: commands to bytes, lines to values; firmware 0.5 and 1.x.

Pure. Source: the command table of the v0.5 firmware, and what published clients of
v1.x send and expect. A `parse_*` returns None for a line that answers something else,
and raises `ProtocolError` for one that no Sangaboard would print.
"""

import re
from dataclasses import dataclass

from bifocus.errors import DeviceError, ProtocolError

Steps = tuple[int, int, int]

BANNER = re.compile(
    rb"(?:Sangaboard Firmware|OpenFlexure Motor Board) v(\d{1,4})\.(\d{1,4})[\w.-]*"
)
"""Printed after a reset, and in answer to `version`."""

_BOARD = re.compile(rb"Sangaboard v[\w.-]+")
_POSITION = re.compile(rb"(-?\d{1,10}) (-?\d{1,10}) (-?\d{1,10})")
_STEP_DELAY = re.compile(rb"minimum step delay (\d{1,9})")
_RAMP_TIME = re.compile(rb"ramp time (\d{1,9})")
_REFUSALS = (
    b"Error:",
    b"Bad command.",
    b"Type 'help' for a list of commands.",
    b"Command not recognised",
)
_LONGEST_COMMAND = 63  # the board's buffer holds 64 bytes, one of them the end


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """What `version` answers: the text, and the two numbers that matter."""

    text: str
    major: int
    minor: int


def encode_move(steps: Steps) -> bytes:
    r"""Return the command for a straight relative move.

    Examples
    --------
    >>> encode_move((100, 0, -5))
    b'mr 100 0 -5\n'
    """
    command = b"mr %d %d %d\n" % steps
    if len(command) > _LONGEST_COMMAND:
        msg = f"a Sangaboard cannot take a move of {steps} steps: the line is too long"
        raise ProtocolError(msg)
    return command


def encode_home_low(axes: str) -> bytes:
    """Return the command that runs `axes` (such as `"xy"`) to their low switches."""
    return b"home_min %d\n" % sum(1 << "xyz".index(axis) for axis in axes)


def parse_version(line: bytes) -> Version | None:
    """Read the firmware's name and version."""
    found = BANNER.fullmatch(line)
    if found is None:
        return None
    return Version(text=line.decode(), major=int(found[1]), minor=int(found[2]))


def parse_board(line: bytes) -> str | None:
    """Read the answer of `board`, such as `Sangaboard v0.3`."""
    return line.decode() if _BOARD.fullmatch(line) else None


def parse_position(line: bytes) -> Steps | None:
    """Read the answer of `p?`.

    Examples
    --------
    >>> parse_position(b"10 -20 3")
    (10, -20, 3)
    """
    check_sense(line)
    found = _POSITION.fullmatch(line)
    return None if found is None else (int(found[1]), int(found[2]), int(found[3]))


def parse_step_delay(line: bytes) -> int | None:
    """Read the answer of `dt?`, in microseconds."""
    return _number(_STEP_DELAY, line)


def parse_ramp_time(line: bytes) -> int | None:
    """Read the answer of `ramp_time?`, in microseconds."""
    return _number(_RAMP_TIME, line)


def parse_moving(line: bytes) -> bool | None:
    """Read the answer of `moving?` (firmware 1.x)."""
    check_sense(line)
    return {b"true": True, b"false": False}.get(line)


def parse_done(line: bytes) -> bool | None:
    """Read the answer to a move: True for `done`.

    Raises
    ------
    DeviceError
        If the board refused; a v0.5 board that says `Error:` may have moved all the
        same, by numbers that nobody knows.
    """
    check_sense(line)
    if line.startswith(_REFUSALS):
        msg = f"the Sangaboard refused a command: {line.decode(errors='replace')}"
        raise DeviceError(msg)
    return True if line in (b"done", b"done.") else None


def parse_any(line: bytes) -> bytes | None:
    """Take any line but an empty one, for answers whose text is not known."""
    return line or None


def check_sense(line: bytes) -> None:
    """Refuse a line that no Sangaboard prints in answer to our commands.

    Raises
    ------
    ProtocolError
        If the line is damaged, or of another kind of board.
    """
    known = (_POSITION, BANNER, _BOARD, _STEP_DELAY, _RAMP_TIME)
    words = (b"", b"done", b"done.", b"true", b"false", b"Move aborted")
    if line in words or line.startswith(_REFUSALS):
        return
    if not any(pattern.fullmatch(line) for pattern in known):
        msg = f"a line that a Sangaboard does not print: {line!r}"
        raise ProtocolError(msg)


def _number(pattern: re.Pattern[bytes], line: bytes) -> int | None:
    check_sense(line)
    found = pattern.fullmatch(line)
    return int(found[1]) if found else None
