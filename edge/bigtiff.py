"""Lay out BigTIFF bytes: where each directory and table goes, and what is in it.

Pure: nothing here opens a file. Source: TIFF 6.0 and the BigTIFF extension (magic 43,
8-byte offsets, 20-byte fields). Everything is little-endian.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

HEADER_BYTES = 16
FIELD_BYTES = 20  # number (2), type (2), count (8), value or pointer (8)
INLINE_BYTES = 8  # values up to this size sit in the field itself
SECTOR_BYTES = 512  # the least that a disk writes whole, or not at all

TYPE_ASCII = 2
TYPE_SHORT = 3
TYPE_LONG = 4
TYPE_RATIONAL = 5
TYPE_UNDEFINED = 7
TYPE_LONG8 = 16
TYPE_IFD8 = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class TiffField:
    """One directory field; `shared_at` points at values that other fields share."""

    number: int
    type_code: int
    count: int
    payload: bytes = b""
    shared_at: int | None = None


class ByteLayout:
    """A byte image that grows by reserved, aligned pieces, filled in any order."""

    def __init__(self) -> None:
        """Start empty."""
        self._image = bytearray()

    def reserve(self, n_bytes: int, *, align: int = 8) -> int:
        """Add `n_bytes` zeros at the next multiple of `align`; return their start."""
        start = -(-len(self._image) // align) * align
        self._image.extend(bytes(start + n_bytes - len(self._image)))
        return start

    def put(self, start: int, payload: bytes) -> None:
        """Fill a reserved piece; raises ValueError beyond the end."""
        if start + len(payload) > len(self._image):
            msg = f"{len(payload)} bytes at {start} pass the end {len(self._image)}"
            raise ValueError(msg)
        self._image[start : start + len(payload)] = payload

    def to_bytes(self) -> bytes:
        """Return the image so far."""
        return bytes(self._image)


def shorts(number: int, *values: int) -> TiffField:
    """Make a field of 16-bit unsigned values."""
    return _packed(number, TYPE_SHORT, "H", values)


def longs(number: int, *values: int) -> TiffField:
    """Make a field of 32-bit unsigned values."""
    return _packed(number, TYPE_LONG, "I", values)


def ifd8s(number: int, *values: int) -> TiffField:
    """Make a field of 64-bit directory positions."""
    return _packed(number, TYPE_IFD8, "Q", values)


def rationals(number: int, *values: Fraction) -> TiffField:
    """Make a field of fractions of two 32-bit unsigned numbers each."""
    flat = [part for value in values for part in fit_rational(value)]
    field = _packed(number, TYPE_RATIONAL, "I", flat)
    return TiffField(
        number=number,
        type_code=TYPE_RATIONAL,
        count=len(values),
        payload=field.payload,
    )


def text(number: int, value: str) -> TiffField:
    """Make a NUL-ended text field; UTF-8, as OME-TIFF readers expect."""
    payload = value.encode() + b"\0"
    return blob(number, payload, TYPE_ASCII)


def blob(number: int, payload: bytes, type_code: int = TYPE_UNDEFINED) -> TiffField:
    """Make a field of opaque bytes."""
    return TiffField(
        number=number, type_code=type_code, count=len(payload), payload=payload
    )


def shared_long8s(number: int, count: int, shared_at: int) -> TiffField:
    """Make a field whose 64-bit values lie at `shared_at`, outside the directory.

    TIFF puts a single 8-byte value inside the field, so `count` must be at least 2.
    """
    if count < 2:
        msg = f"field {number}: a table of {count} value cannot be shared"
        raise ValueError(msg)
    return TiffField(
        number=number, type_code=TYPE_LONG8, count=count, shared_at=shared_at
    )


def single_long8(number: int, value: int) -> TiffField:
    """Make a field of one 64-bit value, which lies in the field itself."""
    return _packed(number, TYPE_LONG8, "Q", [value])


def fit_rational(value: Fraction) -> tuple[int, int]:
    """Return the nearest numerator and denominator of at most 32 bits each.

    >>> fit_rational(Fraction(100000, 5))
    (20000, 1)
    """
    limit = 2**32 - 1
    if value.numerator > limit or value.denominator > limit:
        value = value.limit_denominator(max(1, limit // (int(value) + 1)))
    return value.numerator, value.denominator


def directory_bytes(n_fields: int) -> int:
    """Return the size of a directory with its count and its next pointer."""
    return 8 + FIELD_BYTES * n_fields + 8


def put_header(layout: ByteLayout, first_directory_at: int) -> None:
    """Write the 16-byte BigTIFF header at the start of `layout`."""
    header = struct.pack("<2sHHHQ", b"II", 43, 8, 0, first_directory_at)
    layout.put(0, header)


def put_directory(
    layout: ByteLayout, at: int, fields: Sequence[TiffField], next_at: int = 0
) -> dict[int, int]:
    """Write a directory at `at`; return where the values of each field start.

    Parameters
    ----------
    layout
        The byte image; `directory_bytes(len(fields))` must be reserved at `at`. Long
        values are appended to it.
    at, next_at
        Byte positions of this directory and of the next in the chain (0: last).
    fields
        In any order; TIFF wants them sorted by number and they are written so.

    Returns
    -------
    dict
        Field number to byte position of its first value, in the field or outside.
    """
    ordered = sorted(fields, key=lambda field: field.number)
    value_at: dict[int, int] = {}
    parts = [struct.pack("<Q", len(ordered))]
    for i_field, field in enumerate(ordered):
        cell_at = at + 8 + FIELD_BYTES * i_field + 12
        start, cell = _place_values(layout, field, cell_at)
        value_at[field.number] = start
        parts.append(struct.pack("<HHQ", field.number, field.type_code, field.count))
        parts.append(cell)
    parts.append(struct.pack("<Q", next_at))
    layout.put(at, b"".join(parts))
    return value_at


def _place_values(
    layout: ByteLayout, field: TiffField, cell_at: int
) -> tuple[int, bytes]:
    """Return where the values of `field` start and the 8 bytes of its cell."""
    if field.shared_at is not None:
        return field.shared_at, struct.pack("<Q", field.shared_at)
    if len(field.payload) <= INLINE_BYTES:
        return cell_at, field.payload.ljust(INLINE_BYTES, b"\0")
    start = layout.reserve(len(field.payload))
    layout.put(start, field.payload)
    return start, struct.pack("<Q", start)


def _packed(
    number: int, type_code: int, letter: str, values: Sequence[int]
) -> TiffField:
    payload = struct.pack(f"<{len(values)}{letter}", *values)
    return TiffField(
        number=number, type_code=type_code, count=len(values), payload=payload
    )
