"""The byte layout of BigTIFF, against the specification's own numbers."""

import struct
from fractions import Fraction

import pytest

from bifocus.edge import bigtiff
from bifocus.edge.bigtiff import ByteLayout


def test_header_is_little_endian_bigtiff() -> None:
    layout = ByteLayout()
    layout.reserve(bigtiff.HEADER_BYTES)
    bigtiff.put_header(layout, 512)
    # "II", version 43, offset size 8, constant 0, position of the first directory.
    assert layout.to_bytes().hex() == "49492b00080000000002000000000000"


def test_fields_are_sorted_and_point_to_their_values() -> None:
    layout = ByteLayout()
    at = layout.reserve(bigtiff.directory_bytes(3))
    fields = [
        bigtiff.text(270, "long enough to live outside"),
        bigtiff.longs(256, 7),
        bigtiff.shorts(258, 8, 8, 8),
    ]
    value_at = bigtiff.put_directory(layout, at, fields, next_at=99)
    image = layout.to_bytes()
    assert struct.unpack_from("<Q", image, 0) == (3,)
    numbers = [struct.unpack_from("<H", image, 8 + 20 * i)[0] for i in range(3)]
    assert numbers == [256, 258, 270]
    assert struct.unpack_from("<I", image, value_at[256]) == (7,)
    assert struct.unpack_from("<3H", image, value_at[258]) == (8, 8, 8)
    assert image[value_at[270] :].startswith(b"long enough to live outside\0")
    assert struct.unpack_from("<Q", image, 8 + 60) == (99,)


def test_reserve_aligns() -> None:
    layout = ByteLayout()
    layout.reserve(3)
    assert layout.reserve(1, align=512) == 512
    assert layout.reserve(1) == 520


def test_put_beyond_the_end_is_refused() -> None:
    layout = ByteLayout()
    layout.reserve(4)
    with pytest.raises(ValueError, match="pass the end"):
        layout.put(0, bytes(5))


def test_a_single_value_cannot_be_shared() -> None:
    with pytest.raises(ValueError, match="cannot be shared"):
        bigtiff.shared_long8s(324, 1, 512)


@pytest.mark.parametrize(
    "value", [Fraction(10_000) / Fraction("0.2325"), Fraction(10**7, 3 * 7**12)]
)
def test_rationals_fit_and_stay_close(value: Fraction) -> None:
    numerator, denominator = bigtiff.fit_rational(value)
    assert 0 < numerator < 2**32
    assert 0 < denominator < 2**32
    assert abs(Fraction(numerator, denominator) / value - 1) < 1e-6
