"""Stitching during the scan: against exact truth, a slide made at once, and a bound."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import tifffile

from bifocus.bench_grid import GridScan
from bifocus.edge.live_stitch import LiveStitcher, StitchOptions, plan_canvas
from bifocus.edge.loop_closure import Cell
from bifocus.edge.mosaic import MosaicRenderer
from bifocus.edge.placement import Placement
from bifocus.edge.registration import EdgeStrips, extract_strips
from bifocus.edge.slide_file import BACKGROUND_GREY, SlideDescription
from bifocus.records import UInt8Image

FIELD_PX = (300, 240)
OVERLAP = 0.25
OPTIONS = StitchOptions(tile_px=128, jpeg_quality=95, cache_mb=2.0, sync_every=4)


def describe(grid: GridScan) -> SlideDescription:
    canvas = plan_canvas(grid.plan)
    return SlideDescription(
        width_px=canvas.width_px,
        height_px=canvas.height_px,
        pixel_um=grid.plan.pixel_um,
        objective="Plan 20x",
        magnification=20,
        na=0.5,
        instrument="test bench",
        software="bifocus test",
        acquired_utc="2026-03-01T12:00:00Z",
        simulated=True,
        wavelengths_um=(0.62, 0.53, 0.46),
    )


def strips_of(grid: GridScan, cell: Cell, pixels: UInt8Image) -> EdgeStrips:
    across, down = grid.plan.overlap_px
    return extract_strips(
        pixels, row=cell[0], column=cell[1], overlap_x_px=across, overlap_y_px=down
    )


@dataclass
class Stitched:
    """What a run of the stitcher gave, and what it asked for."""

    grid: GridScan
    path: Path
    placement: Placement
    untrusted_pairs: int
    loads: Counter[Cell] = field(default_factory=Counter)
    published: list[tuple[int, int, int, int]] = field(default_factory=list)
    before_finish: int = 0

    def seam_errors(self) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
        places = {(t.row, t.column): (t.x_px, t.y_px) for t in self.placement.tiles}
        return self.grid.seam_errors(places)


def stitch(
    grid: GridScan,
    path: Path,
    order: Sequence[Cell] | None = None,
    options: StitchOptions = OPTIONS,
) -> Stitched:
    """Feed the tiles in an order (default: the plan's); a tile is there once added."""
    done = Stitched(grid, path, None, 0)  # type: ignore[arg-type]
    there: dict[Cell, UInt8Image] = {}

    def load(row: int, column: int) -> UInt8Image:
        done.loads[row, column] += 1
        return there[row, column]

    stitcher = LiveStitcher(
        grid.plan,
        describe(grid),
        path,
        load,
        options,
        on_tile=lambda *at: done.published.append(at),
    )
    for cell in order or [(v.row, v.column) for v in grid.plan.visits]:
        there[cell] = grid.tile(*cell)
        stitcher.add(*cell, strips_of(grid, cell, there[cell]))
    done.before_finish = len(done.published)
    done.placement = stitcher.finish()
    done.untrusted_pairs = stitcher.untrusted_pairs
    return done


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stitched]:
    grid = GridScan(8, 5, field_px=FIELD_PX, overlap=OVERLAP, seed=3)
    yield stitch(grid, tmp_path_factory.mktemp("live") / "slide.ome.tiff")


def test_seams_are_true(clean: Stitched) -> None:
    errors = clean.seam_errors()
    assert len(errors) == 8 * 4 + 7 * 5
    assert np.median(errors) <= 0.05
    assert errors.max() <= 0.2
    assert clean.placement.n_rejected == 0
    # A seam on glass is all that may be missing.
    assert len(clean.placement.residual_px) + clean.untrusted_pairs == len(errors)
    assert clean.untrusted_pairs <= 2


def test_the_slide_is_the_mosaic_of_the_final_places(clean: Stitched) -> None:
    """A second method: all tiles at once, after the scan, by one render."""
    grid = clean.grid
    whole = MosaicRenderer(
        clean.placement.tiles,
        (FIELD_PX[1], FIELD_PX[0]),
        grid.tile,
        background=(BACKGROUND_GREY,) * 3,
    )
    read = tifffile.imread(clean.path)
    expected = whole.render(0, 0, read.shape[1], read.shape[0])
    difference = np.abs(read.astype(int) - expected)
    assert difference.mean() < 1.5  # JPEG's
    assert np.quantile(difference, 0.999) < 12


def test_most_is_written_while_the_scan_runs(clean: Stitched) -> None:
    level_0 = [at for at in clean.published if at[0] == 0]
    assert len(set(clean.published)) == len(clean.published)
    assert {version for *_, version in clean.published} == {1}
    # Of 8 rows, 3 are final when the last one is done.
    assert clean.before_finish > 0.2 * len(clean.published)
    with tifffile.TiffFile(clean.path) as tiff:
        page = tiff.pages[0]
        grey = min(page.dataoffsets)
        written = sum(offset != grey for offset in page.dataoffsets)
    assert len(level_0) == written
    assert clean.loads.total() <= 2.5 * len(clean.placement.tiles)
