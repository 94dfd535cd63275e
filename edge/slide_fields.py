"""What the directories of a slide file say: those of levels and of pictures."""

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from PIL import ImageCms

from bifocus.edge import bigtiff
from bifocus.edge.bigtiff import TiffField
from bifocus.edge.ome_xml import BesideImage, SlideDescription, parse_utc
from bifocus.edge.pyramid import LevelSize
from bifocus.edge.tile_codec import JpegCodec, TileCodec

SlideLayout = Literal["hybrid", "subifd", "chain"]

TILE_OFFSETS = 324
TILE_BYTE_COUNTS = 325
STRIP_OFFSETS = 273
STRIP_BYTE_COUNTS = 279
IMAGE_DESCRIPTION = 270
SUBIFDS = 330
ICC_PROFILE = 34675
CENTIMETRE = 3
UM_PER_CM = 10_000
# IEC 61966-2-1 (sRGB): the white point D65, and the primaries.
WHITE_POINT = (Fraction(3127, 10_000), Fraction(3290, 10_000))
ICC_DATE = slice(24, 36)  # Of the profile's header, ICC.1:2010 section 7.2.
PRIMARIES = tuple(Fraction(n, 100) for n in (64, 33, 30, 60, 15, 6))


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture beside the slide: a JPEG by `codec`, width x height pixels."""

    name: str
    width_px: int
    height_px: int
    codec: JpegCodec
    jpeg: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadPlan:
    """What a slide file is to hold.

    `sizes` are (width, height) of the levels, full resolution first; `empty_tile` is a
    tile of `tile_px` by `codec`; `pictures` come with the JPEG that they start with.
    """

    description: SlideDescription
    sizes: tuple[LevelSize, ...]
    tile_px: int
    codec: TileCodec
    layout: SlideLayout
    empty_tile: bytes
    pictures: tuple[Picture, ...] = ()

    def beside(self) -> tuple[BesideImage, ...]:
        """Return the images beside the slide as the OME-XML lists them."""
        return tuple(
            BesideImage(
                name=picture.name,
                width_px=picture.width_px,
                height_px=picture.height_px,
                ifd=1 + i,
            )
            for i, picture in enumerate(self.pictures)
        )


def compose_icc_profile() -> bytes:
    """Return an sRGB profile: the colours of every slide are sRGB."""
    profile = bytearray(
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    )
    # The time at which it was made would make every file differ.
    profile[ICC_DATE] = struct.pack(">6H", 2020, 1, 1, 0, 0, 0)
    return bytes(profile)


def level_fields(plan: HeadPlan, level: int) -> list[TiffField]:
    """Return the fields of a level, without its slots."""
    width_px, height_px = plan.sizes[level]
    full_px = plan.sizes[0]
    return [
        bigtiff.longs(254, 1 if level else 0),  # NewSubfileType: reduced image
        bigtiff.longs(256, width_px),
        bigtiff.longs(257, height_px),
        bigtiff.shorts(258, 8, 8, 8),
        bigtiff.shorts(277, 3),  # SamplesPerPixel
        bigtiff.shorts(284, 1),  # PlanarConfiguration: interleaved
        bigtiff.longs(322, plan.tile_px),
        bigtiff.longs(323, plan.tile_px),
        *resolution_fields(
            plan.description.pixel_um * full_px[0] / width_px,
            plan.description.pixel_um * full_px[1] / height_px,
        ),
        *plan.codec.fields(),
    ]


def resolution_fields(x_um: float, y_um: float) -> list[TiffField]:
    """Return the fields that give the pixel size in pixels per centimetre."""
    per_cm = [UM_PER_CM / Fraction(repr(float(side_um))) for side_um in (x_um, y_um)]
    return [
        bigtiff.rationals(282, per_cm[0]),
        bigtiff.rationals(283, per_cm[1]),
        bigtiff.shorts(296, CENTIMETRE),
    ]


def top_fields(
    description: SlideDescription, ome_xml: str, subifd_at: list[int]
) -> list[TiffField]:
    """Return the fields that only the full-resolution directory has."""
    acquired = parse_utc(description.acquired_utc).strftime("%Y:%m:%d %H:%M:%S")
    fields = [
        bigtiff.text(IMAGE_DESCRIPTION, ome_xml),
        bigtiff.text(305, description.software),
        bigtiff.text(306, acquired),
        bigtiff.rationals(318, *WHITE_POINT),
        bigtiff.rationals(319, *PRIMARIES),
        bigtiff.blob(ICC_PROFILE, compose_icc_profile()),
    ]
    if subifd_at:
        fields.append(bigtiff.ifd8s(SUBIFDS, *subifd_at))
    return fields


def picture_fields(picture: Picture, at: int) -> list[TiffField]:
    """Return the fields of a picture that is one strip, at `at`."""
    return [
        bigtiff.longs(254, 0),
        bigtiff.longs(256, picture.width_px),
        bigtiff.longs(257, picture.height_px),
        bigtiff.shorts(258, 8, 8, 8),
        bigtiff.single_long8(STRIP_OFFSETS, at),
        bigtiff.shorts(277, 3),
        bigtiff.longs(278, picture.height_px),  # RowsPerStrip
        bigtiff.single_long8(STRIP_BYTE_COUNTS, len(picture.jpeg)),
        bigtiff.shorts(284, 1),
        *picture.codec.fields(),
    ]
