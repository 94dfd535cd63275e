"""What all report pages share: their look, their way to write numbers, pictures inside.

A page is one self-contained file without scripts; what came from files or users is
escaped by the template engine. Templates of a package may include `look.css`.
"""

import base64
import math

import jinja2
import numpy as np


def make_environment(package: str) -> jinja2.Environment:
    """Return a template engine over `package`'s templates and the shared ones.

    Parameters
    ----------
    package
        Import name of a package with a `templates` folder, such as `bifocus.edge`.
    """
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [jinja2.PackageLoader(package), jinja2.PackageLoader("bifocus")]
        ),
        autoescape=True,
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=format_number, duration=format_duration, percent=format_percent
    )
    return environment


def format_number(value: object, digits: int = 2) -> str:
    """Return a number with fixed digits, or a dash where there is none.

    Examples
    --------
    >>> format_number(3.14159), format_number(12), format_number(float("nan"))
    ('3.14', '12', '–')
    """
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        return (
            "–" if value is None or isinstance(value, jinja2.Undefined) else str(value)
        )
    if not math.isfinite(value):
        return "–"
    if isinstance(value, int | np.integer):
        return str(value)
    return f"{value:.{digits}f}"


def format_percent(value: object) -> str:
    """Return a fraction as a percentage.

    Examples
    --------
    >>> format_percent(0.0253), format_percent(None)
    ('2.5 %', '–')
    """
    text = format_number(100 * value if isinstance(value, int | float) else value, 1)
    return text if text == "–" else f"{text} %"


def format_duration(value: object) -> str:
    """Return seconds as a person would say them.

    Examples
    --------
    >>> format_duration(0.617), format_duration(754.0), format_duration(7384.0)
    ('0.62 s', '12 min 34 s', '2 h 03 min')
    """
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "–"
    if value < 60:
        return f"{value:.{1 if value >= 10 else 2}f} s"
    minutes, seconds = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def data_uri(kind: str, content: bytes) -> str:
    """Return bytes as an address that holds them; empty for no bytes.

    Examples
    --------
    >>> data_uri("image/png", b"abc")
    'data:image/png;base64,YWJj'
    """
    if not content:
        return ""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
