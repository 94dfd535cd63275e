"""ASI texts: MS-2000 and Tiger commands to bytes, replies to values.

Pure. Places are in micrometres here and in tenths of one on the wire, speeds in um/s
and mm/s. Every number is sent behind an explicit `=`: a letter without one means 0.
Both reply styles are read: `:A 12.3 4.5` and Tiger's own `X=123 Y=45`. Source: the
maker's command pages and the TG-1000 manual.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bifocus.errors import DeviceError, ProtocolError

REFERENCE_LOST = re.compile(rb"(?!)")
"""Matches nothing: the controller announces no reset, its places begin at zero."""

_NUMBER = rb"-?\d{1,12}(?:\.\d{1,6})?"
_VALUES = re.compile(rb":A((?: %b)+)" % _NUMBER)
_PAIR = re.compile(rb"([A-Z])=(%b)" % _NUMBER)
_PAIRS = re.compile(rb":?(?:A )?((?:[A-Z]=%b ?)+)(?: ?A)?" % _NUMBER)
_ERROR = re.compile(rb":N-(\d{1,3})")
_AXES = re.compile(rb"(?:Motor )?Axes: ((?:[A-Z] ?)+)")
_ADDRESSES = re.compile(rb"Axis Addr: ((?:[0-9A-Za-z] ?)+)")
_HALTED = 21
_MEANINGS = {
    1: "unknown command",
    2: "unknown axis",
    3: "missing parameter",
    4: "parameter out of range",
    5: "operation failed",
    6: "undefined error",
    7: "no card at that address",
    _HALTED: "halted",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """The motor axes in the controller's own order, and each one's card address.

    Only a Tiger takes commands with an address in front.
    """

    letters: tuple[str, ...]
    addresses: tuple[str, ...]
    is_tiger: bool


def encode_move(letters: Sequence[str], target_um: Sequence[float]) -> bytes:
    r"""Return an absolute move of the named axes.

    Examples
    --------
    >>> encode_move("XYZ", (1.0, -2.5, 0.0))
    b'M X=10 Y=-25 Z=0\r'
    """
    places = (value_um * 10 for value_um in target_um)
    return _assignments("M", letters, places, decimals=3)


def encode_where(letters: Sequence[str]) -> bytes:
    """Return the question where the named axes are."""
    return f"W {' '.join(letters)}\r".encode()


def encode_speed(letters: Sequence[str], speed_um_per_s: Sequence[float]) -> bytes:
    r"""Return the command that sets speeds; the controller clamps them to its own.

    Examples
    --------
    >>> encode_speed("XY", (500.0, 1000.0))
    b'S X=0.5 Y=1\r'
    """
    return _assignments("S", letters, (v / 1e3 for v in speed_um_per_s), decimals=6)


def encode_backlash_off(letters: Sequence[str]) -> bytes:
    """Return the command that ends the controller's own anti-backlash moves."""
    return _assignments("B", letters, (0.0 for _ in letters), decimals=0)


def encode_question(command: str, letters: Sequence[str]) -> bytes:
    """Return the question for a setting of each axis, such as `S X? Y?`."""
    return f"{command} {' '.join(f'{letter}?' for letter in letters)}\r".encode()


def check_error(line: bytes) -> None:
    """Raise `DeviceError` for `:N-n`; other lines pass."""
    found = _ERROR.fullmatch(line)
    if found is not None:
        number = int(found[1])
        meaning = _MEANINGS.get(number, "see the maker's list")
        msg = f"the ASI controller answers error -{number} ({meaning})"
        raise DeviceError(msg)


def parse_taken(line: bytes, *, is_bare: bool = False) -> bool | None:
    """Read the answer to a command: True for `:A`.

    With `is_bare` an empty line is one too: a Tiger of its own style says no more.

    Raises
    ------
    DeviceError
        For `:N-n`.
    ProtocolError
        For a damaged line.
    """
    check_error(line)
    if line.rstrip() == b":A" or (is_bare and not line):
        return True
    check_sense(line)
    return None


