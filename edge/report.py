"""The report of a scan: one self-contained `report.html`, and `report.json` beside it.

The page needs nothing from outside: the pictures are inside it, there are no scripts,
and it prints. What came from files or users is escaped by the template engine.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bifocus.edge import report_figures
from bifocus.edge.report_records import ReportContents, TileRow
from bifocus.report_page import data_uri, make_environment
from bifocus.whole_file import write_whole

# Up to this many tiles the table lies open; past it, it is folded on the screen.
OPEN_TABLE_TILES = 40


def write_report(
    scan: Path, report: Mapping[str, Any], contents: ReportContents
) -> Path:
    """Write `report.html` into a scan folder, whole or not at all.

    Parameters
    ----------
    scan
        An existing scan folder.
    report
        The contents of `report.json`; keys that are absent are shown as a dash.
    contents
        What else the page shows.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    SlideFileError
        If the page cannot be written; an older page is left as it was.
    """
    path = scan / "report.html"
    write_whole(path, render_report(report, contents))
    return path


def render_report(report: Mapping[str, Any], contents: ReportContents) -> str:
    """Return the page as text; see `write_report`."""
    tiles = contents.tiles
    return (
        make_environment("bifocus.edge")
        .get_template("report.html.j2")
        .render(
            title=contents.title,
            report={**dict.fromkeys(_REPORT_KEYS), **report},
            truth=report.get("truth"),
            faults=[_one_line(fault) for fault in report.get("faults") or ()],
            waits=_named_waits(report.get("waits_s")),
            comparison=[asdict(row) for row in contents.comparison],
            surface=contents.surface,
            statuses=Counter(tile.status for tile in tiles).most_common(),
            tiles=tiles,
            is_table_open=len(tiles) <= OPEN_TABLE_TILES,
            mosaic=data_uri("image/jpeg", contents.thumbnail_jpeg),
            figures=_draw_figures(contents),
        )
    )


def write_json_atomic(path: Path, mapping: Mapping[str, Any]) -> None:
    """Write a mapping as JSON, whole or not at all.

    Numpy numbers and arrays become plain ones. NaN and infinity become null, since JSON
    has neither.

    Raises
    ------
    SlideFileError
        If the file cannot be written; an older one is left as it was.
    """
    plain = _plain(mapping)
    text = json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False)
    write_whole(path, text + "\n")


_REPORT_KEYS = (
    *("tiles", "captured", "fused", "blank", "flagged", "elapsed_s"),
    *("capture_s_per_tile", "fuse_s_per_tile", "strategy", "model", "engine"),
    "simulated",
)


def _draw_figures(contents: ReportContents) -> dict[str, str]:
    """Return each figure that the tiles support, as a data URI by its name."""
    tiles: Sequence[TileRow] = contents.tiles
    drawn: dict[str, str] = {}
    if any(tile.offset_um is not None for tile in tiles):
        drawn["offsets"] = report_figures.draw_offset_maps(tiles, contents.surface)
        drawn["track"] = report_figures.draw_focus_track(tiles)
    if any(tile.sharpness_after is not None for tile in tiles):
        drawn["sharpness"] = report_figures.draw_sharpness(tiles)
    if any(tile.capture_s is not None or tile.fuse_s is not None for tile in tiles):
        drawn["timings"] = report_figures.draw_timings(tiles)
    return {
        name: data_uri("image/svg+xml", svg.encode()) for name, svg in drawn.items()
    }


def _named_waits(waits: object) -> list[tuple[str, object]]:
    if isinstance(waits, Mapping):
        return [(str(name), seconds) for name, seconds in waits.items()]
    return [] if waits is None else [("all", waits)]


def _one_line(fault: object) -> str:
    if isinstance(fault, Mapping):
        return ", ".join(f"{key} {value}" for key, value in fault.items())
    return str(fault)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
