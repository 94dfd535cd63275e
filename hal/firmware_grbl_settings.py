"""The `$` settings of a virtual GRBL board, with the values of its motors."""

import math

from bifocus.hal.firmware_axes import AxesFacts

_FIXED: dict[int, float] = {
    0: 10,
    1: 25,
    2: 0,
    3: 0,
    4: 0,
    5: 0,
    6: 0,
    10: 1,
    11: 0.010,
    12: 0.002,
    13: 0,
    20: 0,
    21: 0,
    22: 0,
    23: 0,
    24: 25.0,
    25: 500.0,
    26: 250,
    27: 1.0,
    30: 1000,
    31: 0,
    32: 0,
}
_WITH_DECIMALS = {11, 12, 24, 25, 27} | set(range(100, 133))
_MAX_TRAVEL_MM = 200.0  # GRBL's default, where the motors' travel has no end


def grbl_settings(facts: AxesFacts, *, has_switches: bool) -> dict[int, float]:
    """Return the settings as set up for these motors.

    With limit switches, homing, soft and hard limits are on.
    """
    settings = dict(_FIXED)
    for number in (20, 21, 22):
        settings[number] = float(has_switches)
    for axis in range(3):
        low, high = facts.travel_um[axis]
        travel_mm = (high - low) / 1000
        settings[100 + axis] = 1000 / facts.step_um[axis]
        settings[110 + axis] = facts.speed_um_per_s[axis] * 60 / 1000
        settings[120 + axis] = facts.acceleration_um_per_s2[axis] / 1000
        settings[130 + axis] = travel_mm if math.isfinite(travel_mm) else _MAX_TRAVEL_MM
    return settings


def setting_text(number: int, value: float) -> str:
    """Return one line of `$$`.

    Examples
    --------
    >>> setting_text(10, 1.0), setting_text(100, 1600.0)
    ('$10=1', '$100=1600.000')
    """
    digits = 3 if number in _WITH_DECIMALS else 0
    return f"${number}={value:.{digits}f}"


def change_setting(settings: dict[int, float], text: str, *, is_still: bool) -> int:
    """Carry out `100=1600`, what follows the `$`; return the error number, 0 for none.

    Examples
    --------
    >>> settings = {20: 0.0, 22: 0.0, 100: 250.0}
    >>> change_setting(settings, "100=1600", is_still=True), settings[100]
    (0, 1600.0)
    >>> change_setting(settings, "20=1", is_still=True)  # soft limits need homing
    10
    """
    name, equals, value = text.partition("=")
    if not (name.isdigit() and equals):
        return 3
    if not is_still:
        return 8
    try:
        number, new = int(name), float(value)
    except ValueError:
        return 2
    if number not in settings or not math.isfinite(new):
        return 3
    if new < 0:
        return 4
    if number == 20 and new and not settings[22]:
        return 10
    if number in range(100, 123) and new == 0:
        return 3
    settings[number] = new
    return 0
