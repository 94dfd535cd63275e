"""The whole job on the virtual instrument: calibrate, scan, fuse, stitch, compare.

Real tissue where it can be had, simulated optics and mechanics. Ends with a slide, its
report, and the paper's comparison of workflows on the same instrument.
"""

import logging
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from bifocus.edge.journal import TileLine
from bifocus.edge.live_page import Onlookers
from bifocus.edge.plan import Region
from bifocus.edge.report_records import StrategyRow
from bifocus.edge.scan import Progress, ScanResult
from bifocus.edge.scan_report import strategy_row, write_reports
from bifocus.edge.slide_reader import SlideReader
from bifocus.edge.strategies import STRATEGIES
from bifocus.edge.truth import read_window
from bifocus.errors import ConfigError, SlideFileError
from bifocus.instrument_text import TEMPLATE
from bifocus.jobs import (
    InstrumentFile,
    calibrate_instrument,
    copy_whole,
    scan_instrument,
)
from bifocus.records import InstrumentProfile, UInt8Image

logger = logging.getLogger(__name__)

# Tiles (across, down) on which the three strategies are compared: a stack takes 22
# shots a tile, so few are enough to see the cost.
_COMPARED = (3, 2)
_CROP_PX = 240

# Says that the folder is a demo's, and so may be replaced by the next one.
_MARK = ".bifocus-demo"
_MADE = ("scan", "compare", "instrument.yaml", "profile.yaml", "before-after.png")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """What the demo made."""

    scan: ScanResult
    report: dict[str, Any]
    comparison: tuple[StrategyRow, ...]
    picture: Path


def run_demo(
    out: Path,
    *,
    n_tiles: int | None,
    say: Say,
    progress: Progress | None = None,
    onlookers: Onlookers | None = None,
) -> DemoResult:
    """Run the demo into the folder `out`, replacing an earlier demo there.

    Parameters
    ----------
    n_tiles
        About how many tiles to scan; None for the whole tissue.
    say
        Called with one line for each step.
    onlookers
        Who may watch the slide as it grows, until the demo ends.

    Raises
    ------
    BifocusError
        As calibration and scan do.
    """
    with ExitStack() as until:
        watching = replace(onlookers or Onlookers(), until=until)
        return _run(out, n_tiles, say, progress, watching)


def _run(
    out: Path,
    n_tiles: int | None,
    say: Say,
    progress: Progress | None,
    onlookers: Onlookers,
) -> DemoResult:
    _prepare(out)
    path = out / "instrument.yaml"
    copy_whole(TEMPLATE, path)
    instrument = InstrumentFile.load(path)
    whole_um = instrument.region_um(None)
    region_um = whole_um if n_tiles is None else _shrunk(instrument, whole_um, n_tiles)
    say("calibrating on the first tile with tissue")
    profile = calibrate_instrument(instrument, whole_um, out, is_brief=True).profile
    tiles = len(instrument.plan(region_um, profile.focus_um.value).visits)
    say(f"scanning {tiles} tiles with two shots each")
    result = scan_instrument(
        instrument,
        out / "scan",
        region_um=region_um,
        profile=profile,
        onlookers=onlookers,
        progress=progress,
    )
    comparison = _compare(instrument, profile, region_um, out, say)
    report = write_reports(result, comparison)
    picture = draw_before_after(result, out / "before-after.png")
    return DemoResult(
        scan=result, report=report, comparison=comparison, picture=picture
    )


def draw_before_after(result: ScanResult, path: Path) -> Path:
    """Draw one detail as both shots and the slide show it, side by side."""
    line, tile = _tellingest(result)
    raw = [result.folder.load_raw(name) for name in (line.entry.raw_a, _raw_b(line))]
    row, column = _busiest_corner(raw[0])
    crops = [shot[row : row + _CROP_PX, column : column + _CROP_PX] for shot in raw]
    with SlideReader(result.folder.slide) as slide:
        left, top = round(tile[0]) + column, round(tile[1]) + row
        crops.append(read_window(slide, left, top, (_CROP_PX, _CROP_PX)))
    gap, text_px, scale = 8, 34, 2
    width = 3 * _CROP_PX * scale + 2 * gap
    sheet = Image.new("RGB", (width, _CROP_PX * scale + text_px), "white")
    pen = ImageDraw.Draw(sheet)
    half_um = result.half_spacing_um
    titles = (f"shot at F - {half_um:.2f} um", f"shot at F + {half_um:.2f} um", "fused")
    for number, (crop, title) in enumerate(zip(crops, titles, strict=True)):
        x = number * (_CROP_PX * scale + gap)
        picture = Image.fromarray(crop).resize(
            (_CROP_PX * scale, _CROP_PX * scale), Image.Resampling.BICUBIC
        )
        pen.text((x + 4, 6), title, fill="black", font_size=20)
        sheet.paste(picture, (x, text_px))
    sheet.save(path)
    return path


