"""The tables of an evaluation, made from its saved JSON alone.

The paper's Table I (methods by offset and source) and Table III (two methods by signed
offset, mean and SD), and ours: three means, harm, gain by defocus bin, the grid over
offset and half-spacing, the conditions, and quality beside cost. A table is text cells;
it is written as Markdown, aligned text or HTML.
"""

import html
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bifocus.model.metrics import grid_means, identity_mask

# Edges in um of |n| and of n around the half-micrometre cells of the paper's tables.
OFFSET_EDGES_UM = (0.0, 0.25, 0.75, 1.25, 1.75, 2.25, 9.0)
SIGNED_CENTRES_UM = (-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)
# Cells of fewer pairs are marked, network.md section 6.
LEAST_PAIRS = 10
_THIN = "*"
NOTHING = "–"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A title, a header, rows of text of its length, and a note."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def to_markdown(self) -> str:
        """Return a pipe table under a heading."""
        lines = [f"### {self.title}", ""]
        cells = [[cell.replace("|", "\\|") for cell in row] for row in self._all()]
        lines.append("| " + " | ".join(cells[0]) + " |")
        lines.append("| :-- |" + " --: |" * (len(self.header) - 1))
        lines += ["| " + " | ".join(row) + " |" for row in cells[1:]]
        return "\n".join([*lines, *(["", self.note] if self.note else [])]) + "\n"

    def to_text(self) -> str:
        """Return aligned columns for a terminal."""
        widths = [max(len(row[i]) for row in self._all()) for i in range(self._width)]
        lines = [self.title]
        for row in self._all():
            first = row[0].ljust(widths[0])
            rest = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)][
                1:
            ]
            lines.append("  ".join([first, *rest]).rstrip())
        return "\n".join([*lines, *([self.note] if self.note else [])]) + "\n"

    def to_html(self) -> str:
        """Return a heading and a table; all text is escaped."""
        head, *body = [
            "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row)
            for row, tag in zip(
                self._all(), ["th"] + ["td"] * len(self.rows), strict=True
            )
        ]
        rows = "\n".join(f"<tr>{row}</tr>" for row in body)
        note = f"<p>{html.escape(self.note)}</p>" if self.note else ""
        title = html.escape(self.title)
        return f"<h2>{title}</h2>\n<table>\n<tr>{head}</tr>\n{rows}\n</table>\n{note}\n"

    def _all(self) -> list[tuple[str, ...]]:
        return [self.header, *self.rows]

    @property
    def _width(self) -> int:
        return len(self.header)


def make_tables(document: Mapping[str, Any]) -> list[Table]:
    """Return all tables that a saved evaluation supports, in the order of the page."""
    tables: list[Table] = []
    for source in document["sources"]:
        tables.append(summary_table(document, source))
    for source in document["sources"]:
        tables.append(table_one(document, source))
        tables.append(bin_table(document, source))
        tables.append(table_three(document, source))
    for grid in document.get("grid", ()):
        tables.append(grid_table(grid))
    if document.get("cells"):
        tables.append(cell_table(document["cells"]))
    if document.get("costs"):
        tables.append(cost_table(document))
    if document.get("conditions"):
        tables.append(condition_table(document["conditions"]))
    return tables


def summary_table(document: Mapping[str, Any], source: str) -> Table:
    """Return the means, the gain with its interval, p10, harm, SSIM and more."""
    rows = []
    for name, model in document["models"].items():
        row = model["by_source"][source]
        interval = row["interval"]
        between = (
            f" [{interval[0]:+.2f}, {interval[1]:+.2f}]" if interval is not None else ""
        )
        rows.append(
            (
                name,
                *(number(row[key]) for key in ("all", "non_identity", "identity")),
                f"{row['gain_db']:+.2f}{between}",
                number(row["p10"]),
                f"{100 * row['harm_rate']:.0f} %",
                number(row["ssim"], 4),
                number(row["reblur_ratio"]),
                number(row["offset_mae_um"]),
            )
        )
    counts = document["models"][rows[0][0]]["by_source"][source]["counts"]
    return Table(
        title=f"Quality: {source}",
        header=(
            "method",
            *("all, dB", "no identity", "identity"),
            *("gain [95 %]", "p10, dB", "harm", "SSIM", "re-blur", "n error, um"),
        ),
        rows=tuple(rows),
        note=(
            f"{counts['all']} pairs of {counts['slides']} slides, "
            f"{counts['identity']} of them identity cells (one shot is the in-focus "
            "plane within 0.1 um). Gain is over the sharper shot, its interval a "
            "bootstrap by slide; harm is the share of tiles more than 0.1 dB below it; "
            "re-blur is the median residual in units of the noise."
        ),
    )