def parse_halted(line: bytes, *, is_bare: bool = False) -> bool | None:
    """Read the answer to HALT: True, also for `:N-21`, which says it cut a move off."""
    found = _ERROR.fullmatch(line)
    if found is not None and int(found[1]) == _HALTED:
        return True
    return parse_taken(line, is_bare=is_bare)


def parse_busy(line: bytes) -> bool | None:
    """Read the answer of `/`: `B` while any motor runs, `N` when none does."""
    if line in (b"B", b"N"):
        return line == b"B"
    check_error(line)
    check_sense(line)
    return None


def parse_where(line: bytes, letters: Sequence[str]) -> Mapping[str, float] | None:
    """Read places in micrometres by axis; `letters` in the controller's order.

    Examples
    --------
    >>> parse_where(b":A 10.0 -25 0", "XYZ")
    {'X': 1.0, 'Y': -2.5, 'Z': 0.0}
    """
    check_error(line)
    found = _VALUES.fullmatch(line.rstrip())
    if found is not None:
        values = [float(text) / 10 for text in found[1].split()]
        if len(values) != len(letters):
            msg = f"expected the places of {len(letters)} axes, got {line!r}"
            raise ProtocolError(msg)
        return dict(zip(letters, values, strict=True))
    pairs = parse_pairs(line)
    if pairs is None:
        return None
    return {letter: value / 10 for letter, value in pairs.items()}


def parse_pairs(line: bytes) -> dict[str, float] | None:
    """Read `:A X=1.0 Y=2.0`, `:X=1.0 A` and `X=1.0` alike, in the units on the wire.

    Examples
    --------
    >>> parse_pairs(b":X=0.040000 A")
    {'X': 0.04}
    """
    check_error(line)
    text = line.strip()
    found = _PAIRS.fullmatch(text)
    if found is None:
        check_sense(line)
        return None
    return {name.decode(): float(value) for name, value in _PAIR.findall(found[1])}


def parse_version(line: bytes) -> str | None:
    """Read the answer of `V`, such as `:A Version: USB-9.2m`."""
    check_error(line)
    check_sense(line)
    _, mark, rest = line.partition(b"Version:")
    return (rest.decode().strip() or None) if mark else None


def parse_axes(line: bytes) -> Axes | None:
    r"""Read the answer of `BU X`, whose lines are separated by `\r`.

    Returns None where a firmware does not list its axes.
    """
    check_error(line)
    parts = line.split(b"\r")
    letters = next((m for part in parts if (m := _AXES.fullmatch(part.strip()))), None)
    if letters is None:
        return None
    cards = next((m for p in parts if (m := _ADDRESSES.fullmatch(p.strip()))), None)
    names = tuple(letters[1].decode().split())
    addresses = tuple(cards[1].decode().split()) if cards else ("",) * len(names)
    if len(addresses) != len(names):
        msg = f"axes and their addresses do not match: {line!r}"
        raise ProtocolError(msg)
    return Axes(letters=names, addresses=addresses, is_tiger=b"TIGER" in line.upper())


def check_sense(line: bytes) -> None:
    """Refuse bytes that are no text.

    Raises
    ------
    ProtocolError
        If there are any.
    """
    if not line.isascii() or any(byte < 32 and byte not in (9, 13) for byte in line):
        msg = f"a damaged line from an ASI controller: {line!r}"
        raise ProtocolError(msg)


def _assignments(
    command: str, letters: Sequence[str], values: Iterable[float], *, decimals: int
) -> bytes:
    pairs = zip(letters, values, strict=True)
    words = (f"{letter}={_plain(value, decimals)}" for letter, value in pairs)
    return f"{command} {' '.join(words)}\r".encode()


def _plain(value: float, decimals: int) -> str:
    """Return the shortest plain decimal; never an exponent, never `-0`."""
    text = f"{value:.{decimals}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
