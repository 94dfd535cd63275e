"""Pairs from files: the description, the folder, and what fusion says of each."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bifocus.edge.fusers import PhysicsFuser
from bifocus.edge.pairs_folder import (
    NamedPair,
    choose_tone_curve,
    describe_tile,
    find_pairs,
    fuse_folder,
    fuse_pair,
    read_description,
    read_rgb,
)
from bifocus.errors import ConfigError, ImageFileError
from bifocus.focal_offset import PairOptics
from bifocus.records import UInt8Image

OPTICS = {
    "na": 0.5,
    "pixel_um": 0.3,
    "half_spacing_um": 1.0,
    "wavelengths_um": [0.6, 0.5, 0.4],
}


def picture(seed: int = 0, size: tuple[int, int] = (80, 96)) -> UInt8Image:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (*size, 3), dtype=np.uint8)


def save(folder: Path, *names: str) -> None:
    for name in names:
        Image.fromarray(picture()).save(folder / f"{name}.png")


def describe(folder: Path, **changes: object) -> Path:
    path = folder / "pairs.json"
    path.write_text(json.dumps({**OPTICS, **changes}))
    return path


def test_the_least_description_is_enough(tmp_path: Path) -> None:
    description = read_description(describe(tmp_path))
    assert description.tone_curve == "auto"
    assert description.optics() == PairOptics(
        na=0.5,
        pixel_um=0.3,
        half_spacing_um=1.0,
        wavelengths_um=(0.6, 0.5, 0.4),
        refractive_index=1.0,
    )


def test_immersion_and_the_keys_of_others(tmp_path: Path) -> None:
    path = describe(tmp_path, na=1.3, refractive_index=1.515, operator="J", note=[1])
    assert read_description(path).optics().refractive_index == 1.515


def test_a_description_from_windows(tmp_path: Path) -> None:
    """Editors there write a byte-order mark."""
    path = describe(tmp_path)
    path.write_text("\ufeff" + path.read_text(), encoding="utf-8")
    assert read_description(path).na == 0.5


def test_the_index_must_exceed_the_aperture(tmp_path: Path) -> None:
    path = describe(tmp_path, na=1.3, refractive_index=1.3)
    with pytest.raises(ConfigError, match=r"refractive_index.*above na \(1\.3\)"):
        read_description(path)


def test_pairs_come_by_name_and_other_files_are_left(tmp_path: Path) -> None:
    save(tmp_path, "b_a", "b_b", "a b_a", "a b_b", "x_a_a", "x_a_b", "truth", "c_A")
    assert [pair.name for pair in find_pairs(tmp_path)] == ["a b", "b", "x_a"]


@pytest.mark.parametrize(("there", "missing"), [("n_a", "n_b"), ("n_b", "n_a")])
def test_a_lone_shot_names_its_partner(
    tmp_path: Path, there: str, missing: str
) -> None:
    save(tmp_path, "m_a", "m_b", there)
    with pytest.raises(ImageFileError, match=f"{missing}.png: missing"):
        find_pairs(tmp_path)


@pytest.mark.parametrize("kind", ["png", "bmp", "tif"])
def test_pixels_are_read_as_stored(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"x.{kind}"
    Image.fromarray(picture(3)).save(path)
    pixels = read_rgb(path)
    np.testing.assert_array_equal(pixels, picture(3))
    assert pixels.flags["C_CONTIGUOUS"]


def test_a_palette_is_no_rgb(tmp_path: Path) -> None:
    Image.fromarray(picture()).quantize(16).save(tmp_path / "x.png")
    with pytest.raises(ImageFileError, match="a palette of colours"):
        read_rgb(tmp_path / "x.png")


def test_a_picture_beyond_all_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, "x")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ImageFileError, match="cut it into tiles first"):
        read_rgb(tmp_path / "x.png")


def test_a_wanted_tone_curve_looks_at_no_picture(tmp_path: Path) -> None:
    missing = tmp_path / "none.png"
    pair = NamedPair(name="none", minus=missing, plus=missing)
    assert choose_tone_curve("srgb", [pair]) == "srgb"
    with pytest.raises(ImageFileError):
        choose_tone_curve("auto", [pair])


def test_an_entry_tells_what_fusion_found(tmp_path: Path) -> None:
    save(tmp_path, "n_a", "n_b")
    optics = read_description(describe(tmp_path)).optics()
    (pair,) = find_pairs(tmp_path)
    fuser = PhysicsFuser()
    tile = fuse_pair(pair, optics, "linear", fuser)
    assert tile.pixels.shape == (80, 96, 3)
    assert describe_tile(tile, fuser) == {
        "offset_um": tile.offset.offset_um,
        "sd_um": tile.offset.sd_um,
        "confidence": tile.offset.confidence,
        "quality": tile.quality,
        "seconds": tile.seconds,
        "model": "physics",
    }


def test_good_pairs_before_a_bad_one_stay(tmp_path: Path) -> None:
    save(tmp_path, "n_a", "n_b", "o_a", "o_b")
    (tmp_path / "o_b.png").write_bytes(b"gone")
    describe(tmp_path, tone_curve="linear")
    out = tmp_path / "out"
    done = []
    with pytest.raises(ImageFileError, match="o_b"):
        fuse_folder(
            tmp_path, out, PhysicsFuser(), lambda n, all_: done.append((n, all_))
        )
    assert done == [(1, 2)]
    assert [path.name for path in out.iterdir()] == ["n.png"]


def test_a_second_run_replaces_the_first(tmp_path: Path) -> None:
    save(tmp_path, "n_a", "n_b")
    describe(tmp_path, tone_curve="linear")
    fuse_folder(tmp_path, tmp_path / "out", PhysicsFuser())
    report = fuse_folder(tmp_path, tmp_path / "out", PhysicsFuser())
    assert json.loads((tmp_path / "out" / "fuse.json").read_text()) == report
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "fuse.json",
        "n.png",
    ]
