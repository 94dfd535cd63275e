"""Tissue: splits by source, soft files left out, crops with texture, stain jitter."""

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from bifocus.errors import ConfigError, ImageFileError
from bifocus.model.texture_files import (
    SOURCES,
    compute_data_hash,
    find_data_dir,
    list_textures,
)
from bifocus.model.textures import compute_transmission, draw_texture
from bifocus.records import FloatImage, UInt8Image
from bifocus.sharpness import measure_sharpness
from tests.model.imaging_specs import plain_spec
from tests.model.tissue_folder import make_tissue_folder


def test_a_source_belongs_to_one_split() -> None:
    uses = [(source.folder, source.only) for source in SOURCES]
    assert len(set(uses)) == len(uses)
    folders = [source.folder for source in SOURCES]
    assert len(set(folders)) == len(folders)


def test_no_slide_on_two_sides(data_dir: Path) -> None:
    splits = [list_textures(data_dir, s) for s in ("train", "validation", "test")]
    slides = [{file.slide for file in files} for files in splits]
    assert not slides[0] & slides[1]
    assert not slides[0] & slides[2]
    assert not slides[1] & slides[2]
    assert all(slides)


def test_real_soft_and_damaged_files_are_left_out(data_dir: Path) -> None:
    files = [
        f for s in ("train", "validation", "test") for f in list_textures(data_dir, s)
    ]
    names = {file.path.name for file in files}
    assert "brecahad_10027.jpg" not in names  # Brenner 70.5
    assert not any(name.startswith("cmu1_") for name in names)
    assert not {f.folder for f in files} & {
        "dsb2018-stained-tissue",
        "mosquito-midgut-two-plane",
    }


def test_soft_files_are_left_out(tmp_path: Path) -> None:
    make_tissue_folder(tmp_path, brenner=79.0)
    with pytest.raises(ConfigError, match="no image of the train split"):
        list_textures(tmp_path, "train")
    make_tissue_folder(tmp_path, brenner=81.0)
    assert len(list_textures(tmp_path, "train")) == 3


def test_hash_follows_the_contents(tmp_path: Path) -> None:
    make_tissue_folder(tmp_path)
    before = compute_data_hash(list_textures(tmp_path, "train"))
    assert before == compute_data_hash(list_textures(tmp_path, "train"))
    make_tissue_folder(tmp_path, seed=1)
    assert before != compute_data_hash(list_textures(tmp_path, "train"))


def test_draws_are_seeded_and_have_texture(tmp_path: Path) -> None:
    make_tissue_folder(tmp_path)
    files = list_textures(tmp_path, "train")
    drawn = [
        draw_texture(files, plain_spec(), 64, np.random.default_rng(3))
        for _ in range(2)
    ]
    np.testing.assert_array_equal(drawn[0][0], drawn[1][0])
    assert drawn[0][1] == drawn[1][1]
    pixels = drawn[0][0]
    assert pixels.shape == (64, 64, 3)
    assert pixels.dtype == np.float32
    assert 0 <= float(pixels.min()) < 0.8 < float(pixels.max()) <= 1


def test_blank_glass_and_small_images_are_refused(tmp_path: Path) -> None:
    make_tissue_folder(tmp_path, contrast=0.0)
    files = list_textures(tmp_path, "train")
    with pytest.raises(ImageFileError, match="no crop of 64 px"):
        draw_texture(files, plain_spec(), 64, np.random.default_rng(0))
    with pytest.raises(ImageFileError, match="no crop of 4000 px"):
        draw_texture(files, plain_spec(), 4000, np.random.default_rng(0))


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    make_tissue_folder(tmp_path)
    files = list_textures(tmp_path, "train")
    for file in files:
        file.path.write_bytes(b"not an image")
    with pytest.raises(ImageFileError, match=r"brecahad_\d+\.png"):
        draw_texture(files, plain_spec(), 64, np.random.default_rng(0))


def test_missing_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BIFOCUS_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="BIFOCUS_DATA"):
        find_data_dir()


def test_stain_turn_keeps_the_amount_of_stain() -> None:
    rng = np.random.default_rng(0)
    stored = rng.integers(100, 200, (32, 32, 3), dtype=np.uint8)
    stored = np.asarray(cv2.blur(stored, (3, 3)), dtype=np.uint8)
    plain = compute_transmission(stored, plain_spec())
    turned = compute_transmission(stored, plain_spec(stain_turn_rad=0.2))
    density, turned_density = -np.log(plain).sum(-1), -np.log(turned).sum(-1)
    # A turn about grey keeps the sum over colours, where nothing was clipped at clear.
    inside = turned.max(axis=-1) < 1
    np.testing.assert_allclose(density[inside], turned_density[inside], rtol=1e-3)
    assert np.abs(plain - turned).max() > 0.01