def table_one(document: Mapping[str, Any], source: str) -> Table:
    """Return the paper's Table I: mean PSNR of each method by |n|."""
    pairs = _pairs_of(document, source)
    offset = np.abs([pair["offset_um"] for _, pair in pairs])
    index = np.array([number for number, _ in pairs])
    header, rows = ["method"], []
    inside = []
    for low, high in itertools.pairwise(OFFSET_EDGES_UM):
        inside.append((offset >= low) & (offset < high))
        name = f"{low:g}-{high:g}" if high < OFFSET_EDGES_UM[-1] else f"> {low:g}"
        header.append(f"{name} um ({int(inside[-1].sum())})")
    for name, model in document["models"].items():
        psnr = np.array(model["psnr_db"])[index]
        rows.append((name, *(_mean_cell(psnr[mask]) for mask in inside)))
    return Table(
        title=f"Table I, PSNR in dB by |n|: {source}",
        header=tuple(header),
        rows=tuple(rows),
        note=_thin_note(),
    )


def table_three(
    document: Mapping[str, Any], source: str, names: tuple[str, str] | None = None
) -> Table:
    """Return the paper's Table III: two methods by signed n, mean and SD."""
    first, second = names or _table_three_names(document)
    pairs = _pairs_of(document, source)
    offset = np.array([pair["offset_um"] for _, pair in pairs])
    index = np.array([number for number, _ in pairs])
    rows = []
    for centre in SIGNED_CENTRES_UM:
        mask = np.abs(offset - centre) <= 0.25
        cells = []
        for name in (first, second):
            psnr = np.array(document["models"][name]["psnr_db"])[index][mask]
            sd = f"{psnr.std(ddof=1):.2f}" if psnr.size > 1 else NOTHING
            cells += [_mean_cell(psnr), sd]
        rows.append((f"{centre:+.1f}", str(int(mask.sum())), *cells))
    return Table(
        title=f"Table III, PSNR in dB by signed n: {source}",
        header=("n, um", "pairs", first, "SD", second, "SD"),
        rows=tuple(rows),
        note=_thin_note(),
    )


def bin_table(document: Mapping[str, Any], source: str) -> Table:
    """Return the mean gain over the sharper shot by |defocus| of the nearer shot."""
    rows, header = [], ["method"]
    for name, model in document["models"].items():
        bins = model["by_source"][source]["gain_by_bin"]
        if len(header) == 1:
            header += [_bin_name(part) for part in bins]
        rows.append((name, *(_gain_cell(part) for part in bins)))
    return Table(
        title=f"Gain in dB by defocus of the nearer shot: {source}",
        header=tuple(header),
        rows=tuple(rows),
        note=_thin_note(),
    )


def grid_table(grid: Mapping[str, Any]) -> Table:
    """Return one method's grid over n and half-spacing, with its three means."""
    offsets = sorted({cell["offset_um"] for cell in grid["cells"]})
    spacings = sorted({cell["half_spacing_um"] for cell in grid["cells"]})
    rows = []
    for spacing in spacings:
        cells = {
            cell["offset_um"]: cell["psnr_db"]
            for cell in grid["cells"]
            if cell["half_spacing_um"] == spacing
        }
        means = grid_means(cells, spacing)
        texts = []
        for offset in offsets:
            is_identity = bool(
                identity_mask(np.array([offset]), np.array([spacing]))[0]
            )
            texts.append(number(cells.get(offset)) + ("=" if is_identity else ""))
        rows.append((f"{spacing:g}", *texts, *(number(means[key]) for key in means)))
    return Table(
        title=f"Grid, PSNR in dB of {grid['model']}: {grid['source']}",
        header=(
            "half-spacing, um",
            *(f"n {offset:+.1f}" for offset in offsets),
            *("N(0,1) all", "no identity", "identity"),
        ),
        rows=tuple(rows),
        note=f"{grid['pairs_per_cell']} pairs per cell; = marks identity cells.",
    )


