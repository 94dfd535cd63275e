"""Power cuts on a slide that grows: at any moment it opens, and no tile is broken.

The model of a disk: after a sync everything before it is there. What was written since
is there sector by sector, each sector (512 bytes) as it was at a moment of its own; and
the file's length, too, is that of any moment since.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
import tifffile

from bifocus.edge.slide_fields import SlideLayout
from bifocus.edge.slide_file import SlideDescription, SlideReader, SlideWriter
from bifocus.edge.tile_codec import SlideCodec

TILE_PX = 32
SECTOR_BYTES = 512
N_ROWS, N_COLUMNS = 5, 7
SYNC = (-1, b"")


@dataclass
class Journal:
    """A disk that remembers each write, in order; stands in for `DiskFile`."""

    head: bytes = b""
    n_start_bytes: int = 0
    events: list[tuple[int, bytes]] = field(default_factory=list)

    def create(self, path: Path, head: bytes, least_bytes: int) -> "Journal":
        self.head = head
        self.n_start_bytes = max(least_bytes, len(head))
        return self

    def write_at(self, start: int, payload: bytes) -> None:
        self.events.append((start, payload))

    def sync(self) -> None:
        self.events.append(SYNC)

    def truncate(self, n_bytes: int) -> None:
        # The one cut is at the end; it is safe because everything is on disk then.
        assert self.events[-1] == SYNC

    def close(self) -> None:
        pass

    def replay(self, n_events: int) -> bytearray:
        """Return the file after `n_events`, all of them on disk."""
        image = bytearray(self.head.ljust(self.n_start_bytes, b"\0"))
        for start, payload in self.events[:n_events]:
            if start >= 0:
                self._apply(image, start, payload)
        return image

    def cut_power(self, n_events: int, rng: np.random.Generator) -> bytes:
        """Return what a power cut after `n_events` may leave."""
        synced = [i for i in range(n_events) if self.events[i] == SYNC]
        i_last_sync = synced[-1] if synced else 0
        image = self.replay(i_last_sync)
        n_synced_bytes = len(image)
        moments: dict[int, int] = {}
        for i_event in range(i_last_sync, n_events):
            for sector, start, part in split_by_sector(*self.events[i_event]):
                moment = moments.setdefault(
                    sector, int(rng.integers(i_last_sync, n_events + 1))
                )
                if i_event < moment:
                    self._apply(image, start, part)
        n_bytes = int(rng.integers(n_synced_bytes, len(image) + 1))
        return bytes(image[:n_bytes])

    @staticmethod
    def _apply(image: bytearray, start: int, payload: bytes) -> None:
        image.extend(bytes(max(0, start + len(payload) - len(image))))
        image[start : start + len(payload)] = payload


def split_by_sector(start: int, payload: bytes) -> Iterator[tuple[int, int, bytes]]:
    while payload:
        sector = start // SECTOR_BYTES
        n_bytes = min(len(payload), (sector + 1) * SECTOR_BYTES - start)
        yield sector, start, payload[:n_bytes]
        start, payload = start + n_bytes, payload[n_bytes:]


KINDS: list[tuple[SlideLayout, SlideCodec]] = [
    ("hybrid", "jpeg"),
    ("hybrid", "lossless"),
    ("subifd", "jpeg"),
    ("chain", "lossless"),
]


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def journal(request: pytest.FixtureRequest) -> Journal:
    """A whole scan of 35 noisy tiles of many lengths, flat ones among them."""
    layout, codec = request.param
    journal = Journal()
    description = SlideDescription(
        width_px=N_COLUMNS * TILE_PX - 5,
        height_px=N_ROWS * TILE_PX - 9,
        pixel_um=0.5,
        objective="10x",
        magnification=10,
        na=0.25,
        instrument="test bench",
        software="bifocus test",
        acquired_utc="2026-03-01T12:00:00Z",
        simulated=True,
        wavelengths_um=(0.62, 0.53, 0.46),
    )
    rng = np.random.default_rng(7)
    with SlideWriter(
        Path("in-memory"),
        description,
        tile_px=TILE_PX,
        layout=layout,
        codec=codec,
        sync_every=4,
        label=np.full((20, 30, 3), 200, np.uint8),
        open_file=journal.create,
    ) as writer:
        for row, column in np.ndindex(N_ROWS, N_COLUMNS):
            roughness = int(rng.choice([1, 20, 250]))
            tile = rng.integers(0, roughness, (TILE_PX, TILE_PX, 3), dtype=np.uint8)
            writer.write_tile(row, column, tile + np.uint8(row))
        writer.close({f"tile {i}": f"focus_um={i}" for i in range(40)})
    return journal


def read_slots(path: Path) -> list[tuple[str, int, int]]:
    """Return name, offset and count of each slot, of both directories of a level."""
    with tifffile.TiffFile(path) as tiff:
        chain: Any = tiff.pages  # Any: tifffile's types change with its version
        pages = {f"chain {i}": page for i, page in enumerate(chain)}
        subifds = chain[0].pages or ()
        pages |= {f"sub {i + 1}": page for i, page in enumerate(subifds)}
        return [
            (f"{name} tile {i}", offset, count)
            for name, page in pages.items()
            for i, (offset, count) in enumerate(
                zip(page.dataoffsets, page.databytecounts, strict=True)
            )
        ]


def end_of_stream(stream: bytes) -> bytes:
    """Return what a decoder reads of the bytes of a slot."""
    # A grey tile may be read with the longer count of the tile to come.
    if stream.startswith(b"\xff\xd8"):
        return stream[: stream.find(b"\xff\xd9") + 2]
    inflate = zlib.decompressobj()
    inflate.decompress(stream)
    return stream[: len(stream) - len(inflate.unused_data)] if inflate.eof else b""


def find_broken_tiles(path: Path, image: bytes, final: bytes) -> list[str]:
    """Return each slot whose bytes are not those of the finished file."""
    broken = []
    for name, offset, count in read_slots(path):
        try:
            stream = end_of_stream(image[offset : offset + count])
        except zlib.error:
            stream = b""
        is_whole = offset + count <= len(image) and final.startswith(stream, offset)
        if not (is_whole and stream):
            broken.append(name)
    return broken


def cut_many_times(
    journal: Journal, folder: Path, n_cuts: int
) -> Iterator[tuple[int, Path, bytes]]:
    for seed in range(n_cuts):
        rng = np.random.default_rng(seed)
        n_events = int(rng.integers(0, len(journal.events) + 1))
        image = journal.cut_power(n_events, rng)
        path = folder / f"cut{seed}.ome.tiff"
        path.write_bytes(image)
        yield n_events, path, image
        path.unlink()


@pytest.mark.slow
def test_no_power_cut_breaks_a_tile(journal: Journal, tmp_path: Path) -> None:
    final = bytes(journal.replay(len(journal.events)))
    n_cuts = 750  # 3,000 in all four kinds
    for i_cut, (n_events, path, image) in enumerate(
        cut_many_times(journal, tmp_path, n_cuts)
    ):
        assert find_broken_tiles(path, image, final) == [], f"seed {i_cut}"
        shown = {name: offset for name, offset, _ in read_slots(path)}
        assert promised_offsets(journal, n_events) <= set(shown.values())
        if i_cut % 25 == 0:
            decode_everything(path)


def promised_offsets(journal: Journal, n_events: int) -> set[int]:
    """Return the starts of tiles whose slot was written before the last sync."""
    tiles = {at for at, payload in journal.events if at >= 0 and len(payload) > 8}
    synced = [i for i in range(n_events) if journal.events[i] == SYNC]
    slots = [
        int.from_bytes(payload, "little")
        for _, payload in journal.events[: synced[-1] if synced else 0]
        if len(payload) == 8
    ]
    return tiles & set(slots)


def decode_everything(path: Path) -> None:
    """Read all with ours, tifffile and OpenSlide; each raises on a broken tile."""
    with SlideReader(path) as reader, openslide.OpenSlide(path) as slide:
        assert slide.level_dimensions in (reader.levels, reader.levels[:1])  # subifd
        for level, size in enumerate(slide.level_dimensions):
            ours = reader.read_level(level)
            theirs = slide.read_region((0, 0), level, size).convert("RGB")
            assert np.abs(ours.astype(int) - np.asarray(theirs)).max() <= 2
    with tifffile.TiffFile(path) as tiff:
        assert str(tiff.ome_metadata).rstrip("\0").endswith("</OME>")
        for series in tiff.series:
            assert all(level_of.asarray().size for level_of in series.levels)


def test_the_test_finds_a_writer_without_order(
    journal: Journal, tmp_path: Path
) -> None:
    """The same writes without syncs must break tiles, else the test proves nothing."""
    events = [event for event in journal.events if event != SYNC]
    careless = Journal(journal.head, journal.n_start_bytes, events)
    final = bytes(journal.replay(len(journal.events)))
    n_broken = sum(
        find_broken_tiles(path, image, final) != []
        for _, path, image in cut_many_times(careless, tmp_path, 40)
    )
    assert n_broken > 20


def test_counts_never_shrink_and_slots_are_never_torn(journal: Journal) -> None:
    slots: dict[int, int] = {}
    for at, payload in journal.events:
        if at >= 0 and len(payload) == 8:
            before = slots.get(at, int.from_bytes(journal.head[at : at + 8], "little"))
            slots[at] = int.from_bytes(payload, "little")
            assert slots[at] >= before
            assert at // SECTOR_BYTES == (at + 7) // SECTOR_BYTES


def test_every_final_tile_decodes(journal: Journal, tmp_path: Path) -> None:
    path = tmp_path / "final.ome.tiff"
    path.write_bytes(journal.replay(len(journal.events)))
    decode_everything(path)
    with tifffile.TiffFile(path) as tiff:
        text = str(tiff.ome_metadata)
        names = [series.name for series in tiff.series]
    assert 'K="tile 39">focus_um=39<' in text
    if names != ["slide"]:  # a chain holds nothing else
        assert names == ["slide", "macro", "label"]
