"""What the scan report is made of, besides `report.json`: one record per table row."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TileRow:
    """One tile of the scan; None stands where nothing was measured.

    Attributes
    ----------
    planned_focus_um
        F of the pair that was kept, in the stage frame.
    offset_um, sd_um
        Best focus minus F, and its standard uncertainty.
    status
        `fused`, `blank`, `flagged`, or another word for a person to read.
    sharpness_before, sharpness_after
        Sharpness of the sharper shot and of the fused tile, on one scale.
    """

    row: int
    column: int
    x_um: float
    y_um: float
    planned_focus_um: float
    status: str
    offset_um: float | None = None
    sd_um: float | None = None
    quality: float | None = None
    capture_s: float | None = None
    fuse_s: float | None = None
    sharpness_before: float | None = None
    sharpness_after: float | None = None

    @property
    def best_focus_um(self) -> float | None:
        """Measured best focus in the stage frame, or None."""
        if self.offset_um is None:
            return None
        return self.planned_focus_um + self.offset_um


@dataclass(frozen=True, slots=True, kw_only=True)
class FocusSurface:
    """The plane that the scan followed: `z0_um + slope . (x, y)`, 1 mrad = 1 um/mm."""

    z0_um: float
    slope_x_mrad: float
    slope_y_mrad: float

    def compute_height_um(self, x_um: float, y_um: float) -> float:
        """Return the plane's height at a stage position.

        Examples
        --------
        >>> surface = FocusSurface(z0_um=3.0, slope_x_mrad=1.0, slope_y_mrad=-2.0)
        >>> surface.compute_height_um(2000.0, 500.0)
        4.0
        """
        return self.z0_um + (self.slope_x_mrad * x_um + self.slope_y_mrad * y_um) / 1e3


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyRow:
    """One line of the comparison: the same slide scanned in another way."""

    strategy: str
    shots: int
    seconds: float
    seconds_per_tile: float
    psnr_db: float | None = None
    sharper_psnr_db: float | None = None
    harm_rate: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportContents:
    """All that the page shows besides `report.json`.

    Attributes
    ----------
    tiles
        In the order of the visits.
    thumbnail_jpeg
        The mosaic as JPEG bytes; empty leaves the picture out.
    surface
        The plane fitted to the offsets, if there is one.
    comparison
        Other strategies on the same slide; empty leaves the table out.
    """

    title: str
    tiles: tuple[TileRow, ...]
    thumbnail_jpeg: bytes = b""
    surface: FocusSurface | None = None
    comparison: tuple[StrategyRow, ...] = ()