def cell_table(cells: Sequence[Mapping[str, Any]]) -> Table:
    """Return the paper's Table II: cells counted in fused and in true pictures."""
    return Table(
        title="Table II, cell counting",
        header=("method", "pictures", "cells in truth", "mean |error|", "bias"),
        rows=tuple(
            (
                row["model"],
                str(row["pictures"]),
                number(row["true_count"], 1),
                number(row["mean_abs_error"]),
                f"{row['bias']:+.2f}",
            )
            for row in cells
        ),
        note="Mean per picture, against the count in the true picture.",
    )


def cost_table(document: Mapping[str, Any]) -> Table:
    """Return quality beside cost: the table of `bifocus compare`."""
    rows = []
    for name, cost in document["costs"].items():
        model = document["models"].get(name)
        gains = [NOTHING] * len(document["sources"])
        if model is not None:
            gains = [
                f"{model['by_source'][source]['gain_db']:+.2f}"
                for source in document["sources"]
            ]
        harm = NOTHING if model is None else f"{100 * model['harm_rate']:.0f} %"
        params = cost.get("params")
        rows.append(
            (
                name,
                *gains,
                harm,
                NOTHING if params is None else f"{params / 1e6:.3f}",
                number(cost.get("gmac"), 1),
                number(cost.get("cpu_s")),
                number(cost.get("peak_mb"), 0),
                number(cost.get("ratio_to_tsva"), 3),
            )
        )
    size = document.get("cost_size", "a tile")
    return Table(
        title="Quality beside cost",
        header=(
            "method",
            *(f"gain {source}, dB" for source in document["sources"]),
            *("harm", "params, M", "GMAC", "CPU, s", "memory, MB", "MACs / tsva"),
        ),
        rows=tuple(rows),
        note=f"Cost of {size}; memory is what it takes beyond the idle program.",
    )


def condition_table(conditions: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return the optics that formed the pictures of each condition."""
    names = list(conditions)
    keys = list(dict.fromkeys(key for name in names for key in conditions[name]))
    return Table(
        title="Evaluation optics",
        header=("quantity", *names),
        rows=tuple(
            (key, *(_plain(conditions[name].get(key)) for name in names))
            for key in keys
        ),
        note="Training draws its optics elsewhere: see bifocus/model/pair_spec.py.",
    )


def number(value: object, digits: int = 2) -> str:
    """Return a number with fixed digits, or a dash."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return NOTHING
    return f"{value:.{digits}f}"


def _table_three_names(document: Mapping[str, Any]) -> tuple[str, str]:
    models = list(document["models"])
    first = "unet" if "unet" in models else models[0]
    for name in ("tsva", "base", "physics"):
        if name in models:
            return first, name
    return first, models[-1]


def _pairs_of(
    document: Mapping[str, Any], source: str
) -> list[tuple[int, Mapping[str, Any]]]:
    return [
        (index, pair)
        for index, pair in enumerate(document["pairs"])
        if pair["source"] == source
    ]


def _mean_cell(values: "np.ndarray[Any, np.dtype[np.float64]]") -> str:
    if values.size == 0:
        return NOTHING
    return f"{values.mean():.2f}" + (_THIN if values.size < LEAST_PAIRS else "")


def _gain_cell(part: Mapping[str, Any]) -> str:
    if part["gain_db"] is None:
        return NOTHING
    return f"{part['gain_db']:+.2f}" + (_THIN if part["count"] < LEAST_PAIRS else "")


def _bin_name(part: Mapping[str, Any]) -> str:
    upper = part["to_um"]
    span = (
        f"> {part['from_um']:g}" if upper is None else f"{part['from_um']:g}-{upper:g}"
    )
    return f"{span} um ({part['count']})"


def _thin_note() -> str:
    return f"In brackets the number of pairs; {_THIN} fewer than {LEAST_PAIRS} pairs."


def _plain(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_plain(part) for part in value)
    return NOTHING if value is None else str(value)
