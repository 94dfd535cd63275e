"""Stitch while the scan runs: tiles go in as they come, slide tiles come out.

On arrival a tile is registered with its neighbours; after each row the open rows are
solved (`fixed_lag`) and the oldest become final; slide tiles in which nothing can
change any more are rendered and written, a few with each arrival, so that no arrival
waits for a whole row. `finish` does the rest.

Tiles may come in any order. One that comes after its row is final is placed among its
neighbours; slide tiles that it could show in have waited for it. One that never comes
leaves a hole of background.

In memory are: a bounded cache of decoded tiles, strips of one row, reduced tiles that
wait for their children; per tile only its position and seam errors.
"""

import logging
from dataclasses import replace
from pathlib import Path

from bifocus.edge.canvas import Canvas, plan_canvas
from bifocus.edge.fixed_lag import FixedLagPlacement
from bifocus.edge.loop_closure import Cell
from bifocus.edge.mosaic import TileLoader as LoadTile
from bifocus.edge.placement import Placement
from bifocus.edge.plan import ScanPlan
from bifocus.edge.quality_layer import TileNote, write_quality_layer
from bifocus.edge.ready_tiles import Box, box_of
from bifocus.edge.registration import EdgeStrips, extract_strips
from bifocus.edge.seams import SeamRegister
from bifocus.edge.slide_file import SlideDescription
from bifocus.edge.slide_filling import OnTile, SlideFilling, StitchOptions
from bifocus.errors import ConfigError

logger = logging.getLogger(__name__)

# How far from its predicted place a tile that is not final may still come to lie.
REACH_PX = 64.0
QUALITY_NAME = "quality.ome.tiff"

__all__ = ["Canvas", "LiveStitcher", "LoadTile", "StitchOptions", "plan_canvas"]


