"""Draws any plot of a calibration step as SVG, alike for all steps."""

import itertools

import numpy as np
from matplotlib.axes import Axes

from bifocus.calib.requirements import COVERAGE_FACTOR
from bifocus.calib.step_result import Plot, Series
from bifocus.report_drawing import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    RED,
    make_figure,
    put_legend_above,
    to_svg,
)

_COLOURS = (BLUE, ORANGE, GREEN, RED, INK)
_MARKS = ("o", "s", "^", "D", "v")
_DASHES = ("-", "--", "-.", ":")
# Past this many points the marks are drawn as pixels, so that the page stays small.
_VECTOR_POINTS = 1500
# So many letters fit into a line above the plot.
_LEGEND_LETTERS = 66


def draw_plot(plot: Plot) -> str:
    """Return one plot as SVG text, as wide as half a page."""
    figure, (ax,) = make_figure(n_panels=1, height_in=3.2, width_in=4.9)
    for number, series in enumerate(plot.series):
        _draw_series(ax, series, number)
    _draw_marks(ax, plot)
    ax.set_xlabel(plot.x_label, fontsize=9)
    ax.set_ylabel(plot.y_label, fontsize=9)
    ax.margins(x=0.04)
    longest = max((len(series.name) for series in plot.series), default=0)
    if plot.series:
        put_legend_above(ax, n_columns=max(1, min(3, _LEGEND_LETTERS // (longest + 8))))
    return to_svg(figure)


def describe_plot(plot: Plot) -> str:
    """Return the plot in words, for those who cannot see it.

    Examples
    --------
    >>> line = Series(name="stack 1", x=(0.0, 1.0), y=(2.0, 3.0))
    >>> describe_plot(Plot(title="Focus", x_label="z, µm", y_label="sharpness",
    ...                    series=(line,), marks=(("best", 0.5),)))
    'Focus: sharpness against z, µm; stack 1; marked: best at 0.5.'
    """
    parts = [f"{plot.title}: {plot.y_label} against {plot.x_label}"]
    parts += [series.name for series in plot.series[:6]]
    if len(plot.series) > 6:
        parts.append(f"and {len(plot.series) - 6} more")
    if plot.marks:
        marks = ", ".join(f"{text} at {x:.4g}" for text, x in plot.marks)
        parts.append(f"marked: {marks}")
    return "; ".join(parts) + "."


def _draw_series(ax: Axes, series: Series, number: int) -> None:
    colour = _COLOURS[number % len(_COLOURS)]
    is_line = series.style == "line"
    u = series.u
    ax.errorbar(
        series.x,
        series.y,
        yerr=None if u is None else COVERAGE_FACTOR * np.asarray(u, dtype=np.float64),
        linestyle=_DASHES[number // len(_COLOURS) % len(_DASHES)] if is_line else "",
        linewidth=1.2,
        marker="" if is_line else _MARKS[number % len(_MARKS)],
        markersize=4.0 if len(series.x) < 200 else 2.0,
        elinewidth=0.9,
        capsize=0 if u is None else 2,
        color=colour,
        label=f"{series.name} (bars: U, k = 2)" if u is not None else series.name,
        rasterized=len(series.x) > _VECTOR_POINTS,
    )


def _draw_marks(ax: Axes, plot: Plot) -> None:
    """Draw vertical lines; neighbours are written at different heights."""
    heights = itertools.cycle((0.03, 0.13, 0.23))
    for (text, x), height in zip(
        sorted(plot.marks, key=lambda mark: mark[1]), heights, strict=False
    ):
        ax.axvline(x, color=INK, linewidth=0.9, linestyle=":")
        ax.annotate(
            text,
            (x, height),
            xycoords=("data", "axes fraction"),
            xytext=(3, 0),
            textcoords="offset points",
            fontsize=8,
            va="bottom",
            color=INK,
            bbox={"boxstyle": "square,pad=0.1", "fc": "white", "ec": "none"},
        )
