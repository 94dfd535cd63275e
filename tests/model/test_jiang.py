"""The Jiang loader on generated trees: both spellings, residuals, gaps, negatives."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bifocus.errors import ConfigError, ImageFileError
from bifocus.model.jiang import (
    RAW_SHAPE,
    JiangPart,
    bin_raw_frame,
    defocus_um,
    find_jiang_stacks,
    jiang_pairs,
)
from bifocus.model.zstack_folder import SkipLog
from tests.imaging import MATCHED, UInt8, expose, render_incoherent
from tests.tissue import procedural_tissue

# Residual of 150 nm, no 0 plane, -650 and 850 missing, more planes below than above.
HEIGHTS_NM = [-2150, -1650, -1150, -150, 350, 1350]
FOCUS_NM = -150


@lru_cache(maxsize=64)
def plane(height_nm: int, side: int, seed: int = 1) -> UInt8:
    z_um = height_nm / 1000
    light = render_incoherent(
        procedural_tissue(side, seed), FOCUS_NM / 1000, z_um, MATCHED
    )
    return expose(light)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("jiang") / "incoherent_RGBchannels"
    train = top / "train_incoherent_RGBChannels"
    for place in ("s1_l1", "s2_l3"):
        folder = train / place
        folder.mkdir(parents=True)
        for segment in (1, 2):
            for height_nm in HEIGHTS_NM:
                name = folder / f"Seg{segment}_defocus{height_nm}.jpg"
                picture = plane(height_nm, 224, segment)
                Image.fromarray(picture).save(name, quality=95)
    same = top / "testRawData_incoherent_sameProtocol" / "s4_l1"
    same.mkdir(parents=True)
    for height_nm in (-650, FOCUS_NM, 350):
        small = plane(height_nm, 256)
        big = np.tile(small.repeat(2, axis=0).repeat(2, axis=1), (4, 5, 1))
        frame = big[: RAW_SHAPE[0], : RAW_SHAPE[1]]
        Image.fromarray(frame).save(same / f"defocus{height_nm}.jpg", quality=95)
    return top


def test_training_stacks_are_one_per_segment(root: Path) -> None:
    stacks = find_jiang_stacks(root, "train", SkipLog())
    assert len(stacks) == 4
    assert {stack.slide_id for stack in stacks} == {"s1", "s2"}
    assert [p.z_um for p in stacks[0].planes] == [nm / 1000 for nm in HEIGHTS_NM]


def test_the_folder_above_and_the_part_itself_are_found(root: Path) -> None:
    for start in (root.parent, root / "train_incoherent_RGBChannels"):
        assert len(find_jiang_stacks(start, "train", SkipLog())) == 4


def test_the_other_spelling_is_found(tmp_path: Path, root: Path) -> None:
    spelt = tmp_path / "incoherent_RGBChannels" / "train_incoherent_RGBchannels"
    spelt.parent.mkdir()
    spelt.symlink_to(root / "train_incoherent_RGBChannels")
    assert len(find_jiang_stacks(tmp_path, "train", SkipLog())) == 4


def test_pairs_count_from_the_sharpest_plane(root: Path) -> None:
    pairs = list(jiang_pairs(root, "train", offsets_um=(-0.5, -0.25)))
    # -0.5: shots at 0.0 and 1.0 from focus; 1.0 is missing. -0.25: at -0.25 and 0.75
    # wanted, 0.0 and 0.5 there, both within reach.
    assert len(pairs) == 4
    assert pairs[0].offset_um == pytest.approx(-0.25)
    assert pairs[0].half_spacing_um == pytest.approx(0.25)
    assert pairs[0].source == "jiang-train"
    assert pairs[0].tone_curve == "srgb"


def test_raw_frames_are_binned_and_cut(root: Path) -> None:
    pairs = list(jiang_pairs(root, "same", offsets_um=(0.0,)))
    # 1224x1024 holds 5x4 whole patches of 224.
    assert len(pairs) == 20
    assert pairs[0].truth.shape == (224, 224, 3)
    assert pairs[0].half_spacing_um == pytest.approx(0.5)


def test_binning_is_the_mean_of_four() -> None:
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (*RAW_SHAPE, 3), dtype=np.uint8)
    binned = bin_raw_frame(frame)
    assert binned.shape == (1024, 1224, 3)
    expected = frame[2:4, 4:6].astype(float).mean(axis=(0, 1))
    np.testing.assert_allclose(binned[1, 2], expected, atol=0.5)
    patch = frame[:224, :224]
    assert bin_raw_frame(patch) is patch


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("Seg3_defocus-1550", -1.55),
        ("defocus+500", 0.5),
        ("defocus0", 0.0),
        ("defocus1.5", None),
        ("Seg_defocus5", None),
    ],
)
def test_names(stem: str, expected: float | None) -> None:
    assert defocus_um(stem) == expected


def test_bad_files_and_folders_are_named(tmp_path: Path) -> None:
    part = tmp_path / "testRawData_incoherent_diffProtocol"
    folder = part / "s9_l2"
    folder.mkdir(parents=True)
    for height_nm in (-500, 0, 500):
        picture = Image.fromarray(plane(height_nm + FOCUS_NM, 64))
        picture.save(folder / f"defocus{height_nm}.jpg")
    (folder / "defocus1000.jpg").write_bytes(b"\xff\xd8\xff half a file")
    (folder / "focus.jpg").write_bytes(b"")
    (part / "notes").mkdir()
    pairs = jiang_pairs(tmp_path, "different", offsets_um=(0.0,))
    assert len(list(pairs)) == 1
    names = sorted(skipped.path.name for skipped in pairs.log.files)
    assert names == ["defocus1000.jpg", "focus.jpg", "notes"]
    with pytest.raises(ImageFileError, match=r"notes|focus"):
        jiang_pairs(tmp_path, "different", is_strict=True)


@pytest.mark.parametrize("part", ["train", "same", "different"])
def test_an_absent_or_empty_part_is_an_error(tmp_path: Path, part: JiangPart) -> None:
    with pytest.raises(ConfigError, match="no folder"):
        find_jiang_stacks(tmp_path, part, SkipLog())
    (tmp_path / "train_incoherent_RGBChannels").mkdir()
    if part == "train":
        with pytest.raises(ConfigError, match="no focal stack"):
            find_jiang_stacks(tmp_path, part, SkipLog())
