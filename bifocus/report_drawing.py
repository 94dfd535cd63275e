"""What the figures of all reports share; no pyplot, so no global state.

Colours are those of Okabe and Ito (2008), told apart with any colour vision.
"""

import io

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
GREY, INK = "#8a8a8a", "#333333"
RASTER_DPI = 150


def make_figure(
    *, n_panels: int, height_in: float, width_in: float = 9.4, n_across: int = 1
) -> tuple[Figure, list[Axes]]:
    """Return an empty figure and its panels, row by row."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(n_panels // n_across, n_across, squeeze=False)
    axes: list[Axes] = list(grid.flat)
    for ax in axes:
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
        ax.title.set_fontsize(10)
    return figure, axes


def put_legend_above(ax: Axes, *, n_columns: int = 3) -> None:
    """Put the legend where it hides nothing."""
    ax.legend(
        frameon=False,
        fontsize=8,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncol=n_columns,
    )


def to_svg(figure: Figure) -> str:
    """Return the figure as SVG text, the same for the same figure."""
    text = io.StringIO()
    # matplotlib would add its own name, the time of drawing, and random names inside.
    with matplotlib.rc_context({"svg.hashsalt": "bifocus"}):
        figure.savefig(
            text, format="svg", dpi=RASTER_DPI, metadata={"Date": None, "Creator": None}
        )
    return text.getvalue()
