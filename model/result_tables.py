"""The tables of an evaluation, made from its saved JSON alone.

The paper's (`bifocus.model.paper_tables`), and ours: three means, harm, gain by defocus
bin, the grid over offset and half-spacing, cells counted, the conditions, and quality
beside cost.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bifocus.model.metrics import grid_means, identity_mask
from bifocus.model.paper_tables import (
    LEAST_PAIRS,
    THIN,
    THIN_NOTE,
    table_one,
    table_three,
)
from bifocus.model.text_table import NOTHING, Table, number


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
        note=THIN_NOTE,
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


def _gain_cell(part: Mapping[str, Any]) -> str:
    if part["gain_db"] is None:
        return NOTHING
    return f"{part['gain_db']:+.2f}" + (THIN if part["count"] < LEAST_PAIRS else "")


def _bin_name(part: Mapping[str, Any]) -> str:
    upper = part["to_um"]
    span = (
        f"> {part['from_um']:g}" if upper is None else f"{part['from_um']:g}-{upper:g}"
    )
    return f"{span} um ({part['count']})"


def _plain(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_plain(part) for part in value)
    return NOTHING if value is None else str(value)