def test_stain_gain_scales_density() -> None:
    stored = np.full((8, 8, 3), 128, dtype=np.uint8)
    stored[0] = 255
    spec = dataclasses.replace(plain_spec(), stain_gain=(2.0, 1.0, 0.5))
    light = compute_transmission(stored, spec)[4, 4]
    half = 128 / 255
    np.testing.assert_allclose(light, [half**2, half, half**0.5], rtol=1e-3)


def test_sharpened_compressed_and_laid_over_each_other(tmp_path: Path) -> None:
    make_tissue_folder(tmp_path)
    files = list_textures(tmp_path, "train")

    def draw(**changes: Any) -> FloatImage:
        spec = dataclasses.replace(plain_spec(), texture_scale=1.0, **changes)
        return draw_texture(files, spec, 96, np.random.default_rng(3))[0]

    plain = draw()
    # Glass is put to 1 after sharpening, hence the tolerance.
    assert (
        measure_sharpness(_stored(draw(texture_sharpen=1.0)))[0]
        > 1.2 * (measure_sharpness(_stored(plain))[0])
    )
    compressed = draw(texture_jpeg=60)
    assert 0.001 < float(np.abs(compressed - plain).mean()) < 0.05
    # What lies over it can only take light away.
    assert np.all(draw(texture_blend=0.5) <= plain + 1e-6)
    assert float(draw(texture_blend=0.5).mean()) < float(plain.mean())


def test_faint_and_grainy_tissue(tmp_path: Path) -> None:
    make_tissue_folder(tmp_path)
    files = list_textures(tmp_path, "train")

    def draw_density(**changes: Any) -> FloatImage:
        spec = dataclasses.replace(plain_spec(), **changes)
        light, _ = draw_texture(files, spec, 96, np.random.default_rng(0))
        density: FloatImage = -np.log(np.maximum(light, 1e-3))
        return density

    plain = draw_density()
    # Half the stain is half the optical density (Lambert and Beer).
    faint = draw_density(texture_strength=0.5)
    np.testing.assert_allclose(faint, plain / 2, atol=1e-5)
    grainy = draw_density(texture_grain=0.2, texture_grain_px=0.8)
    stained = (plain.min(axis=2) > 0.1) & (plain.max(axis=2) < 3)
    share = grainy[stained] / plain[stained]
    assert float(share.std()) == pytest.approx(0.2, rel=0.05)
    assert float(share.mean()) == pytest.approx(1, abs=0.02)
    # The grain has no colour of its own.
    np.testing.assert_allclose(share[:, 0], share[:, 1], atol=1e-3)


def test_noise_of_the_scanner_has_the_colour_and_the_strength_asked_for(
    tmp_path: Path,
) -> None:
    make_tissue_folder(tmp_path)
    files = list_textures(tmp_path, "train")

    def draw(**changes: Any) -> FloatImage:
        spec = dataclasses.replace(plain_spec(), **changes)
        return draw_texture(files, spec, 96, np.random.default_rng(0))[0]

    plain = draw()
    inside = (plain.min(axis=2) > 0.2) & (plain.max(axis=2) < 0.8)

    def measure(levels: float, colour: float) -> FloatImage:
        noisy = draw(
            texture_noise=levels, texture_noise_px=0.3, texture_noise_colour=colour
        )
        return np.asarray((noisy - plain)[inside], dtype=np.float32)

    for colour, correlation in ((0.0, 1.0), (0.5, 0.5), (1.0, 0.0)):
        noise = measure(4.0, colour)
        measured = np.corrcoef(noise[:, 0], noise[:, 2])[0, 1]
        assert measured == pytest.approx(correlation, abs=0.08)
        # Glass, at most 255 levels, is put to 1: levels become no less than 1/255.
        assert 0.9 < 255 * float(noise.std()) / 4 < 1.5
        assert noise.std() / measure(2.0, colour).std() == pytest.approx(2, rel=0.1)


def _stored(light: FloatImage) -> UInt8Image:
    return np.asarray(np.rint(255 * light), dtype=np.uint8)
