"""The figures of an evaluation: histograms (Figs. 10-11), the grid, and error maps.

Each is an SVG or PNG as bytes; no pyplot, so no global state. Colours are those of
Okabe and Ito (2008), told apart with any colour vision.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bifocus.model.evaluate import REFERENCE, Example

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#333333")
# Errors of this many grey levels and more are drawn in the darkest colour.
ERROR_LEVELS = 24
_DPI = 80


def draw_histograms(document: Mapping[str, Any], names: Sequence[str]) -> bytes:
    """Draw each method's PSNR over the tiles, a panel per source, as SVG."""
    sources = document["sources"]
    figure, axes = _figure(len(sources), (4.0 * len(sources), 2.8))
    for ax, source in zip(axes, sources, strict=True):
        chosen = _chosen(document, source)
        every = [
            np.array(document["models"][name]["psnr_db"])[chosen] for name in names
        ]
        edges = np.linspace(min(map(np.min, every)), max(map(np.max, every)) + 0.1, 21)
        for values, name, colour in zip(every, names, COLOURS, strict=False):
            ax.hist(
                values, bins=edges.tolist(), histtype="step", color=colour, label=name
            )
        ax.set(title=source, xlabel="PSNR, dB", ylabel="tiles")
    axes[0].legend(fontsize=7, frameon=False)
    return _bytes(figure, "svg")


def draw_gains(document: Mapping[str, Any], names: Sequence[str]) -> bytes:
    """Draw each tile's gain over the sharper shot against n, as SVG."""
    sources = document["sources"]
    figure, axes = _figure(len(sources), (4.0 * len(sources), 2.8))
    for ax, source in zip(axes, sources, strict=True):
        chosen = _chosen(document, source)
        offset = np.array([pair["offset_um"] for pair in document["pairs"]])[chosen]
        reference = np.array(document["models"][REFERENCE]["psnr_db"])[chosen]
        for name, colour in zip(names, COLOURS, strict=False):
            psnr = np.array(document["models"][name]["psnr_db"])[chosen]
            ax.plot(offset, psnr - reference, ".", ms=4, color=colour, label=name)
        ax.axhline(0, color="#8a8a8a", linewidth=0.8)
        ax.set(title=source, xlabel="focal offset n, um", ylabel="gain, dB")
    axes[0].legend(fontsize=7, frameon=False)
    return _bytes(figure, "svg")


def draw_error_maps(example: Example, names: Sequence[str]) -> bytes:
    """Draw truth and results of one pair above their absolute errors, as PNG."""
    truth = example.pair.truth
    figure = Figure(figsize=(1.7 * (len(names) + 1), 3.7), layout="constrained")
    FigureCanvasAgg(figure)
    for column, name in enumerate(["truth", *names]):
        picture = truth if name == "truth" else example.pictures[name]
        top = figure.add_subplot(2, len(names) + 1, column + 1)
        top.imshow(picture)
        top.set_title(name, fontsize=7)
        top.set_axis_off()
        if name == "truth":
            continue
        below = figure.add_subplot(2, len(names) + 1, len(names) + 2 + column)
        error = np.abs(picture.astype(np.int16) - truth).mean(axis=2)
        below.imshow(error, cmap="magma_r", vmin=0, vmax=ERROR_LEVELS)
        below.set_title(f"mean error {error.mean():.2f}", fontsize=7)
        below.set_axis_off()
    return _bytes(figure, "png")


def _chosen(document: Mapping[str, Any], source: str) -> npt.NDArray[np.bool_]:
    return np.array([pair["source"] == source for pair in document["pairs"]])


def _figure(n_panels: int, size_in: tuple[float, float]) -> tuple[Figure, list[Any]]:
    figure = Figure(figsize=size_in, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [figure.add_subplot(1, n_panels, i + 1) for i in range(n_panels)]


def _bytes(figure: Figure, kind: str) -> bytes:
    stream = io.BytesIO()
    # No date and fixed ids: the same results give the same file.
    metadata = {"Date": None} if kind == "svg" else {}
    figure.savefig(stream, format=kind, dpi=_DPI, metadata=metadata)
    return stream.getvalue()
