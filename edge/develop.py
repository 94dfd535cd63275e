"""From a capture to the in-focus tile, with what the stitcher needs of it."""

from dataclasses import dataclass

from bifocus.edge.fusers import Fuser, WholePair
from bifocus.edge.journal import TileLine
from bifocus.edge.registration import EdgeStrips, extract_strips
from bifocus.edge.shots import Capture
from bifocus.illumination import FlatFieldCorrection
from bifocus.physics_fusion import MeasuredPair
from bifocus.records import FusedTile, UInt8Image
from bifocus.sharpness import measure_sharpness


@dataclass(frozen=True, slots=True, kw_only=True)
class Developed:
    """An in-focus tile on its way to the slide.

    `sharpness` is Brenner's gradient of the sharper shot and of the tile.
    `picked` is the frame whose pixel grid the tile lies on.
    """

    row: int
    column: int
    pixels: UInt8Image
    strips: EdgeStrips
    quality: float
    fuse_s: float
    sharpness: tuple[float, float]
    picked: int


class Developer:
    """Fuses captures one by one; one thread at a time."""

    def __init__(
        self,
        fuser: Fuser,
        correction: FlatFieldCorrection,
        overlap_px: tuple[float, float],
    ) -> None:
        self._fuser = fuser
        self._correction = correction
        self._overlap_px = overlap_px

    def develop(self, capture: Capture) -> Developed:
        """Fuse a capture and cut the strips that registration needs."""
        visit, measured = capture.visit, capture.measured
        if measured is None or capture.status == "blank":
            pixels = before = self._correction.apply(capture.frames[0].pixels)
            quality, fuse_s, picked = float(capture.status != "blank"), 0.0, 0
        else:
            tile = self._fused(measured)
            pixels, quality, fuse_s = tile.pixels, tile.quality, tile.seconds
            picked = int(tile.sharper_is_plus)
            before = measured.plus if picked else measured.minus
        return Developed(
            row=visit.row,
            column=visit.column,
            pixels=pixels,
            strips=self._strips(visit.row, visit.column, pixels),
            quality=quality,
            fuse_s=fuse_s,
            sharpness=(measure_sharpness(before)[0], measure_sharpness(pixels)[0]),
            picked=picked,
        )

    def take_kept(self, line: TileLine, pixels: UInt8Image) -> Developed:
        """Return a tile that was fused before the scan broke off."""
        row, column = line.entry.row, line.entry.column
        return Developed(
            row=row,
            column=column,
            pixels=pixels,
            strips=self._strips(row, column, pixels),
            quality=line.quality or 0.0,
            fuse_s=line.fuse_s or 0.0,
            sharpness=(line.sharpness_before or 0.0, line.sharpness_after or 0.0),
            picked=line.picked or 0,
        )

    def _fused(self, measured: MeasuredPair | WholePair) -> FusedTile:
        if isinstance(measured, WholePair):
            return measured.tile
        return self._fuser.fuse(measured)

    def _strips(self, row: int, column: int, pixels: UInt8Image) -> EdgeStrips:
        return extract_strips(
            pixels,
            row=row,
            column=column,
            overlap_x_px=self._overlap_px[0],
            overlap_y_px=self._overlap_px[1],
        )