class LiveStitcher:
    """Makes one slide of one scan; call it from one thread.

    The same calls in the same order give the same file, byte for byte. Close it with
    `finish`, or with `abandon` when the scan has failed: the file is a valid slide
    either way.
    """

    def __init__(
        self,
        plan: ScanPlan,
        description: SlideDescription,
        slide_path: Path,
        load_tile: LoadTile,
        options: StitchOptions | None = None,
        on_tile: OnTile | None = None,
    ) -> None:
        """Create the slide, valid and grey.

        Parameters
        ----------
        plan
            The tiles that may come, and their overlap.
        description
            Of the slide; its size is that of `plan_canvas(plan)`.
        slide_path
            The file to make; one of that name is replaced.
        load_tile
            (row, column) -> a tile that was added, (height, width, 3) uint8. Called
            until the tile's last slide tile is written, some rows later, and by
            `finish` from several threads. The result must not change.
        options
            Default: `StitchOptions()`.
        on_tile
            Called with (level, row, column, version) of the slide's tile grid once
            readers can see a tile; `version` counts from 1.

        Raises
        ------
        ConfigError
            The description is for another canvas.
        SlideFileError
            The file cannot be created.
        """
        options = options or StitchOptions()
        canvas = plan_canvas(plan)
        size_px = (description.width_px, description.height_px)
        if size_px != (canvas.width_px, canvas.height_px):
            msg = (
                f"{slide_path}: the slide is described as {size_px} px, the plan needs "
                f"{canvas.width_px} x {canvas.height_px}; use plan_canvas(plan)"
            )
            raise ConfigError(msg)
        self._plan = plan
        self._load_tile = load_tile
        self._places = FixedLagPlacement(canvas.nominal, lag_rows=options.lag_rows)
        self._seams = SeamRegister(
            (plan.step_um[0] / plan.pixel_um, plan.step_um[1] / plan.pixel_um),
            self._cut_again,
        )
        self._per_arrival = 1
        self._not_final = set(canvas.nominal)
        self._row = min(row for row, _ in self._not_final)
        self._notes: dict[Cell, TileNote] = {}
        self._slide = SlideFilling(
            slide_path, description, plan.field_px, load_tile, options, on_tile
        )

    @property
    def untrusted_pairs(self) -> int:
        """Neighbours so far between which nothing could be measured."""
        return self._places.n_untrusted

    def add(
        self, row: int, column: int, strips: EdgeStrips, note: TileNote | None = None
    ) -> None:
        """Take a tile whose picture `load_tile` can give from now on.

        Parameters
        ----------
        row, column
            Its cell in the plan. A tile of a row that is not final may be added again
            (a re-shot): the last one counts.
        strips
            Its borders, from `extract_strips`.
        note
            What the slide's metadata and the quality layer beside it shall tell of the
            tile; its place is filled in.

        Raises
        ------
        ConfigError
            The cell is not in the plan, or it is final already.
        SlideFileError
            The slide cannot be written; what was published stays.
        """
        cell = (row, column)
        if self._places.place_of(cell) is not None:
            msg = f"tile {cell} is in the slide already; it cannot be added again"
            raise ConfigError(msg)
        if cell not in self._not_final:
            msg = f"tile {cell} is not in the plan"
            raise ConfigError(msg)
        if note is not None:
            self._notes[cell] = note
        if row > self._row:
            self._complete_rows(row - 1)
            self._row = row
        pairs = self._seams.add(row, column, strips)
        if self._places.is_late(cell, pairs):
            self._places.place_late(cell, pairs)
            self._accept([cell])
        else:
            self._places.add(cell)
        self._slide.fill(self._per_arrival)

    def finish(self) -> Placement:
        """Place and write everything that came; close the slide.

        If there were notes, the quality layer is written beside it.

        Returns
        -------
        Placement
            Of every tile that came, in pixels of the slide.

        Raises
        ------
        SlideFileError
            The slide cannot be written; what was published stays.
        """
        _, final = self._places.finish(self._seams.pairs)
        self._places.account(self._seams.pairs)
        self._not_final.clear()
        self._accept(final)
        self._slide.finish(self._tile_notes())
        if self._notes:
            beside = self._slide.path.with_name(QUALITY_NAME)
            write_quality_layer(beside, self._plan, self._notes)
        if self._slide.n_outside:
            logger.warning(
                "%d tiles reach beyond the slide's border and were cut there; "
                "calibrate the stage's scale",
                self._slide.n_outside,
            )
        return self._places.to_placement()

    def abandon(self) -> None:
        """Close the slide as it is; for a scan that failed. May follow anything."""
        self._slide.abandon()

    def _tile_notes(self) -> dict[str, str]:
        """Return what the metadata tell of each tile, by its name."""
        texts = {}
        for cell, note in sorted(self._notes.items()):
            place = self._places.place_of(cell)
            placed = replace(note, x_px=place[0], y_px=place[1]) if place else note
            texts[f"r{cell[0]:03d}_c{cell[1]:03d}"] = placed.to_text()
        return texts

    def _complete_rows(self, row: int) -> None:
        solved, final = self._places.complete_row(row, self._seams.pairs)
        if solved is not None:
            self._seams.learn(solved)
        self._places.account(
            self._seams.take_pairs_above(self._places.first_row_in_use)
        )
        self._accept(final)
        self._per_arrival = 1 + self._slide.n_waiting // self._plan.columns

    def _accept(self, final: list[Cell]) -> None:
        """Let the slide have final tiles."""
        self._not_final.difference_update(final)
        self._slide.accept(self._places.tiles_of(final), self._open_boxes())

    def _open_boxes(self) -> list[Box]:
        """Where tiles without a final place may lie.

        The first of each column below the final rows stands for all below it.
        """
        first_open: dict[int, Cell] = {}
        missing = []
        for cell in self._not_final:
            if cell[0] < self._places.final_rows:
                missing.append(cell)
            else:
                first_open[cell[1]] = min(cell, first_open.get(cell[1], cell))
        return [
            box_of(self._places.predict(cell), self._plan.field_px, REACH_PX)
            for cell in (*missing, *first_open.values())
        ]

    def _cut_again(self, row: int, column: int) -> EdgeStrips:
        return extract_strips(
            self._load_tile(row, column),
            row=row,
            column=column,
            overlap_x_px=self._plan.overlap_px[0],
            overlap_y_px=self._plan.overlap_px[1],
        )
