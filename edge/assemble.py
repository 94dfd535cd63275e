"""The last step of a scan: place all tiles, write the pyramidal slide, a thumbnail."""

from bifocus import __version__
from bifocus.config import Instrument, Scan
from bifocus.edge.live_stitch import StitchOptions
from bifocus.edge.mosaic import MosaicRenderer
from bifocus.edge.placement import Placement, solve_placement
from bifocus.edge.plan import ScanPlan
from bifocus.edge.registration import PairShift
from bifocus.edge.scan_folder import ScanFolder
from bifocus.edge.slide_file import SlideDescription, SlideWriter, write_thumbnail


def place_tiles(plan: ScanPlan, pairs: list[PairShift]) -> Placement:
    """Return where every visited tile lies, in mosaic_px."""
    nominal = {
        (visit.row, visit.column): (
            visit.target.x_um / plan.pixel_um,
            visit.target.y_um / plan.pixel_um,
        )
        for visit in plan.visits
    }
    return solve_placement(nominal, pairs)


def write_slide(
    folder: ScanFolder,
    config: Instrument,
    plan: ScanPlan,
    placement: Placement,
    *,
    acquired_utc: str,
    notes: dict[str, str],
) -> tuple[int, int]:
    """Render the mosaic tile by tile into `slide.ome.tiff`; memory stays bounded.

    Returns
    -------
    tuple of int
        Width and height of the slide in pixels.
    """
    renderer = mosaic_renderer(folder, plan, placement)
    width_px, height_px = renderer.size_px
    description = describe_slide(
        config, plan, renderer.size_px, acquired_utc=acquired_utc, notes=notes
    )
    with SlideWriter(
        folder.slide,
        description,
        jpeg_quality=config.scan.jpeg_quality,
        chroma_subsampling=config.scan.jpeg_subsampling,
    ) as writer:
        for row, column, pixels in renderer.output_tiles(writer.tile_px):
            writer.write_tile(row, column, pixels)
    write_thumbnail(folder.slide, folder.thumbnail)
    return width_px, height_px


def describe_slide(
    config: Instrument,
    plan: ScanPlan,
    size_px: tuple[int, int],
    *,
    acquired_utc: str,
    notes: dict[str, str],
) -> SlideDescription:
    """Return what the slide's metadata tell: of the instrument, and of this scan."""
    return SlideDescription(
        width_px=size_px[0],
        height_px=size_px[1],
        pixel_um=plan.pixel_um,
        objective=config.optics.objective,
        magnification=config.optics.magnification,
        na=config.optics.na,
        instrument=config.name,
        software=f"bifocus {__version__}",
        acquired_utc=acquired_utc,
        simulated=config.is_simulated,
        wavelengths_um=config.optics.wavelengths_um,
        notes=notes,
    )


def stitch_options(scan: Scan) -> StitchOptions:
    """Return how an instrument file wants its slides stitched and written."""
    return StitchOptions(
        jpeg_quality=scan.jpeg_quality, chroma_subsampling=scan.jpeg_subsampling
    )


def mosaic_renderer(
    folder: ScanFolder, plan: ScanPlan, placement: Placement
) -> MosaicRenderer:
    """Return a renderer of the mosaic that reads the in-focus tiles from the disk."""
    width_px, height_px = plan.field_px
    return MosaicRenderer(placement.tiles, (height_px, width_px), folder.load_fused)
