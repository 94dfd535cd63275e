"""Numbers as a metrologist writes them: GUM, JCGM 100:2008, section 7.2.6. Pure.

The expanded uncertainty gets two significant digits, and the value ends at the same
decimal place. Numbers too small or too large to read get a common power of ten.
"""

import math
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

# Powers of ten of the last place beyond which a common factor is split off.
_LOWEST_PLACE = -5
_HIGHEST_PLACE = 3
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundedPair:
    """A value and its uncertainty as text, with the factor that both share."""

    value: str
    uncertainty: str
    factor: str = ""


def round_with_uncertainty(value: float, uncertainty: float) -> RoundedPair:
    """Return a value and its uncertainty, rounded to the same place.

    Parameters
    ----------
    value
        Any finite number.
    uncertainty
        Positive; where it is zero or not finite, the value gets six significant digits
        and the uncertainty a dash.

    Examples
    --------
    >>> round_with_uncertainty(10.05762, 0.027)
    RoundedPair(value='10.058', uncertainty='0.027', factor='')
    >>> round_with_uncertainty(2.1e-8, 7.66e-7)
    RoundedPair(value='0.02', uncertainty='0.77', factor=' × 10⁻⁶')
    """
    if not math.isfinite(value):
        return RoundedPair(value="–", uncertainty="–")
    if not (math.isfinite(uncertainty) and uncertainty > 0):
        return RoundedPair(value=f"{value:.6g}", uncertainty="–")
    rounded, place = _two_digits(Decimal(repr(float(uncertainty))))
    number = _at_place(Decimal(repr(float(value))), place)
    exponent = 0
    if place < _LOWEST_PLACE or place > _HIGHEST_PLACE:
        leading = max(rounded.adjusted(), number.adjusted() if number else place)
        exponent = 3 * math.trunc(leading / 3)
    factor = f" × 10{str(exponent).translate(_SUPERSCRIPTS)}" if exponent else ""
    return RoundedPair(
        value=_plain(number.scaleb(-exponent)),
        uncertainty=_plain(rounded.scaleb(-exponent)),
        factor=factor,
    )


def format_significant(value: float, digits: int = 4) -> str:
    """Return a plain number with so many significant digits, for facts and axes.

    Examples
    --------
    >>> format_significant(0.123456), format_significant(1234.56), format_significant(2)
    ('0.1235', '1235', '2')
    """
    if isinstance(value, int) or not math.isfinite(value):
        return str(value).replace("-", "−")
    if value and not 1e-4 <= abs(value) < 1e6:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        power = str(int(exponent)).translate(_SUPERSCRIPTS)
        return f"{_trimmed(mantissa)} × 10{power}"
    places = digits - 1 - math.floor(math.log10(abs(value))) if value else 0
    return _trimmed(f"{value:.{max(places, 0)}f}")


def _trimmed(text: str) -> str:
    """Return a number's text without zeros at its end, with a proper minus."""
    short = text.rstrip("0").rstrip(".") if "." in text else text
    return short.replace("-", "−")


def _two_digits(number: Decimal) -> tuple[Decimal, int]:
    """Return a positive number with two significant digits, and its last place."""
    place = number.adjusted() - 1
    rounded = _at_place(number, place)
    if rounded.adjusted() > number.adjusted():  # 0.0996 has become 0.100
        place += 1
        rounded = _at_place(number, place)
    return rounded, place


def _at_place(number: Decimal, place: int) -> Decimal:
    """Return the number rounded to a power of ten, trailing zeros kept."""
    return number.quantize(Decimal(1).scaleb(place), ROUND_HALF_UP)


def _plain(number: Decimal) -> str:
    return f"{number.copy_abs() if not number else number:f}".replace("-", "−")
