"""Rounding against published examples."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bifocus.calib.report_numbers import format_significant, round_with_uncertainty


@pytest.mark.parametrize(
    ("value", "expanded", "written"),
    [
        # JCGM 100:2008, 7.2.6: y = 10.05762 ohm with 27 mohm is 10.058 ohm.
        (10.05762, 0.027, ("10.058", "0.027")),
        # 7.2.4: m = (100.02147 +- 0.00079) g, from u = 0.35 mg and k = 2.26.
        (100.02147, 2.26 * 0.00035, ("100.02147", "0.00079")),
        # 7.2.6: 28.05 kHz is rounded down to 28 kHz.
        (1000.3, 28.05, ("1000", "28")),
        # NIST TN 1297, 6.5: U = 3.2 mV at V = 10.000 ... V from u = 1.6 mV.
        (10.0003, 2 * 0.0016, ("10.0003", "0.0032")),
        # H.1: l = 50.000838 mm, U99 = 93 nm; H.2: R = 127.732 ohm, u = 0.071 ohm.
        (50.000838, 93e-6, ("50.000838", "0.000093")),
        (127.732, 0.071, ("127.732", "0.071")),
        # A carry makes the first digit a new one: still two digits, not three.
        (0.5, 0.0996, ("0.50", "0.10")),
        (-3.14159, 0.1, ("−3.14", "0.10")),
        (-0.001, 0.5, ("0.00", "0.50")),
    ],
)
def test_published_examples(
    value: float, expanded: float, written: tuple[str, str]
) -> None:
    rounded = round_with_uncertainty(value, expanded)
    if rounded.factor:  # five zeros are read more easily as a power of ten
        exponent = -3 if "⁻³" in rounded.factor else -6
        scaled = [Decimal(text).scaleb(exponent) for text in _texts(rounded)]
        assert [f"{number:f}" for number in scaled] == list(written)
    else:
        assert (rounded.value, rounded.uncertainty) == written


def _texts(rounded: object) -> list[str]:
    return [getattr(rounded, name) for name in ("value", "uncertainty")]


@given(
    value=st.floats(-1e7, 1e7),
    expanded=st.floats(1e-9, 1e6, allow_nan=False, exclude_min=True),
)
def test_rounding_loses_less_than_a_twentieth_of_the_uncertainty(
    value: float, expanded: float
) -> None:
    """Half of the last place of two digits is at most 5 % of U; so is what U loses."""
    rounded = round_with_uncertainty(value, expanded)
    powers = {"": 0}
    powers |= {f" × 10{mark}": power for mark, power in _POWERS.items()}
    scale = Decimal(10) ** powers[rounded.factor]
    kept, kept_u = (Decimal(text.replace("−", "-")) * scale for text in _texts(rounded))
    exact, exact_u = Decimal(repr(value)), Decimal(repr(expanded))
    assert abs(kept - exact) <= Decimal("0.0500001") * exact_u
    assert abs(kept_u - exact_u) <= Decimal("0.0500001") * exact_u
    digits = rounded.uncertainty.replace(".", "").lstrip("0")
    assert len(digits) == 2 or (len(digits) > 2 and set(digits[2:]) == {"0"})


_POWERS = {"⁻³": -3, "⁻⁶": -6, "⁻⁹": -9, "³": 3, "⁶": 6}


def test_without_an_uncertainty_six_digits_and_a_dash() -> None:
    assert round_with_uncertainty(1.23456789, 0.0).value == "1.23457"
    assert round_with_uncertainty(1.0, float("nan")).uncertainty == "–"
    assert round_with_uncertainty(float("inf"), 1.0).value == "–"


def test_facts_are_written_without_silly_digits() -> None:
    assert format_significant(0.30000000000000004) == "0.3"
    assert format_significant(-1234.5678) == "−1235"
    assert format_significant(0.0) == "0"
    assert format_significant(1.5e-7) == "1.5 × 10⁻⁷"
    assert format_significant(9.9999) == "10"
