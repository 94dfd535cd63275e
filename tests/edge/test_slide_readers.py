"""Every layout and codec in every reader, also those that are programs of their own.

OpenSlide 3.4.1 comes with Debian (openslide-tools) and Bio-Formats needs Java; where
they are missing the tests skip and say so. Bio-Formats itself (GPL, for tests only) is
taken once from the source package of ashlar, which carries it, into `.venv-peers/`;
BIFOCUS_BIOFORMATS_JAR names another one.
"""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import ome_types
import openslide
import pytest
import tifffile

from bifocus.edge.slide_fields import SlideLayout
from bifocus.edge.slide_file import (
    ChromaSubsampling,
    SlideDescription,
    SlideReader,
    SlideWriter,
)
from bifocus.edge.tile_codec import SlideCodec
from bifocus.errors import SlideFileError
from bifocus.records import UInt8Image

WIDTH_PX, HEIGHT_PX, TILE_PX = 701, 500, 128
SIZES = ((701, 500), (351, 250), (176, 125), (88, 63))
KINDS: list[tuple[SlideLayout, SlideCodec, ChromaSubsampling]] = [
    ("hybrid", "jpeg", "420"),
    ("hybrid", "jpeg", "444"),
    ("hybrid", "lossless", "444"),
    ("subifd", "jpeg", "444"),
    ("chain", "lossless", "444"),
]
NOTES = {"r000_c000": "status=captured focus_um=12.5"}
ROOT = Path(__file__).parents[2]
ASHLAR = "ashlar==1.20.0"  # carries Bio-Formats 8.5.0


