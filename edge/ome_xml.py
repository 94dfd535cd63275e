"""Describe a slide, and write that description as OME-XML (schema 2016-06).

Two traps shape the text. Bio-Formats edits every "&#" it meets, which breaks numeric
character references: so "µm" is written as UTF-8, and control characters (which XML
writers turn into references) become spaces. And element order is part of the schema.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from xml.etree import ElementTree

from bifocus.errors import SlideFileError

OME_NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
NOTES_NAMESPACE = "bifocus/slide-notes"
WAVELENGTH = "wavelength_um "
TILES_NAMESPACE = "bifocus/source-tiles"
SIMULATED_TEXT = "SIMULATED: made on the virtual instrument, not from glass."
SCANNED_TEXT = "Scanned slide."
_XSI = "http://www.w3.org/2001/XMLSchema-instance"
# Control characters and lone surrogates cannot be written in XML 1.0.
_UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideDescription:
    """What a slide is and how it was made.

    Attributes
    ----------
    width_px, height_px
        Size of the full-resolution image.
    pixel_um
        Side of one pixel on the glass, in micrometres.
    objective, magnification, na
        Name of the objective, its nominal magnification and its aperture.
    instrument, software
        What scanned it and what wrote it, each with its version.
    acquired_utc
        ISO 8601; a time without zone is taken as UTC.
    simulated
        True when it came from the virtual instrument.
    channel_names, wavelengths_um
        Of the three colours in the order stored: red, green, blue.
    notes
        Free pairs of names and values: profile, engine, operator, barcode.
    """

    width_px: int
    height_px: int
    pixel_um: float
    objective: str
    magnification: float
    na: float
    instrument: str
    software: str
    acquired_utc: str
    simulated: bool
    channel_names: tuple[str, str, str] = ("red", "green", "blue")
    wavelengths_um: tuple[float, float, float]
    notes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse values that no slide can have; each message names the field."""
        for name in ("width_px", "height_px", "pixel_um", "magnification", "na"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                msg = f"slide description: {name} must be positive, got {value}"
                raise SlideFileError(msg)
        parse_utc(self.acquired_utc)


def parse_utc(acquired_utc: str) -> datetime:
    """Return an ISO 8601 time as a datetime in UTC; raises SlideFileError."""
    try:
        # Python 3.10 does not read the "Z" that most instruments write.
        time = datetime.fromisoformat(re.sub("[zZ]$", "+00:00", acquired_utc))
    except ValueError as error:
        msg = (
            f"slide description: acquired_utc is {acquired_utc!r}, "
            "expected ISO 8601 such as 2026-03-01T12:00:00Z"
        )
        raise SlideFileError(msg) from error
    if time.tzinfo is None:
        return time.replace(tzinfo=timezone.utc)
    return time.astimezone(timezone.utc)


@dataclass(frozen=True, slots=True, kw_only=True)
class BesideImage:
    """A colour picture beside the slide, in the same file.

    `ifd` is its place among the directories of the main chain.
    """

    name: str
    width_px: int
    height_px: int
    ifd: int


def compose_ome_xml(
    description: SlideDescription,
    beside: Sequence[BesideImage] = (),
    tile_notes: Mapping[str, str] | None = None,
) -> str:
    """Return the OME-XML of an RGB slide, ready for ImageDescription.

    Parameters
    ----------
    description
        Any text in it may hold any character; what XML cannot hold becomes a space.
    beside
        The other images of the file.
    tile_notes
        Name of a source tile -> what is known of it.

    Returns
    -------
    str
        To be encoded as UTF-8. It holds no character reference and ends in `</OME>`.
    """
    root = ElementTree.Element(
        "OME",
        {
            "xmlns": OME_NAMESPACE,
            "xmlns:xsi": _XSI,
            "xsi:schemaLocation": f"{OME_NAMESPACE} {OME_NAMESPACE}/ome.xsd",
            "Creator": _clean(description.software),
        },
    )
    _add_instrument(root, description)
    _add_image(root, description, has_tiles=bool(tile_notes))
    for number, image in enumerate(beside, start=1):
        _add_beside(root, number, image)
    _add_notes(root, description, tile_notes or {})
    body = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>{body}'


def parse_ome_xml(text: str) -> SlideDescription:
    """Return the description from which `compose_ome_xml` made a text.

    Raises
    ------
    SlideFileError
        If it is no such text.
    """
    names = {"o": OME_NAMESPACE}
    try:
        root = ElementTree.fromstring(text)
        pixels = root.find("o:Image/o:Pixels", names)
        objective = root.find("o:Instrument/o:Objective", names)
        microscope = root.find("o:Instrument/o:Microscope", names)
        if pixels is None or objective is None or microscope is None:
            msg = "the OME-XML names no pixels, objective or microscope"
            raise SlideFileError(msg)
        notes = {
            m.attrib["K"]: m.text or ""
            for m in root.iterfind(
                f".//o:MapAnnotation[@Namespace='{NOTES_NAMESPACE}']//o:M", names
            )
        }
        colours = {
            name.removeprefix(WAVELENGTH): float(notes.pop(name))
            for name in list(notes)
            if name.startswith(WAVELENGTH)
        }
        red, green, blue = colours
        return SlideDescription(
            width_px=int(pixels.attrib["SizeX"]),
            height_px=int(pixels.attrib["SizeY"]),
            pixel_um=float(pixels.attrib["PhysicalSizeX"]),
            objective=objective.attrib["Model"],
            magnification=float(objective.attrib["NominalMagnification"]),
            na=float(objective.attrib["LensNA"]),
            instrument=microscope.attrib["Model"],
            software=root.attrib["Creator"],
            acquired_utc=notes.pop("acquired_utc"),
            simulated=notes.pop("simulated") == "true",
            channel_names=(red, green, blue),
            wavelengths_um=(colours[red], colours[green], colours[blue]),
            notes=notes,
        )
    except (ElementTree.ParseError, KeyError, ValueError) as error:
        msg = f"the OME-XML is not that of a slide of ours: {error}"
        raise SlideFileError(msg) from error


def _add_instrument(root: ElementTree.Element, description: SlideDescription) -> None:
    instrument = ElementTree.SubElement(root, "Instrument", ID="Instrument:0")
    ElementTree.SubElement(
        instrument, "Microscope", Model=_clean(description.instrument)
    )
    ElementTree.SubElement(
        instrument,
        "Objective",
        ID="Objective:0",
        Model=_clean(description.objective),
        NominalMagnification=repr(float(description.magnification)),
        LensNA=repr(float(description.na)),
    )


def _add_image(
    root: ElementTree.Element, description: SlideDescription, *, has_tiles: bool
) -> None:
    image = ElementTree.SubElement(root, "Image", ID="Image:0", Name="slide")
    acquired = ElementTree.SubElement(image, "AcquisitionDate")
    acquired.text = parse_utc(description.acquired_utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    summary = ElementTree.SubElement(image, "Description")
    summary.text = SIMULATED_TEXT if description.simulated else SCANNED_TEXT
    ElementTree.SubElement(image, "InstrumentRef", ID="Instrument:0")
    ElementTree.SubElement(image, "ObjectiveSettings", ID="Objective:0")
    _add_pixels(image, description)
    for number in range(1 + has_tiles):
        ElementTree.SubElement(image, "AnnotationRef", ID=f"Annotation:{number}")


def _add_beside(root: ElementTree.Element, number: int, beside: BesideImage) -> None:
    image = ElementTree.SubElement(
        root, "Image", ID=f"Image:{number}", Name=_clean(beside.name)
    )
    pixels = ElementTree.SubElement(
        image,
        "Pixels",
        ID=f"Pixels:{number}",
        DimensionOrder="XYCZT",
        Type="uint8",
        Interleaved="true",
        BigEndian="false",
        SizeX=str(beside.width_px),
        SizeY=str(beside.height_px),
        SizeZ="1",
        SizeC="3",
        SizeT="1",
    )
    ElementTree.SubElement(
        pixels, "Channel", ID=f"Channel:{number}:0", Name="RGB", SamplesPerPixel="3"
    )
    ElementTree.SubElement(pixels, "TiffData", IFD=str(beside.ifd), PlaneCount="1")


def _add_pixels(image: ElementTree.Element, description: SlideDescription) -> None:
    pixel_um = repr(float(description.pixel_um))
    pixels = ElementTree.SubElement(
        image,
        "Pixels",
        ID="Pixels:0",
        DimensionOrder="XYCZT",
        Type="uint8",
        SignificantBits="8",
        Interleaved="true",
        BigEndian="false",
        SizeX=str(description.width_px),
        SizeY=str(description.height_px),
        SizeZ="1",
        SizeC="3",
        SizeT="1",
        PhysicalSizeX=pixel_um,
        PhysicalSizeXUnit="µm",
        PhysicalSizeY=pixel_um,
        PhysicalSizeYUnit="µm",
    )
    ElementTree.SubElement(
        pixels,
        "Channel",
        ID="Channel:0:0",
        Name="RGB",
        SamplesPerPixel="3",
        IlluminationType="Transmitted",
        ContrastMethod="Brightfield",
    )
    ElementTree.SubElement(pixels, "TiffData", IFD="0", PlaneCount="1")


def _add_notes(
    root: ElementTree.Element,
    description: SlideDescription,
    tile_notes: Mapping[str, str],
) -> None:
    colours = zip(description.channel_names, description.wavelengths_um, strict=True)
    pairs = {
        "simulated": "true" if description.simulated else "false",
        "acquired_utc": description.acquired_utc,
        **{f"{WAVELENGTH}{name}": repr(float(um)) for name, um in colours},
        **description.notes,
    }
    annotations = ElementTree.SubElement(root, "StructuredAnnotations")
    _add_map(annotations, 0, NOTES_NAMESPACE, pairs)
    if tile_notes:
        _add_map(annotations, 1, TILES_NAMESPACE, tile_notes)


def _add_map(
    annotations: ElementTree.Element,
    number: int,
    namespace: str,
    pairs: Mapping[str, str],
) -> None:
    annotation = ElementTree.SubElement(
        annotations, "MapAnnotation", ID=f"Annotation:{number}", Namespace=namespace
    )
    value = ElementTree.SubElement(annotation, "Value")
    for name, text in pairs.items():
        ElementTree.SubElement(value, "M", K=_clean(name)).text = _clean(text)


def _clean(text: str) -> str:
    """Return `text` with every run of characters that XML cannot hold as a space."""
    return _UNWRITABLE.sub(" ", text)
