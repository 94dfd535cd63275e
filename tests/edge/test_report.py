"""The scan report: complete, honest about simulation, and without outside resources."""

import base64
import dataclasses
import html.parser
import io
import json
import math
import os
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from bifocus.edge import report_figures
from bifocus.edge.report import render_report, write_json_atomic, write_report
from bifocus.edge.report_records import (
    FocusSurface,
    ReportContents,
    StrategyRow,
    TileRow,
)
from bifocus.errors import SlideFileError

SURFACE = FocusSurface(z0_um=12.0, slope_x_mrad=2.0, slope_y_mrad=-1.5)


def invented_tiles(n_rows: int = 5, n_columns: int = 7) -> tuple[TileRow, ...]:
    """Return a serpentine scan of a tilted, slightly wavy slide."""
    rng = np.random.default_rng(7)
    tiles = []
    for row in range(n_rows):
        columns = range(n_columns) if row % 2 == 0 else reversed(range(n_columns))
        for column in columns:
            x_um, y_um = 140.0 * column, 105.0 * row
            plane_um = SURFACE.compute_height_um(x_um, y_um)
            is_blank = (row, column) in {(0, 0), (4, 6)}
            is_flagged = (row, column) == (2, 3)
            offset_um = 0.4 * math.sin(x_um / 130) + rng.normal(0, 0.1)
            before = rng.uniform(0.2, 0.6)
            tiles.append(
                TileRow(
                    row=row,
                    column=column,
                    x_um=x_um,
                    y_um=y_um,
                    planned_focus_um=plane_um,
                    status="blank"
                    if is_blank
                    else "flagged"
                    if is_flagged
                    else "fused",
                    offset_um=None if is_blank else offset_um + 1.4 * is_flagged,
                    sd_um=None if is_blank else 0.08 + 0.5 * is_flagged,
                    quality=None if is_blank else 0.93 - 0.5 * is_flagged,
                    capture_s=0.62 + rng.normal(0, 0.02),
                    fuse_s=None if is_blank else 0.31 + rng.normal(0, 0.03),
                    sharpness_before=None if is_blank else before,
                    sharpness_after=None if is_blank else before * rng.uniform(1, 1.5),
                )
            )
    return tuple(tiles)


def a_jpeg() -> bytes:
    content = io.BytesIO()
    ramp = np.linspace(180, 250, 64, dtype=np.uint8)
    pixels = np.stack([np.tile(ramp, (32, 1))] * 3, axis=-1)
    pixels[..., 1] -= 60
    Image.fromarray(pixels).save(content, "JPEG")
    return content.getvalue()


REPORT: dict[str, Any] = {
    "tiles": 35,
    "captured": 35,
    "fused": 33,
    "blank": 2,
    "flagged": 1,
    "elapsed_s": 754.0,
    "capture_s_per_tile": 0.62,
    "fuse_s_per_tile": 0.31,
    "waits_s": {"capture for fusion": 0.0, "fusion for capture": 4.25},
    "strategy": "two-shot",
    "model": "physics",
    "engine": "numpy",
    "simulated": True,
    "faults": [{"tile": "r002_c003", "what": "cable pulled", "mended": True}],
    "truth": {
        "psnr_db": 39.04,
        "sharper_psnr_db": 36.51,
        "offset_error_um": {"mean": 0.104, "p95": 0.31},
        "stitch_error_px": {"mean": 0.12, "max": 0.47},
        "harm_rate": 0.03,
    },
}
CONTENTS = ReportContents(
    title="Bench 3, kidney, 22 November",
    tiles=invented_tiles(),
    thumbnail_jpeg=a_jpeg(),
    surface=SURFACE,
    comparison=(
        StrategyRow(
            strategy="two-shot",
            shots=70,
            seconds=754.0,
            seconds_per_tile=0.93,
            psnr_db=39.04,
            sharper_psnr_db=36.51,
            harm_rate=0.03,
        ),
        StrategyRow(strategy="stack", shots=735, seconds=6100.0, seconds_per_tile=8.1),
    ),
)


