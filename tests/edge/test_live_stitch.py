"""Stitching during the scan: against exact truth, a slide made at once, and a bound."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from bifocus.bench_grid import GridFaults, GridScan
from bifocus.edge.live_stitch import LiveStitcher, StitchOptions, plan_canvas
from bifocus.edge.loop_closure import Cell, Vector
from bifocus.edge.mosaic import MosaicRenderer
from bifocus.edge.placement import Placement
from bifocus.edge.quality_layer import TileNote
from bifocus.edge.registration import EdgeStrips, extract_strips
from bifocus.edge.slide_file import BACKGROUND_GREY, SlideDescription
from bifocus.errors import ConfigError
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
        return self.grid.seam_errors(_places(self))


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


def test_the_same_tiles_give_the_same_bytes(clean: Stitched, tmp_path: Path) -> None:
    again = stitch(clean.grid, tmp_path / "again.ome.tiff")
    assert again.path.read_bytes() == clean.path.read_bytes()
    assert again.placement == clean.placement
    assert again.published == clean.published


@pytest.mark.slow
def test_hard_scans(tmp_path: Path) -> None:
    """Glass, noise, shading, and a stage that is far off, out of scale and turned."""
    faults = GridFaults(
        stage_px=20,
        glass=0.35,
        noise=5,
        shading=0.25,
        scale=1.006,
        turn_rad=0.005,
    )
    grid = GridScan(7, 6, field_px=FIELD_PX, overlap=0.3, faults=faults, seed=4)
    done = stitch(grid, tmp_path / "slide.ome.tiff")
    true = [
        np.subtract(grid.true_px[b], grid.true_px[a])
        for a, b in done.placement.residual_px
    ]
    at = {(t.row, t.column): np.array([t.x_px, t.y_px]) for t in done.placement.tiles}
    errors = [
        np.hypot(*(at[b] - at[a] - shift))
        for (a, b), shift in zip(done.placement.residual_px, true, strict=True)
    ]
    assert len(errors) > 0.7 * 71
    # Overlaps of a quarter of a real tile's area: the goal there is 0.5 px.
    assert max(errors) <= 0.5


def test_late_missing_and_repeated_tiles(tmp_path: Path) -> None:
    grid = GridScan(8, 5, field_px=FIELD_PX, overlap=OVERLAP, seed=3)
    order = [(visit.row, visit.column) for visit in grid.plan.visits]
    late, never, twice = (1, 2), (4, 4), (6, 1)
    order.remove(late)
    order.remove(never)
    order.insert(order.index(twice) + 2, twice)
    order.append(late)
    done = stitch(grid, tmp_path / "slide.ome.tiff", order)
    cells = {(tile.row, tile.column) for tile in done.placement.tiles}
    assert cells == {(v.row, v.column) for v in grid.plan.visits} - {never}
    assert done.seam_errors().max() <= 0.2
    assert len(set(done.published)) == len(done.published)
    whole = MosaicRenderer(
        done.placement.tiles,
        (FIELD_PX[1], FIELD_PX[0]),
        grid.tile,
        background=(BACKGROUND_GREY,) * 3,
    )
    read = tifffile.imread(done.path)
    expected = whole.render(0, 0, read.shape[1], read.shape[0])
    difference = np.abs(read.astype(int) - expected)
    assert difference.mean() < 1.5
    assert np.quantile(difference, 0.999) < 12


class Slit(GridScan):
    """Tissue left and right of a band of glass that one row only bridges."""

    BRIDGE_ROW, LEFT_COLUMN, GLASS_PX = 3, 1, 115

    def tile(self, row: int, column: int) -> UInt8Image:
        pixels = super().tile(row, column)
        if row != self.BRIDGE_ROW and column == self.LEFT_COLUMN:
            pixels[:, -self.GLASS_PX :] = 236
        if row != self.BRIDGE_ROW and column == self.LEFT_COLUMN + 1:
            pixels[:, : self.GLASS_PX] = 236
        return pixels


@pytest.mark.slow
@pytest.mark.parametrize("again", [None, (0, 3)])
def test_tissue_beyond_glass_waits_for_the_row_that_joins_it(
    tmp_path: Path, again: Cell | None
) -> None:
    grid = Slit(8, 4, field_px=FIELD_PX, overlap=OVERLAP, seed=3)
    order = [(visit.row, visit.column) for visit in grid.plan.visits]
    if again is not None:  # A re-shot of what waits is placed where it belongs.
        order.insert(order.index((3, 1)), again)
    two_rows = replace(OPTIONS, lag_rows=2)
    done = stitch(grid, tmp_path / "slide.ome.tiff", order, two_rows)
    assert done.untrusted_pairs == 7
    assert len(done.placement.tiles) == 32
    errors = [
        np.hypot(*(np.subtract(at[b], at[a]) - np.subtract(true[b], true[a])))
        for at, true in [(_places(done), grid.true_px)]
        for a in at
        for b in ((a[0], a[1] + 1), (a[0] + 1, a[1]))
        if b in at and (a[0] == b[0] == grid.BRIDGE_ROW or not _crosses(grid, a, b))
    ]
    assert len(errors) == 7 * 4 + 8 * 3 - 7
    # The painted glass goes with the tiles: its edges pull pairs by some tenths. Where
    # pieces met too late, it would be pixels.
    assert max(errors) <= 0.5
    slots = [at for at in done.published if at[0] == 0]
    with tifffile.TiffFile(done.path) as tiff:
        height_px, width_px = tiff.series[0].levels[0].shape[:2]
    side = two_rows.tile_px
    assert len(set(slots)) == -(-height_px // side) * -(-width_px // side)


def _places(done: Stitched) -> dict[Cell, Vector]:
    return {(t.row, t.column): (t.x_px, t.y_px) for t in done.placement.tiles}


def _crosses(grid: Slit, a: Cell, b: Cell) -> bool:
    return a[1] == grid.LEFT_COLUMN < b[1]


def test_a_tile_that_is_in_the_slide_cannot_come_again(tmp_path: Path) -> None:
    grid = GridScan(7, 2, field_px=FIELD_PX, overlap=OVERLAP)
    pixels = grid.tile(0, 0)
    stitcher = LiveStitcher(
        grid.plan,
        describe(grid),
        tmp_path / "slide.ome.tiff",
        lambda _row, _column: pixels,
        OPTIONS,
    )
    for row in range(6):
        stitcher.add(row, 0, strips_of(grid, (row, 0), pixels))
    with pytest.raises(ConfigError, match="in the slide already"):
        stitcher.add(0, 0, strips_of(grid, (0, 0), pixels))
    with pytest.raises(ConfigError, match="not in the plan"):
        stitcher.add(6, 2, strips_of(grid, (6, 2), pixels))
    stitcher.abandon()
    with tifffile.TiffFile(tmp_path / "slide.ome.tiff") as tiff:
        assert tiff.series[0].levels[-1].asarray().size


def test_notes_are_in_the_slide(tmp_path: Path) -> None:
    grid = GridScan(2, 2, field_px=FIELD_PX, overlap=OVERLAP)
    stitcher = LiveStitcher(
        grid.plan, describe(grid), tmp_path / "slide.ome.tiff", grid.tile, OPTIONS
    )
    for number, visit in enumerate(grid.plan.visits):
        cell = (visit.row, visit.column)
        note = TileNote(
            status="captured", focus_um=12.0 + number, offset_um=0.25, quality=0.5
        )
        stitcher.add(*cell, strips_of(grid, cell, grid.tile(*cell)), note)
    first = stitcher.finish().tiles[0]
    quality = tifffile.imread(tmp_path / "quality.ome.tiff")
    np.testing.assert_array_equal(
        quality, [np.full((2, 2), 0.5), np.full((2, 2), 0.25)]
    )
    with tifffile.TiffFile(tmp_path / "slide.ome.tiff") as tiff:
        text = str(tiff.ome_metadata)
    expected = f"focus_um=12 offset_um=0.25 quality=0.5 x_px={first.x_px:.6g}"
    assert f'K="r000_c000">status=captured {expected}' in text


def test_another_canvas_is_refused(tmp_path: Path) -> None:
    grid = GridScan(2, 2, field_px=FIELD_PX, overlap=OVERLAP)
    other = GridScan(2, 3, field_px=FIELD_PX, overlap=OVERLAP)
    with pytest.raises(ConfigError, match="plan_canvas"):
        LiveStitcher(grid.plan, describe(other), tmp_path / "s.ome.tiff", grid.tile)