def paint() -> UInt8Image:
    """Colour that changes slowly: chroma subsampling costs little, a swap shows."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
    size = (WIDTH_PX, HEIGHT_PX)
    return np.asarray(cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC), np.uint8)


PICTURE = paint()
LABEL = PICTURE[:50, :90].copy()


class Written:
    """A slide, and what it was written with."""

    def __init__(
        self,
        folder: Path,
        layout: SlideLayout,
        codec: SlideCodec,
        colour: ChromaSubsampling,
    ) -> None:
        self.layout = layout
        self.has_beside = layout != "chain"
        # One grey level is what a decoder may round differently.
        self.worst = 0.01 if codec == "lossless" else 1.5
        self.path = folder / "slide.ome.tiff"
        description = SlideDescription(
            width_px=WIDTH_PX,
            height_px=HEIGHT_PX,
            pixel_um=0.2325,
            objective="Plan Achromat 20x",
            magnification=20,
            na=0.4,
            instrument="test bench",
            software="bifocus test",
            acquired_utc="2026-03-01T12:00:00Z",
            simulated=True,
            wavelengths_um=(0.62, 0.53, 0.46),
            notes={"engine": "physics", "profile_sha256": "0" * 64},
        )
        with SlideWriter(
            self.path,
            description,
            tile_px=TILE_PX,
            layout=layout,
            codec=codec,
            chroma_subsampling=colour,
            jpeg_quality=95,
            label=LABEL,
        ) as writer:
            assert writer.levels == SIZES
            for row in range(4):
                for column in range(6):
                    top, left = row * TILE_PX, column * TILE_PX
                    tile = PICTURE[top : top + TILE_PX, left : left + TILE_PX]
                    writer.write_tile(row, column, tile)
            writer.close(NOTES)


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def written(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Written:
    return Written(tmp_path_factory.mktemp("slide"), *request.param)


def check(read: UInt8Image, expected: UInt8Image, worst: float) -> None:
    """Compare the mean of the differences: a wrong conversion is off by tens."""
    difference = np.abs(read.astype(int) - expected.astype(int))
    assert difference.mean() <= worst
    assert difference.max() <= (0 if worst < 0.1 else 60)


def test_ours(written: Written) -> None:
    with SlideReader(written.path) as reader:
        assert reader.levels == SIZES
        check(reader.read_level(0), PICTURE, written.worst)
        jpeg = reader.read_tile_jpeg(0, 0, 0)
        offsets = reader.read_offsets(0)
    shown = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert shown is not None
    check(np.asarray(shown[..., ::-1]), PICTURE[:TILE_PX, :TILE_PX], 1.5)
    assert len(np.unique(offsets)) == 24


def test_openslide_4(written: Written) -> None:
    with openslide.OpenSlide(written.path) as slide:
        expected = SIZES[:1] if written.layout == "subifd" else SIZES
        assert slide.level_dimensions == expected
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.2325)
        assert slide.color_profile is not None
        read = np.array(slide.read_region((0, 0), 0, SIZES[0]).convert("RGB"))
    check(read, PICTURE, written.worst)


def test_openslide_3(written: Written, tmp_path: Path) -> None:
    tool = shutil.which("openslide-write-png")
    if not tool:
        pytest.skip("needs Debian's openslide-tools (OpenSlide 3.4.1)")
    level = 0 if written.layout == "subifd" else 2
    out, size = tmp_path / "out.png", SIZES[level]
    place = ["0", "0", str(level), str(size[0]), str(size[1])]
    subprocess.run([tool, str(written.path), *place, str(out)], check=True)
    read = cv2.imread(str(out))
    assert read is not None
    expected = cv2.resize(PICTURE, size, interpolation=cv2.INTER_AREA)
    check(np.asarray(read[..., ::-1]), np.asarray(expected), 2.0)
    shown = subprocess.run(
        ["openslide-show-properties", str(written.path)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    n_levels = 1 if written.layout == "subifd" else len(SIZES)
    assert f"openslide.level-count: '{n_levels}'" in shown


def test_tifffile(written: Written) -> None:
    with tifffile.TiffFile(written.path) as tiff:
        slide, *beside = tiff.series
        check(slide.levels[0].asarray(), PICTURE, written.worst)
        n_levels = 1 if written.layout == "chain" else len(SIZES)
        assert [level.shape[1::-1] for level in slide.levels] == [*SIZES[:n_levels]]
        pages: Any = tiff.pages  # Any: tifffile's types change with its version
        tags = pages[0].tags
        assert tags["WhitePoint"].value == (3127, 10_000, 329, 1000)
        ome = ome_types.from_xml(str(tiff.ome_metadata))
        if written.has_beside:
            macro, label = (series.asarray() for series in beside)
            assert macro.shape == (63, 88, 3)
            check(label, LABEL, 1.5)
    ome_types.validate_xml(str(ome.to_xml()))
    names = [image.name for image in ome.images]
    assert names == ["slide", *(["macro", "label"] * written.has_beside)]
    texts = [
        {m.k: m.value for m in annotation.value.ms}
        for annotation in ome.structured_annotations  # type: ignore[union-attr]
        if isinstance(annotation, ome_types.model.MapAnnotation)
    ]
    assert texts[0]["engine"] == "physics"
    assert texts[0]["simulated"] == "true"
    assert texts[1] == NOTES


READ_WITH_LIBVIPS = """
import sys, numpy, pyvips
image = pyvips.Image.new_from_file(sys.argv[1])
numpy.save(sys.argv[2], image.numpy())
names = ("n-pages", "n-subifds")
print(*(image.get(name) if name in image.get_fields() else 0 for name in names))
"""


def test_libvips(written: Written, tmp_path: Path) -> None:
    # In a process of its own: it logs, from threads that Python does not know, that
    # it has found out how the colours of a JPEG are sampled.
    done = subprocess.run(
        [sys.executable, "-c", READ_WITH_LIBVIPS, str(written.path), "out.npy"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    n_pages, n_subifds = map(int, done.stdout.split())
    check(np.load(tmp_path / "out.npy"), PICTURE, written.worst)
    if written.layout == "chain":
        assert n_pages == len(SIZES)
    else:
        assert n_subifds == len(SIZES) - 1


@pytest.fixture(scope="session")
def bio_formats(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that starts Bio-Formats' tools, without the tool's name."""
    java = shutil.which("java")
    if not java:
        pytest.skip("Bio-Formats needs Java")
    named = os.environ.get("BIFOCUS_BIOFORMATS_JAR")
    kept = ROOT / ".venv-peers" / "bio-formats" / "bioformats_package.jar"
    jar = Path(named) if named else kept
    if not jar.is_file():
        _fetch_jar(jar, tmp_path_factory.mktemp("ashlar"))
    return [java, "-cp", str(jar)]


