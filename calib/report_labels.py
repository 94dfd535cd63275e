"""What steps, values and units are called on paper."""

import re

_STEPS = {
    "focus": "Focus of the first tile",
    "z": "Z mechanics",
    "xy": "XY scale, pixel size and backlash",
    "axes": "XY axes over their travel",
    "settling": "Settling after moves",
    "tilt": "Tilt of the slide",
    "illumination": "Illumination and colour",
    "optics": "Optics",
    "spacing": "Half-spacing of the pair, dD",
}

_VALUES = {
    "focus_um": "Best focus F",
    "focus_sharpest_um": "Sharpest plane",
    "focus_shift_um": "Sharpest plane over best focus",
    "focus_width_um": "Width of the focus curve (one sd)",
    "light_level": "Level of the light at the place of focus",
    "backlash_z_um": "Backlash of z (reversal value)",
    "backlash_x_um": "Backlash of x (reversal value)",
    "backlash_y_um": "Backlash of y (reversal value)",
    "repeatability_z_um": "Repeatability of z",
    "repeatability_x_um": "Repeatability of x",
    "repeatability_y_um": "Repeatability of y",
    "repeatability_x_one_way_um": "Repeatability of x, arriving one way",
    "repeatability_y_one_way_um": "Repeatability of y, arriving one way",
    "accuracy_x_um": "Accuracy of x",
    "accuracy_y_um": "Accuracy of y",
    "periodic_x_um": "Periodic error of x",
    "periodic_y_um": "Periodic error of y",
    "drift_z_um_per_hour": "Drift of focus",
    "pixel_um": "Pixel on the slide",
    "scale_x": "Scale of x, true over commanded",
    "scale_y": "Scale of y, true over commanded",
    "rotation_mrad": "Rotation of the camera",
    "settle_xy_s": "Settling time of x and y",
    "settle_z_s": "Settling time of z",
    "tilt_mrad": "Tilt",
    "tilt_x_mrad": "Tilt along x",
    "tilt_y_mrad": "Tilt along y",
    "white_r": "Clear glass, red",
    "white_g": "Clear glass, green",
    "white_b": "Clear glass, blue",
    "dark_level": "Dark level",
    "saturated_share": "Share of clipped pixels",
    "read_noise": "Read noise",
    "gain_e_per_level": "Electrons per level",
    "chromatic_shift_r_px": "Red picture against green, sideways",
    "chromatic_shift_b_px": "Blue picture against green, sideways",
    "na": "Numerical aperture, effective",
    "spherical_waves": "Spherical aberration",
    "condenser": "Condenser aperture over objective's",
    "z_scale": "Scale of z, true over commanded",
    "chromatic_r_um": "Focus of red against green",
    "chromatic_b_um": "Focus of blue against green",
    "phase_ratio": "Phase for each unit of absorption",
    "offset_gain": "Offset read-out: gain",
    "offset_bias_um": "Offset read-out: bias",
    "focus_asymmetry": "Asymmetry of sharpness above and below",
    "half_spacing_um": "Half-spacing dD, achieved",
    "half_spacing_stage_um": "Half-spacing dD, achieved, as the stage counts",
    "half_spacing_commanded_um": "Half-spacing dD, commanded",
}

# What the names of quantities end in, longest first.
_SUFFIXES = (
    ("_um_per_hour", "µm/h"),
    ("_mrad", "mrad"),
    ("_um", "µm"),
    ("_px", "px"),
    ("_s", "s"),
)

_UNITS = {
    "um": "µm",
    "um/h": "µm/h",
    "um/hour": "µm/h",
    "1/um": "1/µm",
    "waves": "λ",
    "1": "",
}


def name_step(name: str) -> str:
    """Return a step's title.

    Examples
    --------
    >>> name_step("z"), name_step("light_source")
    ('Z mechanics', 'Light source')
    """
    return _STEPS.get(name, _in_words(name))


def name_value(key: str) -> str:
    """Return what a public key stands for."""
    return _VALUES.get(key, _in_words(key))


def name_unit(unit: str) -> str:
    """Return a unit as it is printed.

    Examples
    --------
    >>> name_unit("um"), name_unit("mrad"), name_unit("")
    ('µm', 'mrad', '')
    """
    return _UNITS.get(unit, unit)


def unit_of_key(key: str) -> str:
    """Return the unit that a public key carries in its name, or nothing.

    Examples
    --------
    >>> unit_of_key("drift_z_um_per_hour"), unit_of_key("settle_z_s"), unit_of_key("na")
    ('µm/h', 's', '')
    """
    return next((unit for end, unit in _SUFFIXES if key.endswith(end)), "")


def name_fact(key: str) -> str:
    """Return a fact's key in words, its unit set apart.

    Examples
    --------
    >>> name_fact("residual_um"), name_fact("drift_z_um_per_hour"), name_fact("places")
    ('residual, µm', 'drift z, µm/h', 'places')
    """
    for end, unit in _SUFFIXES:
        if key.endswith(end) and key != end:
            return f"{key[: -len(end)].replace('_', ' ')}, {unit}"
    return key.replace("_", " ")


def in_symbols(text: str) -> str:
    """Return a text with the signs that its author had no keys for.

    Examples
    --------
    >>> in_symbols("z (um): 0.45 um steps of pixel_um, +- 0.1 um/mm, um = optimum")
    'z (µm): 0.45 µm steps of pixel_um, ± 0.1 µm/mm, µm = optimum'
    """
    text = re.sub(r"(?<![\w.])um(?!\w)", "µm", text)
    return re.sub(r"(?<=\d)um(?!\w)", "µm", text).replace("+-", "±")


def _in_words(key: str) -> str:
    text = key.replace("_", " ")
    return text[:1].upper() + text[1:]
