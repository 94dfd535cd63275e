"""Compare a scan of the virtual instrument with what was really on the glass.

Only a simulation can do this, so only reports and tests call it; the loop never does.
All pictures compared are 8-bit, under the same JPEG quality: the slide against the
all-in-focus truth, and, in the same places, a slide made of the sharper shots.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import simplejpeg

from bifocus.config import Scan
from bifocus.edge.journal import TileLine
from bifocus.edge.mosaic import MosaicRenderer
from bifocus.edge.placement import Placement
from bifocus.edge.plan import ScanPlan
from bifocus.edge.scan_folder import ScanFolder
from bifocus.edge.slide_reader import SlideReader
from bifocus.edge.tile_notes import read_poses
from bifocus.hal.virtual_truth import VirtualTruth
from bifocus.records import Frame, StagePosition, UInt8Image

# Tiles compared pixel by pixel: enough for a mean to 0.1 dB, and bounded in time.
_MOST_TILES = 40
# Tiles more than this below the sharper shot count as harmed, in dB.
HARM_DB = 0.1

Float64 = npt.NDArray[np.float64]
TileLoader = Callable[[int, int], UInt8Image]


@dataclass(frozen=True, slots=True, kw_only=True)
class TileTruth:
    """Where a tile really was: true field centre of the frame it lies on, in stage_um.

    `offset_um` is the true best focus minus the middle of the true shots, None for a
    tile that is no pair; `is_tissue` is False on blank glass.
    """

    row: int
    column: int
    x_um: float
    y_um: float
    offset_um: float | None
    estimate_um: float | None
    is_tissue: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TruthReport:
    """The `truth` part of `report.json`."""

    psnr_db: float
    sharper_psnr_db: float
    offset_error_um: dict[str, float] | None
    stitch_error_px: dict[str, float]
    harm_rate: float
    tiles_compared: int


def note_poses(
    truth: VirtualTruth, frames: Sequence[Frame]
) -> tuple[StagePosition, ...]:
    """Return where the glass truly was; call while the stage's past is remembered."""
    return tuple(truth.true_pose_at(_middle_s(frame)) for frame in frames)


def observe(truth: VirtualTruth, line: TileLine) -> TileTruth | None:
    """Compare a tile with the truth; None if its true poses were not noted."""
    entry, poses = line.entry, read_poses(line.entry.poses)
    if not poses:
        return None
    pose = poses[line.picked or 0]
    offset_um = None
    if len(poses) == 2:
        focus_um = truth.mean_focus_um(pose.x_um, pose.y_um)
        offset_um = focus_um - (poses[0].z_um + poses[1].z_um) / 2
    return TileTruth(
        row=entry.row,
        column=entry.column,
        x_um=pose.x_um,
        y_um=pose.y_um,
        offset_um=offset_um,
        estimate_um=entry.offset.offset_um if entry.offset else None,
        is_tissue=entry.status != "blank",
    )


def evaluate(
    truth: VirtualTruth,
    tiles: Sequence[TileTruth],
    *,
    folder: ScanFolder,
    plan: ScanPlan,
    placement: Placement,
    load_sharper: TileLoader,
    whiten: Callable[[UInt8Image], UInt8Image],
    settings: Scan,
) -> TruthReport:
    """Compare the finished slide with the truth; see the module's text.

    `whiten` takes the dark level and the lamp's colour off the truth as the scan does
    off its tiles: what is compared is focus and place, not the choice of white.
    """
    shape = (plan.field_px[1], plan.field_px[0])
    by_cell = {(tile.row, tile.column): tile for tile in tiles}
    stitch_px, origin_um = _stitch_errors(placement, by_cell, plan.pixel_um)
    sharper = MosaicRenderer(placement.tiles, shape, load_sharper, cache_tiles=12)
    fused_db, sharper_db = [], []
    with SlideReader(folder.slide) as slide:
        for placed in placement.tiles[:: _stride(len(placement.tiles))]:
            tile = by_cell[placed.row, placed.column]
            if not tile.is_tissue:
                continue
            left, top = round(placed.x_px), round(placed.y_px)
            centre_um = (
                origin_um[0] + left * plan.pixel_um,
                origin_um[1] + top * plan.pixel_um,
            )
            ideal = whiten(truth.encode(truth.render_truth(*centre_um)))
            window = read_window(slide, left, top, shape)
            fused_db.append(psnr_db(_inside(window), _inside(ideal)))
            other = sharper.render(left, top, shape[1], shape[0])
            other = _through_jpeg(other, settings)
            sharper_db.append(psnr_db(_inside(other), _inside(ideal)))
    gains = np.array(fused_db) - np.array(sharper_db)
    return TruthReport(
        psnr_db=_mean(fused_db),
        sharper_psnr_db=_mean(sharper_db),
        offset_error_um=_offset_errors(tiles),
        stitch_error_px={
            "mean": float(stitch_px.mean()),
            "max": float(stitch_px.max()),
        },
        harm_rate=float((gains < -HARM_DB).mean()) if gains.size else 0.0,
        tiles_compared=len(fused_db),
    )


