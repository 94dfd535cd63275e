"""Words of a G-code line, as the virtual GRBL and Marlin boards read them."""

import functools
import operator
import re

_COMMENT = re.compile(r"\([^)]*\)|;.*")
_WORD = re.compile(r"([A-Z])([+-]?(?:\d+\.?\d*|\.\d+))")
_NUMBERED = re.compile(rb"N(\d+)(.*)$", re.DOTALL)
_BARE = re.compile(r"([A-Z])([+-]?(?:\d+\.?\d*|\.\d+))?")

Words = list[tuple[str, float]]


def strip_comments(text: str) -> str:
    """Return the line in capitals without blanks and comments.

    Examples
    --------
    >>> strip_comments("g1 x-1.5 (there) f60 ; go")
    'G1X-1.5F60'
    """
    return re.sub(r"\s", "", _COMMENT.sub("", text)).upper()


def grbl_words(text: str) -> Words | int:
    """Return the words of a stripped line, or GRBL's error number.

    Examples
    --------
    >>> grbl_words("G1X-.5F60")
    [('G', 1.0), ('X', -0.5), ('F', 60.0)]
    >>> grbl_words("G1X"), grbl_words("1X")
    (2, 1)
    """
    words: Words = []
    at = 0
    while at < len(text):
        found = _WORD.match(text, at)
        if not found:
            return 2 if "A" <= text[at] <= "Z" else 1
        words.append((found.group(1), float(found.group(2))))
        at = found.end()
    return words


def marlin_words(text: str) -> dict[str, float | None]:
    """Return letters with their numbers; what cannot be read is skipped.

    Examples
    --------
    >>> marlin_words("G28 Z X0")
    {'G': 28.0, 'Z': None, 'X': 0.0}
    """
    return {
        letter: float(number) if number else None
        for letter, number in _BARE.findall(strip_comments(text))
    }


def marlin_line(line: bytes, last_number: int) -> tuple[int | None, bytes] | str:
    """Return number and command of a line, or what Marlin says is wrong with it.

    Examples
    --------
    >>> marlin_line(b"N3 T0*57", 2), marlin_line(b"M114", 2)
    ((3, b' T0'), (None, b'M114'))
    >>> marlin_line(b"N3 T0*57", 7), marlin_line(b"N3 T0*58", 2)
    ('Line Number is not Last Line Number+1', 'checksum mismatch')
    """
    found = _NUMBERED.match(line)
    if not found:
        return None, line
    number = int(found.group(1)[:9])
    if number != last_number + 1 and b"M110" not in line:
        return "Line Number is not Last Line Number+1"
    body, star, check = line.rpartition(b"*")
    digits = re.match(rb"\d{1,3}", check)
    if not star:
        return "No Checksum with line number"
    if digits is None or int(digits.group(0)) != functools.reduce(operator.xor, body):
        return "checksum mismatch"
    return number, found.group(2).rpartition(b"*")[0]
