"""What a scan's slide file tells, and how it is written: from the instrument file."""

from pathlib import Path

import cv2
import numpy as np

from bifocus import __version__
from bifocus.config import Instrument, Scan
from bifocus.edge.live_stitch import StitchOptions
from bifocus.edge.plan import ScanPlan
from bifocus.edge.slide_file import SlideDescription
from bifocus.errors import ConfigError
from bifocus.records import UInt8Image

LABEL_MOST_PX = 1024  # Enough to read; the head of the file is written in one piece.


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


def stitch_options(scan: Scan, label: UInt8Image | None = None) -> StitchOptions:
    """Return how an instrument file wants its slides stitched and written.

    Parameters
    ----------
    scan
        Its `scan:` section.
    label
        The picture that `scan.label` names; see `load_label`.
    """
    return StitchOptions(
        layout=scan.slide_layout,
        codec=scan.slide_codec,
        jpeg_quality=scan.jpeg_quality,
        chroma_subsampling=scan.jpeg_subsampling,
        label=label,
    )


def load_label(scan: Scan, base_dir: Path) -> UInt8Image | None:
    """Return the picture of the slide's label, HxWx3, if the file names one.

    A path that is not absolute starts at `base_dir`, the instrument file's folder.

    Raises
    ------
    ConfigError
        If there is no such picture.
    """
    if scan.label is None:
        return None
    path = base_dir / scan.label
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        msg = f"scan.label: {path} is no picture that can be read; give a PNG or JPEG"
        raise ConfigError(msg)
    scale = min(1.0, LABEL_MOST_PX / max(picture.shape))
    if scale < 1:
        picture = cv2.resize(picture, None, fx=scale, fy=scale)
    return np.ascontiguousarray(picture[..., ::-1], dtype=np.uint8)