def _fetch_jar(jar: Path, folder: Path) -> None:
    # Only the archive is wanted: nothing of the package is built or run.
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--retries", "1"]
    command = [sys.executable, "-m", "pip", "download", *options, "-d", str(folder)]
    done = subprocess.run(
        [*command, "--no-binary", ":all:", ASHLAR],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    archives = list(folder.glob("*.tar.gz"))
    if not archives:
        text = f"no Bio-Formats from {ASHLAR}: {done.stderr.strip()[-300:]}"
        if os.environ.get("BIFOCUS_PEERS") == "required":
            pytest.fail(text)
        pytest.skip(text)
    with tarfile.open(archives[0]) as archive:
        (name,) = [
            n for n in archive.getnames() if n.endswith("bioformats_package.jar")
        ]
        member = archive.extractfile(name)
        assert member is not None
        jar.parent.mkdir(parents=True, exist_ok=True)
        partial = jar.with_suffix(".partial")
        partial.write_bytes(member.read())
        partial.replace(jar)


@pytest.mark.slow
def test_bio_formats(written: Written, bio_formats: list[str], tmp_path: Path) -> None:
    """Its own description and check, and the pixels that it converts."""
    info = [*bio_formats, "loci.formats.tools.ImageInfo"]
    flags = ["-nopix", "-noflat", "-omexml", "-validate"]
    answer = subprocess.run(
        [*info, *flags, str(written.path)], capture_output=True, text=True, check=True
    ).stdout
    assert "[OME-TIFF]" in answer
    assert "No validation errors found" in answer
    assert "malformed" not in answer
    n_series = 3 if written.has_beside else 1
    assert f"Series count = {n_series}" in answer
    # The sign of micro must survive as it is written, not as a reference.
    assert 'PhysicalSizeX="0.2325" PhysicalSizeXUnit="µm"' in answer
    if written.layout != "chain":
        assert f"Resolutions = {len(SIZES)}" in answer
    out = tmp_path / "series%s.ome.tiff"
    convert = [*bio_formats, "loci.formats.tools.ImageConverter"]
    subprocess.run(
        [*convert, str(written.path), str(out)], capture_output=True, check=True
    )
    check(_read_converted(tmp_path / "series0.ome.tiff"), PICTURE, written.worst)
    if written.has_beside:  # behind the levels, which count as series here
        macro, label = (
            _read_converted(tmp_path / f"series{len(SIZES) + i}.ome.tiff")
            for i in range(2)
        )
        assert macro.shape == (63, 88, 3)
        check(label, LABEL, 1.5)


def _read_converted(path: Path) -> UInt8Image:
    """Return a converted image, one file of several, with its colours last."""
    with tifffile.TiffFile(path, is_ome=False) as tiff:
        planes = [page.asarray() for page in tiff.pages]
    image = np.squeeze(np.stack(planes))
    is_planar = image.shape[0] == 3 and image.dtype == np.uint8
    return np.moveaxis(image, 0, -1) if is_planar else image


def test_the_slide_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.tiff"
    tifffile.imwrite(path, PICTURE, bigtiff=True, tile=(128, 128), compression="zstd")
    with pytest.raises(SlideFileError, match="neither JPEG nor Deflate"):
        SlideReader(path)