class _Page(html.parser.HTMLParser):
    """Collects what the tests look at: tags, attributes, text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def images(self) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == "img"]


PAGE = render_report(REPORT, CONTENTS)


def test_the_page_stands_alone() -> None:
    page = _Page(PAGE)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe"})
    for tag, attributes in page.tags:
        for key in ("src", "href"):
            if key in attributes:
                assert (attributes[key] or "").startswith("data:"), tag
    assert not re.search(r"url\(|@import", PAGE)


def test_every_picture_is_whole_and_described() -> None:
    images = _Page(PAGE).images
    assert len(images) == 5
    for image in images:
        assert image["alt"]
        kind, content = (image["src"] or "").split(";base64,")
        raw = base64.b64decode(content, validate=True)
        if kind == "data:image/svg+xml":
            assert ElementTree.fromstring(raw).tag.endswith("svg")
        else:
            assert Image.open(io.BytesIO(raw)).size == (64, 32)


def test_the_figures_of_the_scan_are_on_the_page() -> None:
    words = " ".join("".join(_Page(PAGE).words).split())
    for text in (
        "33 of 35",
        "12 min 34 s",
        "39.0 dB",
        "3.0 %",
        "0.104",
        "0.47",
        "2.00 mrad along x",
        "fusion for capture 4.25 s",
        "tile r002_c003, what cable pulled",
        "Look at r002_c003.",
        "32 fused, 2 blank, 1 flagged",
        "1 h 41 min",
    ):
        assert text in words


@pytest.mark.parametrize("simulated", [True, False])
def test_only_a_simulated_scan_says_so(simulated: bool) -> None:
    page = render_report({**REPORT, "simulated": simulated}, CONTENTS)
    assert ("SIMULATED" in page) is simulated


def test_names_from_outside_cannot_become_markup() -> None:
    evil = '<script>alert("1")</script>'
    tile = dataclasses.replace(CONTENTS.tiles[1], status=evil)
    page = render_report(
        {**REPORT, "model": evil, "faults": [evil]},
        dataclasses.replace(CONTENTS, title=evil, tiles=(tile,)),
    )
    assert "<script" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize(
    "report", [{}, {"truth": {}}, {"waits_s": 1.5, "truth": {"psnr_db": math.nan}}]
)
def test_a_scan_with_nothing_measured_still_has_a_page(report: dict[str, Any]) -> None:
    page = render_report(report, ReportContents(title="empty", tiles=()))
    assert "– of –" in page
    assert "nan" not in page
    assert _Page(page).images == []


def test_tiles_that_are_all_blank_need_no_figures() -> None:
    blank = tuple(
        TileRow(row=0, column=i, x_um=0, y_um=0, planned_focus_um=0.0, status="blank")
        for i in range(3)
    )
    page = render_report(REPORT, ReportContents(title="glass", tiles=blank))
    assert _Page(page).images == []
    assert "3 blank" in page


def test_one_tile_is_enough_for_every_figure() -> None:
    page = render_report(
        REPORT, dataclasses.replace(CONTENTS, tiles=CONTENTS.tiles[1:2])
    )
    assert len(_Page(page).images) == 5


@pytest.mark.slow
def test_a_large_scan_keeps_its_figures_small() -> None:
    tiles = invented_tiles(40, 50)
    assert len(tiles) > report_figures.VECTOR_TILES
    assert len(report_figures.draw_focus_track(tiles)) < 1_000_000
    assert len(report_figures.draw_offset_maps(tiles, SURFACE)) < 1_000_000


def test_best_focus_is_planned_focus_plus_offset() -> None:
    tile = dataclasses.replace(
        CONTENTS.tiles[1], planned_focus_um=10.0, offset_um=-0.25
    )
    assert tile.best_focus_um == 9.75
    assert dataclasses.replace(tile, offset_um=None).best_focus_um is None


def test_the_page_is_written_into_the_scan_and_replaced(tmp_path: Path) -> None:
    for title in ("first", "second"):
        path = write_report(
            tmp_path, REPORT, dataclasses.replace(CONTENTS, title=title)
        )
    assert path == tmp_path / "report.html"
    assert "<h1>second</h1>" in path.read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == [path]


def test_json_is_plain_and_strict(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_json_atomic(
        path,
        {
            "psnr_db": np.float64(39.5),
            "fused": np.int64(3),
            "simulated": np.bool_(True),
            "gain": math.nan,
            "offsets_um": np.array([0.5, np.inf]),
            "scan": tmp_path,
            "name": "Gewebe µm",
        },
    )
    text = path.read_text(encoding="utf-8")
    assert "µm" in text
    assert text.endswith("}\n")
    assert json.loads(text) == {
        "psnr_db": 39.5,
        "fused": 3,
        "simulated": True,
        "gain": None,
        "offsets_um": [0.5, None],
        "scan": str(tmp_path),
        "name": "Gewebe µm",
    }


def test_a_failed_write_keeps_the_older_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.json"
    write_json_atomic(path, {"fused": 1})

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(SlideFileError, match=r"report\.json.*No space left"):
        write_json_atomic(path, {"fused": 2})
    assert json.loads(path.read_text(encoding="utf-8")) == {"fused": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SlideFileError, match="absent"):
        write_json_atomic(tmp_path / "absent" / "report.json", {})
