"""The head of a slide file: every directory and table, before the first real tile.

Two readers disagree about pyramids: OpenSlide walks the main chain of directories,
Bio-Formats the SubIFDs of the first. So each reduced level has two directories, one in
the chain and one SubIFD, that share one pair of tile tables. Every slot of those tables
starts at one shared light-grey tile, so the file is complete before it is written.
"""

import struct
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from PIL import ImageCms

from bifocus.edge import bigtiff
from bifocus.edge.bigtiff import ByteLayout, TiffField
from bifocus.edge.ome_xml import SlideDescription, compose_ome_xml, parse_utc
from bifocus.edge.pyramid import Cell, LevelSize, compute_grid

TILE_OFFSETS = 324
TILE_BYTE_COUNTS = 325
JPEG_COMPRESSION = 7
YCBCR = 6
CENTIMETRE = 3
UM_PER_CM = 10_000
# Full-range YCbCr as JPEG has it: black 0, white 255, neutral chroma 128.
REFERENCE_BLACK_WHITE = (0, 255, 128, 255, 128, 255)


@dataclass(frozen=True, slots=True, kw_only=True)
class TileTable:
    """Where one level keeps its tile offsets and byte counts.

    Each has one start, or two when the level is a single tile: TIFF then keeps the
    value inside the directory, and the level has two directories.
    """

    n_rows: int
    n_columns: int
    offsets_at: tuple[int, ...]
    counts_at: tuple[int, ...]

    def offset_slots(self, cell: Cell) -> tuple[int, ...]:
        """Return the file positions of the offset of a tile."""
        return tuple(start + 8 * self._index(cell) for start in self.offsets_at)

    def count_slots(self, cell: Cell) -> tuple[int, ...]:
        """Return the file positions of the byte count of a tile."""
        return tuple(start + 8 * self._index(cell) for start in self.counts_at)

    def _index(self, cell: Cell) -> int:
        return cell[0] * self.n_columns + cell[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideHead:
    """The bytes that start a slide file, and where its tables and grey tile are."""

    image: bytes
    tables: tuple[TileTable, ...]
    empty_tile_at: int


def compose_head(
    description: SlideDescription,
    sizes: tuple[LevelSize, ...],
    *,
    tile_px: int,
    chroma_step: int,
    empty_tile: bytes,
) -> SlideHead:
    """Lay out a whole, valid BigTIFF whose every tile is the empty one.

    Parameters
    ----------
    description
        Becomes OME-XML and the resolution, software and date fields.
    sizes
        (width, height) in pixels of each level, full resolution first.
    tile_px
        Side of a tile; a multiple of 16.
    chroma_step
        1 for 4:4:4, 2 for 4:2:0.
    empty_tile
        A JPEG of tile_px x tile_px.
    """
    layout = ByteLayout()
    layout.reserve(bigtiff.HEADER_BYTES)
    n_levels = len(sizes)
    # One sector per directory: an inline slot is then never torn by a power cut.
    chain_at = [_reserve_directory(layout) for _ in sizes]
    subifd_at = [_reserve_directory(layout) for _ in sizes[1:]]
    empty_at = layout.reserve(len(empty_tile))
    layout.put(empty_at, empty_tile)
    common = _Common(description, sizes, tile_px, chroma_step)
    tables = []
    for level in range(n_levels):
        n_rows, n_columns = compute_grid(sizes[level], tile_px)
        slots = _slot_fields(layout, n_rows * n_columns, empty_at, len(empty_tile))
        fields = [*common.level_fields(level), *slots]
        next_at = chain_at[level + 1] if level + 1 < n_levels else 0
        top = _top_fields(description, subifd_at) if level == 0 else []
        places = [
            bigtiff.put_directory(layout, chain_at[level], [*fields, *top], next_at)
        ]
        if level > 0:
            at = subifd_at[level - 1]
            places.append(bigtiff.put_directory(layout, at, fields))
        tables.append(_locate_table(places, n_rows, n_columns))
    bigtiff.put_header(layout, chain_at[0])
    return SlideHead(
        image=layout.to_bytes(), tables=tuple(tables), empty_tile_at=empty_at
    )


def compose_icc_profile() -> bytes:
    """Return an sRGB profile: the colours of every slide are sRGB."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    return profile.tobytes()


def _reserve_directory(layout: ByteLayout) -> int:
    return layout.reserve(bigtiff.SECTOR_BYTES, align=bigtiff.SECTOR_BYTES)


def _slot_fields(
    layout: ByteLayout, n_tiles: int, empty_at: int, n_empty_bytes: int
) -> list[TiffField]:
    """Return the two slot fields of a level, every slot at the empty tile."""
    fields = []
    for number, value in ((TILE_OFFSETS, empty_at), (TILE_BYTE_COUNTS, n_empty_bytes)):
        if n_tiles == 1:
            fields.append(bigtiff.single_long8(number, value))
            continue
        table_at = layout.reserve(8 * n_tiles)
        layout.put(table_at, np.full(n_tiles, value, dtype="<u8").tobytes())
        fields.append(bigtiff.shared_long8s(number, n_tiles, table_at))
    return fields


def _locate_table(
    places: list[dict[int, int]], n_rows: int, n_columns: int
) -> TileTable:
    """Gather the distinct slot positions of the directories of one level."""
    return TileTable(
        n_rows=n_rows,
        n_columns=n_columns,
        offsets_at=tuple(dict.fromkeys(place[TILE_OFFSETS] for place in places)),
        counts_at=tuple(dict.fromkeys(place[TILE_BYTE_COUNTS] for place in places)),
    )


@dataclass(frozen=True, slots=True)
class _Common:
    """What the fields of all levels are computed from."""

    description: SlideDescription
    sizes: tuple[LevelSize, ...]
    tile_px: int
    chroma_step: int

    def level_fields(self, level: int) -> list[TiffField]:
        """Return the fields of a level, without its slots."""
        width_px, height_px = self.sizes[level]
        per_cm = UM_PER_CM / Fraction(repr(float(self.description.pixel_um)))
        return [
            bigtiff.longs(254, 1 if level else 0),  # NewSubfileType: reduced image
            bigtiff.longs(256, width_px),
            bigtiff.longs(257, height_px),
            bigtiff.shorts(258, 8, 8, 8),
            bigtiff.shorts(259, JPEG_COMPRESSION),
            bigtiff.shorts(262, YCBCR),
            bigtiff.shorts(277, 3),  # SamplesPerPixel
            bigtiff.rationals(282, per_cm * Fraction(width_px, self.sizes[0][0])),
            bigtiff.rationals(283, per_cm * Fraction(height_px, self.sizes[0][1])),
            bigtiff.shorts(284, 1),  # PlanarConfiguration: interleaved
            bigtiff.shorts(296, CENTIMETRE),
            bigtiff.longs(322, self.tile_px),
            bigtiff.longs(323, self.tile_px),
            bigtiff.shorts(530, self.chroma_step, self.chroma_step),
            bigtiff.rationals(532, *map(Fraction, REFERENCE_BLACK_WHITE)),
        ]


def _top_fields(description: SlideDescription, subifd_at: list[int]) -> list[TiffField]:
    """Return the fields that only the full-resolution directory has."""
    acquired = parse_utc(description.acquired_utc).strftime("%Y:%m:%d %H:%M:%S")
    fields = [
        bigtiff.text(270, compose_ome_xml(description)),
        bigtiff.text(305, description.software),
        bigtiff.text(306, acquired),
        bigtiff.blob(34675, compose_icc_profile()),
    ]
    if subifd_at:
        fields.append(bigtiff.ifd8s(330, *subifd_at))
    return fields


def pack_slot(value: int) -> bytes:
    """Return the 8 bytes of a slot."""
    return struct.pack("<Q", value)
