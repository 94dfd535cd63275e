"""The paper's Tables I and III (arXiv 2003.06630) from a saved evaluation."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from bifocus.model.text_table import NOTHING, Table

# Edges in um of |n| and of n around the half-micrometre cells of the paper's tables.
OFFSET_EDGES_UM = (0.0, 0.25, 0.75, 1.25, 1.75, 2.25, 9.0)
SIGNED_CENTRES_UM = (-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)
# Cells of fewer pairs are marked, network.md section 6.
LEAST_PAIRS = 10
THIN = "*"
THIN_NOTE = f"In brackets the number of pairs; {THIN} fewer than {LEAST_PAIRS} pairs."


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
        note=THIN_NOTE,
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
        note=THIN_NOTE,
    )


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
    return f"{values.mean():.2f}" + (THIN if values.size < LEAST_PAIRS else "")
