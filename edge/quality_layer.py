"""The second layer of a slide: how good each tile's fusion was, and where focus lay.

`quality.ome.tiff` lies beside the slide: two images of one pixel for each source tile,
32-bit floating point, `quality` (0 to 1) and `focal offset` (um), NaN where a tile has
none. Their pixel size is the scan's step, so that viewers lay them over the slide. The
same numbers stand in words in the slide's own OME-XML.

It is a file of its own because a second image in the slide takes the first one's place
in wsidicomizer, and makes QuPath ask which one is meant.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from bifocus.edge import bigtiff
from bifocus.edge.bigtiff import ByteLayout, TiffField
from bifocus.edge.growing_file import replace_file
from bifocus.edge.ome_xml import OME_NAMESPACE
from bifocus.edge.plan import ScanPlan
from bifocus.edge.pyramid import Cell
from bifocus.edge.slide_fields import (
    IMAGE_DESCRIPTION,
    STRIP_BYTE_COUNTS,
    STRIP_OFFSETS,
    resolution_fields,
)

PLANES = ("quality", "focal offset um")
FLOAT_SAMPLES = 3
BLACK_IS_ZERO = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TileNote:
    """What a slide tells of one source tile; None where it is not known.

    `focus_um` is the stage's z it was shot around, `offset_um` the distance of best
    focus from it, `quality` the fusion's own; x and y are its corner in the slide.
    """

    status: str
    focus_um: float
    offset_um: float | None = None
    quality: float | None = None
    x_px: float | None = None
    y_px: float | None = None

    def to_text(self) -> str:
        """Return one line of names and values.

        >>> TileNote(status="captured", focus_um=12.5, quality=0.75).to_text()
        'status=captured focus_um=12.5 quality=0.75'
        """
        values = {
            "focus_um": self.focus_um,
            "offset_um": self.offset_um,
            "quality": self.quality,
            "x_px": self.x_px,
            "y_px": self.y_px,
        }
        known = [f"{name}={v:.6g}" for name, v in values.items() if v is not None]
        return " ".join([f"status={self.status}", *known])


def write_quality_layer(
    path: Path, plan: ScanPlan, notes: Mapping[Cell, TileNote]
) -> None:
    """Write the layer, whole or not at all.

    Parameters
    ----------
    path
        The file, by custom `quality.ome.tiff` beside the slide; one of that name is
        replaced.
    plan
        Its grid and step become size and pixel size.
    notes
        What is known, by (row, column).

    Raises
    ------
    SlideFileError
        If the disk refuses.
    """
    planes = np.full((len(PLANES), plan.rows, plan.columns), np.nan, "<f4")
    for (row, column), note in notes.items():
        for i, value in enumerate((note.quality, note.offset_um)):
            if value is not None:
                planes[i, row, column] = value
    replace_file(path, _compose_file(planes, plan.step_um))


def _compose_file(
    planes: npt.NDArray[np.float32], step_um: tuple[float, float]
) -> bytes:
    """Return a BigTIFF of one directory for each plane."""
    layout = ByteLayout()
    layout.reserve(bigtiff.HEADER_BYTES)
    at = [layout.reserve(bigtiff.SECTOR_BYTES) for _ in planes]
    follow = [*at[1:], 0]
    bigtiff.put_header(layout, at[0])
    for i, plane in enumerate(planes):
        start = layout.reserve(plane.nbytes)
        layout.put(start, plane.tobytes())
        fields = _plane_fields(plane.shape[1], plane.shape[0], start, step_um)
        if i == 0:
            xml = _compose_xml(plane.shape[1], plane.shape[0], step_um)
            fields.append(bigtiff.text(IMAGE_DESCRIPTION, xml))
        bigtiff.put_directory(layout, at[i], fields, follow[i])
    return layout.to_bytes()


def _plane_fields(
    width_px: int, height_px: int, start: int, step_um: tuple[float, float]
) -> list[TiffField]:
    """Return the fields of an uncompressed plane of floats at `start`."""
    return [
        bigtiff.longs(254, 0),
        bigtiff.longs(256, width_px),
        bigtiff.longs(257, height_px),
        bigtiff.shorts(258, 32),
        bigtiff.shorts(259, 1),
        bigtiff.shorts(262, BLACK_IS_ZERO),
        bigtiff.single_long8(STRIP_OFFSETS, start),
        bigtiff.shorts(277, 1),
        bigtiff.longs(278, height_px),
        bigtiff.single_long8(STRIP_BYTE_COUNTS, 4 * width_px * height_px),
        bigtiff.shorts(284, 1),
        bigtiff.shorts(339, FLOAT_SAMPLES),
        *resolution_fields(*step_um),
    ]


def _compose_xml(width_px: int, height_px: int, step_um: tuple[float, float]) -> str:
    root = ElementTree.Element("OME", xmlns=OME_NAMESPACE)
    image = ElementTree.SubElement(root, "Image", ID="Image:0", Name="quality")
    pixels = ElementTree.SubElement(
        image,
        "Pixels",
        ID="Pixels:0",
        DimensionOrder="XYCZT",
        Type="float",
        BigEndian="false",
        SizeX=str(width_px),
        SizeY=str(height_px),
        SizeZ="1",
        SizeC=str(len(PLANES)),
        SizeT="1",
        PhysicalSizeX=repr(float(step_um[0])),
        PhysicalSizeXUnit="µm",
        PhysicalSizeY=repr(float(step_um[1])),
        PhysicalSizeYUnit="µm",
    )
    for i, name in enumerate(PLANES):
        ElementTree.SubElement(
            pixels, "Channel", ID=f"Channel:0:{i}", Name=name, SamplesPerPixel="1"
        )
    for i in range(len(PLANES)):
        ElementTree.SubElement(
            pixels, "TiffData", FirstC=str(i), IFD=str(i), PlaneCount="1"
        )
    body = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>{body}'