def _prepare(out: Path) -> None:
    """Make the folder; drop what an earlier demo left, and nothing else."""
    found = [name for name in _MADE if (out / name).exists()]
    if found and not (out / _MARK).exists():
        msg = f"{out / found[0]}: no demo made this; choose another folder with -o"
        raise ConfigError(msg)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / _MARK).touch()
        for name in ("scan", "compare"):
            if (out / name).exists():
                shutil.rmtree(out / name)
    except OSError as error:
        msg = f"{out}: cannot make the demo's folder: {error.strerror}"
        raise SlideFileError(msg) from error


def _shrunk(instrument: InstrumentFile, region_um: Region, n_tiles: int) -> Region:
    """Return the part around the region's middle that takes about `n_tiles`."""
    if n_tiles < 1:
        msg = f"--tiles must be at least 1, got {n_tiles}"
        raise ConfigError(msg)
    plan = instrument.plan(region_um, 0.0)
    across = max(1, min(plan.columns, round(n_tiles**0.5)))
    down = max(1, min(plan.rows, round(n_tiles / across)))
    return _middle(instrument, region_um, across, down)


def _middle(
    instrument: InstrumentFile, region_um: Region, across: int, down: int
) -> Region:
    plan = instrument.plan(region_um, 0.0)
    field_um = [side * plan.pixel_um for side in plan.field_px]
    width_um = min(field_um[0] + (across - 1) * plan.step_um[0], region_um[2])
    height_um = min(field_um[1] + (down - 1) * plan.step_um[1], region_um[3])
    x_um = region_um[0] + (region_um[2] - width_um) / 2
    y_um = region_um[1] + (region_um[3] - height_um) / 2
    return x_um, y_um, width_um, height_um


def _compare(
    instrument: InstrumentFile,
    profile: InstrumentProfile,
    region_um: Region,
    out: Path,
    say: Say,
) -> tuple[StrategyRow, ...]:
    """Scan a few tiles in all three ways on the same instrument."""
    part_um = _middle(instrument, region_um, *_COMPARED)
    rows = []
    for strategy in STRATEGIES:
        say(f"comparing: {strategy}")
        result = scan_instrument(
            instrument,
            out / "compare" / strategy,
            region_um=part_um,
            strategy=strategy,
            profile=profile,
        )
        write_reports(result)
        rows.append(strategy_row(result))
    return tuple(rows)


def _tellingest(result: ScanResult) -> tuple[TileLine, tuple[float, float]]:
    """Return the fused tile in which fusion gained most, and its place."""
    places = {(t.row, t.column): (t.x_px, t.y_px) for t in result.placement.tiles}
    fused = [line for line in result.lines if line.fuse_s and line.entry.raw_b]
    best = max(fused, key=_sharpness_gain)
    return best, places[best.entry.row, best.entry.column]


def _sharpness_gain(line: TileLine) -> float:
    return (line.sharpness_after or 0.0) - (line.sharpness_before or 0.0)


def _raw_b(line: TileLine) -> str:
    return line.entry.raw_b or line.entry.raw_a


def _busiest_corner(pixels: UInt8Image) -> tuple[int, int]:
    """Return (row, column) of the crop with the most contrast."""
    green = pixels[..., 1].astype(np.float32)
    best, where = -1.0, (0, 0)
    for row in range(0, green.shape[0] - _CROP_PX, 32):
        for column in range(0, green.shape[1] - _CROP_PX, 32):
            crop = green[row : row + _CROP_PX, column : column + _CROP_PX]
            if (contrast := float(crop.std())) > best:
                best, where = contrast, (row, column)
    return where