def psnr_db(first: UInt8Image, second: UInt8Image) -> float:
    """Return the peak signal-to-noise ratio of two 8-bit pictures, at most 99 dB."""
    difference = first.astype(np.float32) - second.astype(np.float32)
    mean_square = float(np.mean(np.square(difference), dtype=np.float64))
    return 10 * math.log10(255**2 / max(mean_square, 255**2 * 10**-9.9))


def read_window(
    slide: SlideReader, left: int, top: int, shape: tuple[int, int]
) -> UInt8Image:
    """Return a window of the slide's full-resolution level, tile by tile."""
    size = slide.tile_px
    window = np.zeros((*shape, 3), dtype=np.uint8)
    bottom, right = top + shape[0], left + shape[1]
    for row in range(top // size, -(-bottom // size)):
        for column in range(left // size, -(-right // size)):
            tile = simplejpeg.decode_jpeg(slide.read_tile_jpeg(0, row, column))
            y0, x0 = max(top, row * size), max(left, column * size)
            y1, x1 = min(bottom, (row + 1) * size), min(right, (column + 1) * size)
            part = tile[y0 - row * size : y1 - row * size]
            window[y0 - top : y1 - top, x0 - left : x1 - left] = part[
                :, x0 - column * size : x1 - column * size
            ]
    return window


def _stitch_errors(
    placement: Placement,
    by_cell: dict[tuple[int, int], TileTruth],
    pixel_um: float,
) -> tuple[Float64, tuple[float, float]]:
    """Return each tile's distance from its true place, and the mosaic's origin.

    The origin is the true field centre of a tile whose corner lies at pixel (0, 0). It
    is free: it is set where the mean error of the tissue tiles is zero. Blank tiles,
    which nothing but the stage can place, are left out.
    """
    cells = [
        (placed, by_cell[placed.row, placed.column])
        for placed in placement.tiles
        if by_cell[placed.row, placed.column].is_tissue
    ] or [(placed, by_cell[placed.row, placed.column]) for placed in placement.tiles]
    shift_px = np.array(
        [
            (tile.x_um / pixel_um - placed.x_px, tile.y_um / pixel_um - placed.y_px)
            for placed, tile in cells
        ]
    )
    mean_px = shift_px.mean(axis=0)
    errors = np.hypot(*(shift_px - mean_px).T)
    return errors, (float(mean_px[0]) * pixel_um, float(mean_px[1]) * pixel_um)


def _offset_errors(tiles: Sequence[TileTruth]) -> dict[str, float] | None:
    errors = [
        abs(tile.estimate_um - tile.offset_um)
        for tile in tiles
        if tile.is_tissue
        and tile.offset_um is not None
        and tile.estimate_um is not None
    ]
    if not errors:
        return None
    return {
        "mean": float(np.mean(errors)),
        "p95": float(np.quantile(errors, 0.95)),
        "max": float(np.max(errors)),
    }


def _inside(pixels: UInt8Image) -> UInt8Image:
    """Return all but the border, which a tile between whole pixels does not fill."""
    return pixels[1:-1, 1:-1]


def _middle_s(frame: Frame) -> float:
    return (frame.exposure_start_s + frame.exposure_end_s) / 2


def _stride(n_tiles: int) -> int:
    return max(1, -(-n_tiles // _MOST_TILES))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _through_jpeg(pixels: UInt8Image, settings: Scan) -> UInt8Image:
    encoded = simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels),
        quality=settings.jpeg_quality,
        colorsubsampling=settings.jpeg_subsampling,
    )
    decoded: UInt8Image = simplejpeg.decode_jpeg(encoded)
    return decoded
