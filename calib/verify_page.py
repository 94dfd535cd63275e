"""`verify.html`: the verdict of a verification, and a control chart for each value."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from bifocus.calib.report_labels import name_unit, name_value
from bifocus.calib.report_numbers import round_with_uncertainty
from bifocus.calib.verify_judge import Check
from bifocus.records import InstrumentProfile
from bifocus.report_drawing import (
    BLUE,
    GREY,
    INK,
    RED,
    make_figure,
    to_svg,
)
from bifocus.report_page import data_uri, make_environment
from bifocus.whole_file import write_whole

_CHART_IN = 1.7


def write_verify_page(
    path: Path, profile: InstrumentProfile, checks: Sequence[Check], verdict: str
) -> None:
    """Write the page, whole or not at all.

    Raises
    ------
    SlideFileError
        If it cannot be written; an older page is left as it was.
    """
    template = make_environment("bifocus.calib").get_template("verify.html.j2")
    page = template.render(
        profile=profile,
        checks=checks,
        verdict=verdict,
        rounded={
            check.control.key: round_with_uncertainty(
                check.measured.value, 2 * check.measured.standard_uncertainty
            )
            for check in checks
            if check.measured is not None
        },
        expected={
            check.control.key: round_with_uncertainty(
                check.expected.value, 2 * check.expected.standard_uncertainty
            )
            for check in checks
        },
        names={check.control.key: name_value(check.control.key) for check in checks},
        units={check.control.key: name_unit(check.unit) for check in checks},
        charts=data_uri("image/svg+xml", draw_charts(checks).encode("utf-8")),
    )
    write_whole(path, page)


def draw_charts(checks: Sequence[Check]) -> str:
    """Return one control chart below the other, as SVG text.

    Each shows the runs in their order with bars of U (k = 2), the profile's value and
    the limits.
    """
    shown = [check for check in checks if check.points]
    if not shown:
        return ""
    figure, axes = make_figure(
        n_panels=len(shown), height_in=_CHART_IN * len(shown), width_in=8.0
    )
    for ax, check in zip(axes, shown, strict=True):
        _draw(ax, check)
    axes[-1].set_xlabel("verification", fontsize=9)
    return to_svg(figure)


def _draw(ax: Axes, check: Check) -> None:
    centre, limit = check.expected.value, check.limit
    numbers = list(range(1, len(check.points) + 1))
    ax.axhline(centre, color=INK, linewidth=0.9)
    for sign in (-1, 1):
        ax.axhline(centre + sign * limit, color=RED, linewidth=0.9, linestyle="--")
    ax.errorbar(
        numbers,
        [point.value for point in check.points],
        yerr=[2 * point.u for point in check.points],
        color=BLUE,
        ecolor=GREY,
        elinewidth=0.9,
        marker="o",
        markersize=4,
        linewidth=0.9,
    )
    unit = name_unit(check.unit)
    ax.set_title(
        name_value(check.control.key) + (f" ({unit})" if unit else ""),
        loc="left",
        fontsize=9,
    )
    ax.set_xlim(0.5, max(len(numbers), 10) + 0.5)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
