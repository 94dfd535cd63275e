"""The scan folder: lossless pictures, whole or not at all, and one scan a folder."""

import errno
import io
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bifocus.edge.journal import Journal
from bifocus.edge.scan_folder import ScanFolder, read_png, write_png
from bifocus.errors import SlideFileError
from bifocus.records import UInt8Image


@pytest.fixture
def folder(tmp_path: Path) -> ScanFolder:
    folder = ScanFolder(tmp_path / "new" / "scan")
    folder.create()
    return folder


@pytest.fixture
def picture() -> UInt8Image:
    return np.random.default_rng(1).integers(0, 256, (70, 90, 3), dtype=np.uint8)


def test_shots_come_back_bit_for_bit(folder: ScanFolder, picture: UInt8Image) -> None:
    relative = folder.save_raw("r000_c001_minus", picture)
    assert relative == "raw/r000_c001_minus.png"
    assert np.array_equal(folder.load_raw(relative), picture)
    # Another reader sees the same colours in the same order.
    with Image.open(folder.root / relative) as image:
        assert image.mode == "RGB"
        assert np.array_equal(np.asarray(image), picture)


def test_fused_tiles_come_and_go(folder: ScanFolder, picture: UInt8Image) -> None:
    crc = folder.save_fused(2, 13, picture)
    assert crc == zlib.crc32(picture.tobytes())
    assert np.array_equal(folder.load_fused(2, 13), picture)
    kept = folder.find_fused(2, 13, crc)
    assert kept is not None
    assert np.array_equal(kept, picture)
    folder.remove_fused()
    folder.remove_fused()
    assert not folder.fused.exists()
    with pytest.raises(SlideFileError, match=r"r002_c013\.npy: cannot read"):
        folder.load_fused(2, 13)


def test_a_fused_tile_may_be_a_view(folder: ScanFolder, picture: UInt8Image) -> None:
    turned = picture.transpose(1, 0, 2)[:, ::-1]
    crc = folder.save_fused(0, 0, turned)
    assert crc == zlib.crc32(turned.tobytes())
    assert np.array_equal(folder.load_fused(0, 0), turned)


@pytest.mark.parametrize("keep", [0, 5, 40, 500])
def test_a_torn_fused_tile_is_not_found(
    folder: ScanFolder, picture: UInt8Image, keep: int
) -> None:
    """As a power cut leaves it: the file was not synced, it may be of any length."""
    crc = folder.save_fused(1, 2, picture)
    path = folder.fused / "r001_c002.npy"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(SlideFileError, match="damaged"):
        folder.load_fused(1, 2)
    assert folder.find_fused(1, 2, crc) is None


def test_a_fused_tile_of_zeros_is_not_found(
    folder: ScanFolder, picture: UInt8Image
) -> None:
    """A file system may bring the length to the disk, and not the content."""
    crc = folder.save_fused(1, 2, picture)
    path = folder.fused / "r001_c002.npy"
    content = path.read_bytes()
    path.write_bytes(content[:128] + bytes(len(content) - 128))
    assert folder.find_fused(1, 2, crc) is None
    path.write_bytes(bytes(len(content)))
    assert folder.find_fused(1, 2, crc) is None


class FailingStream(io.FileIO):
    """A disk that takes ten bytes and then is full."""

    def write(self, data: Any) -> int:
        super().write(bytes(data[:10]))
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_no_half_picture(
    folder: ScanFolder, picture: UInt8Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_failing(path: Path, mode: str) -> FailingStream:
        return FailingStream(path, mode)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", open_failing)
        with pytest.raises(SlideFileError, match=r"tile\.png: cannot write .* bytes"):
            folder.save_raw("tile", picture)
    assert list(folder.raw.iterdir()) == []


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_an_older_picture_survives_a_failing_disk(
    folder: ScanFolder,
    picture: UInt8Image,
    monkeypatch: pytest.MonkeyPatch,
    failing: str,
) -> None:
    relative = folder.save_raw("tile", picture)

    def refuse(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os if failing == "fsync" else Path, failing, refuse)
        with pytest.raises(SlideFileError, match="Input/output error"):
            folder.save_raw("tile", 255 - picture)
    assert np.array_equal(folder.load_raw(relative), picture)
    assert [path.name for path in folder.raw.iterdir()] == ["tile.png"]


def test_shots_are_synced_before_they_get_their_name(
    folder: ScanFolder, picture: UInt8Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First the content, then the name, then the folder that holds the name."""
    events: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def note_fsync(descriptor: int) -> None:
        events.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def note_replace(path: Path, target: Path) -> Path:
        events.append("replace")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_replace)
    folder.save_raw("tile", picture)
    assert events == ["tile.png.partial", "replace", "raw"]


def test_a_second_scan_needs_another_folder(folder: ScanFolder) -> None:
    folder.create()  # nothing scanned yet: as after a refusal of the devices
    with Journal(folder.journal):
        pass
    with pytest.raises(SlideFileError, match="holds a scan already"):
        ScanFolder(folder.root).create()


def test_a_file_in_the_way_is_told(tmp_path: Path, picture: UInt8Image) -> None:
    (tmp_path / "scan").write_text("a note")
    with pytest.raises(SlideFileError, match="cannot make the scan folder"):
        ScanFolder(tmp_path / "scan").create()
    with pytest.raises(SlideFileError, match="cannot write"):
        write_png(tmp_path / "scan" / "tile.png", picture)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(SlideFileError, match="cannot make the scan folder"):
            ScanFolder(tmp_path / "scan").create()
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("keep", [0, 30, 2000])
def test_a_damaged_picture_is_told(
    tmp_path: Path, picture: UInt8Image, keep: int
) -> None:
    path = tmp_path / "tile.png"
    write_png(path, picture)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(SlideFileError, match="damaged"):
        read_png(path)
