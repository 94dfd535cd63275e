"""Tables from a document made by hand: cells, marks, three spellings."""

from typing import Any

import pytest

from bifocus.model.paper_tables import table_one, table_three
from bifocus.model.result_tables import (
    cost_table,
    grid_table,
    make_tables,
    summary_table,
)
from bifocus.model.text_table import Table

OFFSETS_UM = [0.0, 0.1, -0.5, 0.5, 1.0]


def summary(level_db: float) -> dict[str, Any]:
    return {
        "all": level_db,
        "non_identity": level_db - 1,
        "identity": None,
        "gain_db": level_db - 40,
        "interval": (0.5, 1.5) if level_db > 40 else None,
        "p10": 33.0,
        "harm_rate": 0.25,
        "gain_by_bin": [
            {"from_um": 0.0, "to_um": 0.5, "count": 12, "gain_db": 1.0},
            {"from_um": 0.5, "to_um": None, "count": 0, "gain_db": None},
        ],
        "ssim": 0.97,
        "reblur_ratio": 1.2,
        "offset_mae_um": None,
        "counts": {"all": 5, "non_identity": 5, "identity": 0, "slides": 2},
    }


def document() -> dict[str, Any]:
    models = {}
    for name, level_db in (("sharper shot", 40.0), ("unet", 41.0), ("tsva", 42.0)):
        models[name] = {
            **summary(level_db),
            "by_source": {"light": summary(level_db)},
            "psnr_db": [level_db + step for step in range(5)],
        }
    return {
        "sources": ["light"],
        "models": models,
        "pairs": [{"source": "light", "offset_um": n} for n in OFFSETS_UM],
    }


def test_table_one_averages_by_absolute_offset() -> None:
    table = table_one(document(), "light")
    assert table.header[:3] == ("method", "0-0.25 um (2)", "0.25-0.75 um (2)")
    # 40 and 41 at |n| < 0.25, 42 and 43 at -+0.5, 44 at 1; all thin.
    assert table.rows[0][1:4] == ("40.50*", "42.50*", "44.00*")
    assert table.rows[0][4] == "–"


def test_table_three_sets_unet_against_tsva_by_signed_offset() -> None:
    table = table_three(document(), "light")
    assert table.header == ("n, um", "pairs", "unet", "SD", "tsva", "SD")
    by_offset = {row[0]: row[1:] for row in table.rows}
    assert by_offset["+0.0"] == ("2", "41.50*", "0.71", "42.50*", "0.71")
    assert by_offset["-0.5"] == ("1", "43.00*", "–", "44.00*", "–")


def test_summary_shows_interval_and_absent_means() -> None:
    table = summary_table(document(), "light")
    rows = {row[0]: row for row in table.rows}
    assert rows["unet"][3] == "–"
    assert rows["unet"][4] == "+1.00 [+0.50, +1.50]"
    assert rows["sharper shot"][4] == "+0.00"
    assert rows["unet"][6] == "25 %"


def test_grid_marks_identity_cells_and_weighs_by_a_normal() -> None:
    cells = [
        {
            "offset_um": n,
            "half_spacing_um": 0.5,
            "psnr_db": 48.0 if abs(n) == 0.5 else 39.0,
        }
        for n in (-1.0, -0.5, 0.0, 0.5, 1.0)
    ]
    grid = {"model": "m", "source": "light", "pairs_per_cell": 3, "cells": cells}
    (row,) = grid_table(grid).rows
    assert row[1:6] == ("39.00", "48.00=", "39.00", "48.00=", "39.00")
    assert row[-2:] == ("39.00", "48.00")


def test_costs_stand_beside_quality() -> None:
    with_costs = document()
    with_costs["costs"] = {
        "tsva": {"params": 38_884_000, "gmac": 1508.8, "cpu_s": 29.9, "peak_mb": None}
    }
    (row,) = cost_table(with_costs).rows
    assert row == ("tsva", "+2.00", "25 %", "38.884", "1508.8", "29.90", "–", "–")


def test_all_tables_of_a_document() -> None:
    titles = [table.title for table in make_tables(document())]
    assert len(titles) == 4
    assert titles[0] == "Quality: light"


@pytest.fixture
def table() -> Table:
    return Table(title="A & B", header=("m", "x"), rows=(("a|b", "1"), ("<c>", "22")))


def test_markdown_escapes_its_bars(table: Table) -> None:
    assert "| a\\|b | 1 |" in table.to_markdown()


def test_html_escapes_what_it_is_given(table: Table) -> None:
    page = table.to_html()
    assert "A &amp; B" in page
    assert "<td>&lt;c&gt;</td>" in page


def test_text_is_aligned(table: Table) -> None:
    assert table.to_text().splitlines()[1:] == ["m     x", "a|b   1", "<c>  22"]
