"""The journal: lines come back as written, and readers may look on meanwhile."""

import dataclasses
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bifocus.edge.journal import Journal, TileEntry
from bifocus.errors import SlideFileError
from bifocus.records import FocalOffset, PlacedTile


def entry(number: int) -> TileEntry:
    return TileEntry(
        row=number // 3,
        column=number % 3,
        visit=number,
        x_um=10.5 * number,
        y_um=-3.25,
        focus_um=12.0625,
        status="captured",
        shots=2,
        capture_s=0.5,
        offset=FocalOffset(offset_um=-0.125, sd_um=0.0625, confidence=0.75),
        raw_a=f"raw/{number}_minus.png",
        raw_b=f"raw/{number}_plus.png",
    )


SINGLE = dataclasses.replace(entry(5), offset=None, raw_b=None, status="blank")


def test_lines_come_back_in_the_order_of_the_visits(tmp_path: Path) -> None:
    entries = [entry(number) for number in range(5)]
    path = tmp_path / "scan.sqlite"
    with Journal(path) as journal:
        for one in [SINGLE, *reversed(entries)]:
            journal.add_tile(one)
        journal.set_fused(0, 1, quality=0.5, fuse_s=0.25, sharpness=(1.5, 3.0))
    with Journal(path) as journal:
        lines = list(journal.lines())
    assert [line.entry for line in lines] == [*entries, SINGLE]
    assert lines[1].quality == 0.5
    assert lines[1].fuse_s == 0.25
    assert (lines[1].sharpness_before, lines[1].sharpness_after) == (1.5, 3.0)
    assert lines[0].quality is None


def test_another_connection_reads_while_the_scan_writes(tmp_path: Path) -> None:
    path = tmp_path / "scan.sqlite"
    with Journal(path) as journal, closing(sqlite3.connect(path)) as reader:
        assert reader.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        # A reader in the middle of its transaction neither blocks nor is disturbed.
        reader.execute("BEGIN")
        count = "SELECT count(*) FROM tile"
        assert reader.execute(count).fetchone() == (0,)
        for number in range(3):
            journal.add_tile(entry(number))
        assert reader.execute(count).fetchone() == (0,)
        reader.execute("COMMIT")
        assert reader.execute(count).fetchone() == (3,)


def test_a_tile_is_on_the_disk_when_add_tile_returns(tmp_path: Path) -> None:
    """What a crash leaves: the files as they are, copied without closing anything."""
    path = tmp_path / "scan.sqlite"
    with Journal(path) as journal:
        journal.add_tile(entry(0))
        crashed = tmp_path / "crashed"
        crashed.mkdir()
        for file in tmp_path.glob("scan.sqlite*"):
            (crashed / file.name).write_bytes(file.read_bytes())
    with Journal(crashed / "scan.sqlite") as journal:
        assert [line.entry for line in journal.lines()] == [entry(0)]


def test_a_tile_shot_again_replaces_its_line(tmp_path: Path) -> None:
    again = dataclasses.replace(entry(1), shots=4, focus_um=13.0)
    with Journal(tmp_path / "scan.sqlite") as journal:
        journal.add_tile(entry(1))
        journal.add_tile(again)
        assert [line.entry for line in journal.lines()] == [again]


def test_places_and_properties_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "scan.sqlite"
    placed = PlacedTile(row=0, column=2, x_px=100.25, y_px=-3.5)
    with Journal(path) as journal:
        journal.set("strategy", "stack")
        journal.set("strategy", "two-shot")
        journal.add_tile(entry(2))
        journal.set_placed((placed,))
    with closing(sqlite3.connect(path)) as reader:
        assert reader.execute("SELECT key, value FROM scan").fetchall() == [
            ("strategy", "two-shot")
        ]
        where = "SELECT mosaic_x_px, mosaic_y_px FROM tile"
        assert reader.execute(where).fetchall() == [(100.25, -3.5)]


def test_what_is_no_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.sqlite"
    path.write_bytes(b"not a database, but a letter to one " * 30)
    with pytest.raises(SlideFileError, match=r"scan\.sqlite: cannot open"):
        Journal(path)
    with pytest.raises(SlideFileError, match="cannot open"):
        Journal(tmp_path / "missing" / "scan.sqlite")


def test_a_full_disk_is_told_with_the_path(tmp_path: Path) -> None:
    path = tmp_path / "scan.sqlite"
    with Journal(path) as journal:
        journal.add_tile(entry(0))
        journal._database.execute("PRAGMA max_page_count=1")
        with pytest.raises(SlideFileError, match=r"scan\.sqlite: cannot write.*full"):
            for number in range(1, 2000):
                journal.add_tile(entry(number))
        assert entry(0) in [line.entry for line in journal.lines()]
