"""Z-stack folders: focus looked for, gaps and unevenness reported, bad files named."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bifocus.errors import ConfigError, ImageFileError
from bifocus.focal_offset import PairOptics
from bifocus.model.focal_stack import choose_planes, draw_offsets_um
from bifocus.model.zstack_folder import (
    SkipLog,
    StackPairs,
    find_zstacks,
    height_in_name_um,
    load_stack,
)
from tests.imaging import MATCHED, expose, render_incoherent
from tests.tissue import procedural_tissue

OPTICS = PairOptics(na=0.75, pixel_um=0.25, half_spacing_um=0.5)


def write_stack(
    folder: Path, z_um: list[float], focus_um: float, side: int = 64
) -> None:
    folder.mkdir(parents=True)
    tissue = procedural_tissue(side, 1)
    for height_um in z_um:
        light = render_incoherent(tissue, focus_um, height_um, MATCHED)
        name = folder / f"tile_z{height_um:+.2f}um.png"
        Image.fromarray(expose(light)).save(name)


def pairs_of(root: Path, log: SkipLog, *offsets_um: float) -> StackPairs:
    return StackPairs(
        stacks=find_zstacks(root, log),
        optics=OPTICS,
        log=log,
        offsets_um=offsets_um,
        patch_px=None,
        tone_curve="linear",
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [("z-1.5um", -1.5), ("a3_+500nm", 0.5), ("z2µm", 2.0), ("tile3", None)],
)
def test_height_in_a_name(name: str, expected: float | None) -> None:
    assert height_in_name_um(name) == expected


def test_focus_is_looked_for_and_offsets_are_those_of_the_planes(
    tmp_path: Path,
) -> None:
    # Planes at odd heights, none in focus by name; the tissue lies at 0.3.
    z_um = [-1.7, -1.2, -0.7, -0.2, 0.3, 0.8, 1.3]
    write_stack(tmp_path / "s1" / "field", z_um, 0.3)
    log = SkipLog()
    (pair,) = list(pairs_of(tmp_path, log, 0.0))
    assert pair.slide_id == "s1"
    assert pair.offset_um == pytest.approx(0)
    assert pair.half_spacing_um == pytest.approx(0.5)
    assert pair.optics.half_spacing_um == pair.half_spacing_um
    assert log.count == 0


def test_an_uneven_stack_reports_what_it_really_gives() -> None:
    z_um = np.array([-1.5, -0.6, 0.0, 0.45, 1.1])
    chosen = choose_planes(z_um, offset_um=0.0, half_spacing_um=0.5)
    assert chosen is not None
    assert (chosen.minus, chosen.plus) == (1, 3)
    assert chosen.half_spacing_um == pytest.approx(0.525)
    # The shots stand at F -+ dD, and the tissue at F + n = 0.
    assert chosen.offset_um == pytest.approx(0.075)


@pytest.mark.parametrize("offset_um", [-1.2, 1.9])
def test_a_gap_or_the_end_of_a_stack_gives_no_pair(offset_um: float) -> None:
    z_um = np.array([-2.0, -1.0, -0.5, 0.0, 0.5])
    assert choose_planes(z_um, offset_um=offset_um, half_spacing_um=0.5) is None


def test_positive_offset_means_that_plus_is_the_nearer_shot(tmp_path: Path) -> None:
    z_um = [-1.5, -1.0, -0.5, 0.0, 0.5, 1.0]
    write_stack(tmp_path / "s1", z_um, 0.0)
    (pair,) = list(pairs_of(tmp_path, SkipLog(), 0.5))
    assert pair.is_identity
    np.testing.assert_array_equal(pair.plus, pair.truth)


def test_drawn_offsets_are_standard_normal() -> None:
    drawn = draw_offsets_um(np.random.default_rng(0), 10_000)
    assert abs(drawn.mean()) < 0.04  # four standard errors
    assert drawn.std() == pytest.approx(1, abs=0.03)


def test_bad_files_are_named_skipped_and_counted(tmp_path: Path) -> None:
    folder = tmp_path / "s1" / "f"
    write_stack(folder, [-1.0, -0.5, 0.0, 0.5, 1.0], 0.0)
    whole = (folder / "tile_z+1.00um.png").read_bytes()
    (folder / "tile_z+1.50um.png").write_bytes(whole[: len(whole) // 2])
    (folder / "tile_z+2.00um.png").write_text("no picture")
    (folder / "overview.png").write_bytes(whole)
    Image.new("RGB", (32, 32)).save(folder / "tile_z-1.50um.png")
    Image.new("RGB", (64, 64)).save(folder / "again_z0um.png")
    log = SkipLog()
    (pair,) = list(pairs_of(tmp_path, log, 0.0))
    assert pair.half_spacing_um == pytest.approx(0.5)
    names = {skipped.path.name for skipped in log.files}
    # The doubled 0 um: the later name in the alphabet gives way.
    assert names == {
        "tile_z+1.50um.png",
        "tile_z+2.00um.png",
        "overview.png",
        "tile_z-1.50um.png",
        "tile_z+0.00um.png",
    }
    assert log.count == 5


def test_strict_makes_the_first_bad_file_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "s1"
    write_stack(folder, [-0.5, 0.0, 0.5], 0.0)
    (folder / "tile_z+1.00um.png").write_text("no picture")
    log = SkipLog(is_strict=True)
    (stack,) = find_zstacks(tmp_path, log)
    with pytest.raises(ImageFileError, match=r"tile_z\+1\.00um\.png.*no picture"):
        load_stack(stack, log)


def test_an_empty_data_set_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no focal stack"):
        find_zstacks(tmp_path, SkipLog())
    with pytest.raises(ConfigError, match="not a folder"):
        find_zstacks(tmp_path / "absent", SkipLog())


def test_a_set_without_a_single_pair_is_an_error(tmp_path: Path) -> None:
    write_stack(tmp_path / "s1", [-0.5, 0.0, 0.5], 0.0)
    with pytest.raises(ConfigError, match="none of 1 stacks"):
        list(pairs_of(tmp_path, SkipLog(), 3.0))
