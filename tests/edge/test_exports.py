"""DICOM and OME-Zarr: read back by others, checked by the standards' own tools."""

import json
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bifocus.edge.export_dicom import export_dicom
from bifocus.edge.export_zarr import export_zarr
from bifocus.edge.ome_xml import SlideDescription, compose_ome_xml, parse_ome_xml
from bifocus.edge.slide_file import SlideReader, SlideWriter
from bifocus.edge.tile_codec import SlideCodec
from bifocus.errors import SlideFileError
from tests.cli.commands import run_cli

WIDTH_PX, HEIGHT_PX, TILE_PX = 600, 410, 256

DESCRIPTION = SlideDescription(
    width_px=WIDTH_PX,
    height_px=HEIGHT_PX,
    pixel_um=0.2325,
    objective="Plan 20x",
    magnification=20,
    na=0.4,
    instrument="test bench",
    software="bifocus test",
    acquired_utc="2026-03-01T12:00:00+00:00",
    simulated=True,
    wavelengths_um=(0.62, 0.53, 0.46),
    notes={"engine": "physics"},
)


@pytest.fixture
def zarr() -> Iterator[Any]:
    """The package, without the threads that it would keep."""
    package = pytest.importorskip("zarr", reason="needs the extra `zarr`")
    yield package
    import_module("zarr.core.sync").cleanup_resources()


def write_slide(path: Path, codec: SlideCodec = "jpeg") -> Path:
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 256, (HEIGHT_PX, WIDTH_PX, 3), np.uint8)
    label = np.full((40, 60, 3), 200, np.uint8)
    with SlideWriter(
        path, DESCRIPTION, tile_px=TILE_PX, codec=codec, label=label
    ) as writer:
        for row, column in np.ndindex(2, 3):
            top, left = row * TILE_PX, column * TILE_PX
            tile = picture[top : top + TILE_PX, left : left + TILE_PX]
            writer.write_tile(row, column, tile)
    return path


def test_a_description_comes_back_from_its_text() -> None:
    assert parse_ome_xml(compose_ome_xml(DESCRIPTION)) == DESCRIPTION
    for text in ("<OME/>", "no XML"):
        with pytest.raises(SlideFileError, match="OME-XML"):
            parse_ome_xml(text)


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["jpeg", "lossless"])
def test_dicom_has_the_same_pixels_and_our_metadata(
    tmp_path: Path, codec: SlideCodec
) -> None:
    pytest.importorskip("wsidicomizer", reason="needs the extra `dicom`")
    wsidicom = pytest.importorskip("wsidicom")
    slide = write_slide(tmp_path / "slide.ome.tiff", codec)
    try:
        files = export_dicom(slide, tmp_path / "dicom")
    except SlideFileError as error:
        if "libturbojpeg" in str(error):
            pytest.skip(str(error))
        raise
    # Three levels; macro and label are JPEG.
    assert len(files) == (5 if codec == "jpeg" else 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with (
            wsidicom.WsiDicom.open(tmp_path / "dicom") as read,
            SlideReader(slide) as ours,
        ):
            sizes = [(level.size.width, level.size.height) for level in read.levels]
            assert sizes == list(ours.levels)
            for level, size in enumerate(sizes):
                region = read.read_region((0, 0), level, size).convert("RGB")
                expected = ours.read_level(level).astype(int)
                # Two decoders of one JPEG may round differently.
                assert np.abs(np.asarray(region) - expected).max() <= 2 * (
                    codec == "jpeg"
                )
            assert read.levels[0].mpp.width == pytest.approx(0.2325)
            dataset = read.levels[0].datasets[0]
            path = dataset.OpticalPathSequence[0]
            assert path.ICCProfile.rstrip(b"\0") == ours.read_icc_profile()
            assert float(path.ObjectiveLensPower) == 20
            assert dataset.ManufacturerModelName == "test bench"
            assert "SIMULATED" in dataset.SeriesDescription
            assert dataset.LossyImageCompression == ("01" if codec == "jpeg" else "00")
    tool = shutil.which("dciodvfy")
    if not tool:
        pytest.skip("dciodvfy is not here: Debian's dicom3tools")
    for file in files:
        done = subprocess.run(
            [tool, str(file)], capture_output=True, text=True, check=False
        )
        assert "Error" not in done.stderr + done.stdout


def test_dicom_into_a_full_folder_is_refused(tmp_path: Path) -> None:
    slide = write_slide(tmp_path / "slide.ome.tiff")
    with pytest.raises(SlideFileError, match="not empty"):
        export_dicom(slide, tmp_path)


def test_zarr_has_the_same_pixels_and_scales(tmp_path: Path, zarr: Any) -> None:
    slide, out = write_slide(tmp_path / "slide.ome.tiff"), tmp_path / "s.ome.zarr"
    assert export_zarr(slide, out) == ["0", "1", "2"]
    group = zarr.open_group(out, mode="r")
    described = json.loads((out / "zarr.json").read_text())["attributes"]["ome"]
    assert described["version"] == "0.5"
    (multiscale,) = described["multiscales"]
    assert [axis["name"] for axis in multiscale["axes"]] == ["c", "y", "x"]
    with SlideReader(slide) as reader:
        for level, dataset in enumerate(multiscale["datasets"]):
            array = group[dataset["path"]][:]
            np.testing.assert_array_equal(
                np.moveaxis(array, 0, -1), reader.read_level(level)
            )
            (transform,) = dataset["coordinateTransformations"]
            # What the pixels span on the glass is the same at every level.
            span_um = np.multiply(transform["scale"], array.shape)
            assert span_um[1:] == pytest.approx(
                [0.2325 * HEIGHT_PX, 0.2325 * WIDTH_PX], rel=1e-6
            )
    with pytest.raises(SlideFileError, match="exists already"):
        export_zarr(slide, out)


@pytest.mark.usefixtures("zarr")
def test_the_command_writes_what_a_scan_folder_holds(tmp_path: Path) -> None:
    write_slide(tmp_path / "slide.ome.tiff")
    out = tmp_path / "slide.ome.zarr"
    outcome = run_cli("convert", tmp_path, "--to", "zarr", "-o", out, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.document["format"] == "zarr"
    assert all(Path(file).is_dir() for file in outcome.document["files"])
    again = run_cli("convert", tmp_path, "--to", "zarr", "-o", out)
    assert again.fails(1, "exists already")
    assert run_cli("convert", tmp_path, "--to", "svs", "-o", out).code == 2
