"""The head of a slide file: every directory and table, before the first real tile.

Two readers disagree about pyramids: OpenSlide walks the main chain of directories,
Bio-Formats the SubIFDs of the first. So in the `hybrid` layout each reduced level has
two directories, one in the chain and one SubIFD, that share one pair of tile tables;
`chain` and `subifd` have one kind only. Every slot of the tables starts at one shared
light-grey tile, so the file is complete before it is written.

Between the first level and the others come the images beside the slide: the macro (the
whole slide, small) and the label. OpenSlide passes over them, since they are not tiled.
Bio-Formats leaves reduced levels out when it counts directories, so
that images behind them would not be found.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bifocus.edge import bigtiff
from bifocus.edge.bigtiff import ByteLayout, TiffField
from bifocus.edge.pyramid import Cell, compute_grid
from bifocus.edge.slide_fields import (
    IMAGE_DESCRIPTION,
    STRIP_BYTE_COUNTS,
    STRIP_OFFSETS,
    TILE_BYTE_COUNTS,
    TILE_OFFSETS,
    HeadPlan,
    Picture,
    level_fields,
    picture_fields,
    top_fields,
)


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
    """The bytes that start a slide file, and where what changes later is.

    Attributes
    ----------
    image
        The bytes.
    tables
        Of the levels.
    empty_tile_at
        Position of the shared grey tile.
    picture_tables
        Name of a picture to its table, which has one cell.
    xml_count_at
        Position of the byte count of the ImageDescription; its offset follows.
    """

    image: bytes
    tables: tuple[TileTable, ...]
    empty_tile_at: int
    picture_tables: dict[str, TileTable]
    xml_count_at: int


def compose_head(plan: HeadPlan, ome_xml: str) -> SlideHead:
    """Lay out a whole, valid BigTIFF whose every tile is the empty one.

    Parameters
    ----------
    plan
        What it is to hold.
    ome_xml
        The ImageDescription to start with.
    """
    layout = ByteLayout()
    layout.reserve(bigtiff.HEADER_BYTES)
    places = _reserve_directories(layout, plan)
    empty_at = layout.reserve(len(plan.empty_tile))
    layout.put(empty_at, plan.empty_tile)
    top = top_fields(plan.description, ome_xml, places.subifds)
    tables = tuple(
        _put_level(layout, plan, level, places, empty_at, top if level == 0 else [])
        for level in range(len(plan.sizes))
    )
    picture_tables = {
        picture.name: _put_picture(layout, picture, at, places.follow[at])
        for picture, at in zip(plan.pictures, places.pictures, strict=True)
    }
    bigtiff.put_header(layout, places.chain[0])
    image = layout.to_bytes()
    return SlideHead(
        image=image,
        tables=tables,
        empty_tile_at=empty_at,
        picture_tables=picture_tables,
        xml_count_at=_find_count(image, places.chain[0], IMAGE_DESCRIPTION),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Places:
    """Where the directories lie; `follow` is the next one in the main chain, or 0."""

    chain: list[int]
    subifds: list[int]
    pictures: list[int]
    follow: dict[int, int]


def _reserve_directories(layout: ByteLayout, plan: HeadPlan) -> _Places:
    """Give each directory a sector: an inline slot is then never torn."""

    def reserve(count: int) -> list[int]:
        return [
            layout.reserve(bigtiff.SECTOR_BYTES, align=bigtiff.SECTOR_BYTES)
            for _ in range(count)
        ]

    n_levels = len(plan.sizes)
    chain = reserve(1 if plan.layout == "subifd" else n_levels)
    subifds = reserve(0 if plan.layout == "chain" else n_levels - 1)
    pictures = reserve(len(plan.pictures))
    main = [chain[0], *pictures, *chain[1:]]
    follow = dict(zip(main, [*main[1:], 0], strict=True))
    return _Places(chain=chain, subifds=subifds, pictures=pictures, follow=follow)


def _put_level(
    layout: ByteLayout,
    plan: HeadPlan,
    level: int,
    places: _Places,
    empty_at: int,
    top: list[TiffField],
) -> TileTable:
    """Write the directory, or both, of a level; return where its slots are."""
    n_rows, n_columns = compute_grid(plan.sizes[level], plan.tile_px)
    slots = _slot_fields(layout, n_rows * n_columns, empty_at, len(plan.empty_tile))
    fields = [*level_fields(plan, level), *slots, *top]
    values = []
    if level < len(places.chain):
        at = places.chain[level]
        values.append(_put_directory(layout, at, fields, places.follow[at]))
    if 0 < level <= len(places.subifds):
        values.append(_put_directory(layout, places.subifds[level - 1], fields))
    return TileTable(
        n_rows=n_rows,
        n_columns=n_columns,
        offsets_at=tuple(dict.fromkeys(value[TILE_OFFSETS] for value in values)),
        counts_at=tuple(dict.fromkeys(value[TILE_BYTE_COUNTS] for value in values)),
    )


def _put_picture(
    layout: ByteLayout, picture: Picture, at: int, next_at: int
) -> TileTable:
    """Write a picture that is one strip; return where its one slot is."""
    start = layout.reserve(len(picture.jpeg))
    layout.put(start, picture.jpeg)
    fields = picture_fields(picture, start)
    values = _put_directory(layout, at, fields, next_at)
    return TileTable(
        n_rows=1,
        n_columns=1,
        offsets_at=(values[STRIP_OFFSETS],),
        counts_at=(values[STRIP_BYTE_COUNTS],),
    )


def _put_directory(
    layout: ByteLayout, at: int, fields: Sequence[TiffField], next_at: int = 0
) -> dict[int, int]:
    """Write a directory into its sector; return where each field's values start."""
    if bigtiff.directory_bytes(len(fields)) > bigtiff.SECTOR_BYTES:
        msg = f"{len(fields)} fields do not fit in a sector"
        raise ValueError(msg)
    return bigtiff.put_directory(layout, at, fields, next_at)


def _find_count(image: bytes, directory_at: int, number: int) -> int:
    """Return the position of the value count of a field."""
    (n_fields,) = struct.unpack_from("<Q", image, directory_at)
    for i_field in range(n_fields):
        at = directory_at + 8 + bigtiff.FIELD_BYTES * i_field
        if struct.unpack_from("<H", image, at) == (number,):
            return at + 4
    msg = f"no field {number} in the directory at {directory_at}"
    raise ValueError(msg)


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


def pack_slot(value: int) -> bytes:
    """Return the 8 bytes of a slot."""
    return struct.pack("<Q", value)
