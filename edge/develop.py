"""From a capture to the in-focus tile on the disk, ready for the stitcher."""

from dataclasses import dataclass

from bifocus.edge.fusers import Fuser
from bifocus.edge.registration import EdgeStrips, extract_strips
from bifocus.edge.scan_folder import ScanFolder
from bifocus.edge.strategies import Capture
from bifocus.illumination import FlatFieldCorrection
from bifocus.records import UInt8Image
from bifocus.sharpness import measure_sharpness


@dataclass(frozen=True, slots=True, kw_only=True)
class Developed:
    """What is kept of a tile once its picture is on the disk.

    `sharpness` is Brenner's gradient of the sharper shot and of the tile.
    `picked` is the frame whose pixel grid the tile lies on.
    """

    row: int
    column: int
    strips: EdgeStrips
    quality: float
    fuse_s: float
    sharpness: tuple[float, float]
    picked: int


class Developer:
    """Fuses captures one by one; its work may run beside the next capture."""

    def __init__(
        self,
        fuser: Fuser,
        correction: FlatFieldCorrection,
        folder: ScanFolder,
        overlap_px: tuple[float, float],
    ) -> None:
        self._fuser = fuser
        self._correction = correction
        self._folder = folder
        self._overlap_px = overlap_px

    def develop(self, capture: Capture) -> Developed:
        """Fuse, save and cut the strips that registration needs."""
        pixels, quality, fuse_s, picked = self._picture(capture)
        row, column = capture.visit.row, capture.visit.column
        self._folder.save_fused(row, column, pixels)
        before = self._correction.apply(capture.frames[picked].pixels)
        return Developed(
            row=row,
            column=column,
            strips=extract_strips(
                pixels,
                row=row,
                column=column,
                overlap_x_px=self._overlap_px[0],
                overlap_y_px=self._overlap_px[1],
            ),
            quality=quality,
            fuse_s=fuse_s,
            sharpness=(measure_sharpness(before)[0], measure_sharpness(pixels)[0]),
            picked=picked,
        )

    def _picture(self, capture: Capture) -> tuple[UInt8Image, float, float, int]:
        """Return the picture, its quality, the seconds it took, and its frame."""
        if capture.measured is None or capture.status == "blank":
            picture = self._correction.apply(capture.frames[0].pixels)
            return picture, float(capture.status != "blank"), 0.0, 0
        tile = self._fuser.fuse(capture.measured)
        return tile.pixels, tile.quality, tile.seconds, int(tile.sharper_is_plus)
