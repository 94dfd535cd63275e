"""The comparison with the truth: each figure against a closed form or a second way."""

import math
from pathlib import Path

import numpy as np
import pytest

from bifocus.edge.journal import TileEntry, TileLine
from bifocus.edge.placement import Placement
from bifocus.edge.slide_file import SlideDescription, SlideReader, SlideWriter
from bifocus.edge.tile_notes import write_poses
from bifocus.edge.truth import (
    TileTruth,
    _offset_errors,
    _stitch_errors,
    note_poses,
    observe,
    psnr_db,
    read_window,
)
from bifocus.records import FocalOffset, PlacedTile, StagePosition
from tests.scanner import CENTRE_UM, open_scanner, scanner_config, truth_of


@pytest.mark.parametrize("difference", [1, 5, 100])
def test_psnr_of_a_constant_difference(difference: int) -> None:
    first = np.full((8, 9, 3), 120, np.uint8)
    second = first + np.uint8(difference)
    expected_db = 20 * math.log10(255 / difference)
    assert psnr_db(first, second) == pytest.approx(expected_db)
    assert psnr_db(second, first) == psnr_db(first, second)


def test_equal_pictures_are_capped() -> None:
    picture = np.zeros((4, 4, 3), np.uint8)
    assert psnr_db(picture, picture) == pytest.approx(99.0)


def test_a_window_is_what_the_whole_slide_shows_there(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    picture = np.repeat(np.repeat(rng.integers(0, 255, (38, 50, 3)), 16, 0), 16, 1)
    path, size = tmp_path / "slide.ome.tiff", (picture.shape[1], picture.shape[0])
    description = SlideDescription(
        width_px=size[0],
        height_px=size[1],
        pixel_um=0.25,
        objective="20x",
        magnification=20,
        na=0.75,
        instrument="test",
        software="test",
        acquired_utc="2026-03-01T12:00:00Z",
        simulated=True,
        wavelengths_um=(0.62, 0.53, 0.46),
    )
    with SlideWriter(path, description) as writer:
        side = writer.tile_px
        for row in range(-(-size[1] // side)):
            for column in range(-(-size[0] // side)):
                part = picture[row * side : (row + 1) * side]
                part = part[:, column * side : (column + 1) * side].astype(np.uint8)
                writer.write_tile(row, column, np.ascontiguousarray(part))
    with SlideReader(path) as slide:
        whole = slide.read_level(0)
        for left, top in ((0, 0), (130, 77), (size[0] - 300, size[1] - 200)):
            window = read_window(slide, left, top, (200, 300))
            expected = whole[top : top + 200, left : left + 300]
            # Two JPEG decoders (OpenCV's and simplejpeg's) may differ by rounding.
            assert np.abs(window.astype(int) - expected).max() <= 4


def tile(
    column: int, *, error_um: float | None = 0.0, tissue: bool = True
) -> TileTruth:
    return TileTruth(
        row=0,
        column=column,
        x_um=1000.0 + 50.0 * column,
        y_um=700.0,
        offset_um=None if error_um is None else 0.5,
        estimate_um=None if error_um is None else 0.5 + error_um,
        is_tissue=tissue,
    )


def placement(*x_px: float) -> Placement:
    tiles = tuple(
        PlacedTile(row=0, column=column, x_px=x, y_px=0.0)
        for column, x in enumerate(x_px)
    )
    return Placement(
        tiles=tiles,
        residual_px={},
        n_rejected=0,
        stage_sd_px=None,
        stage_matrix=((1, 0), (0, 1)),
    )


def test_stitch_errors_are_free_of_the_origin_and_of_glass() -> None:
    """Tiles truly lie 200 px apart; one of them is placed 3 px off."""
    by_cell = {(0, column): tile(column, tissue=column != 3) for column in range(4)}
    for shift_px in (0.0, 57.0):
        placed = placement(shift_px, shift_px + 203.0, shift_px + 400.0, 9999.0)
        errors_px, origin_um = _stitch_errors(placed, by_cell, 0.25)
        assert errors_px == pytest.approx([1.0, 2.0, 1.0])
        assert origin_um[0] == pytest.approx(1000.0 - 0.25 * (shift_px + 1.0))
        assert origin_um[1] == pytest.approx(700.0)


def test_a_slide_of_glass_still_has_stitch_errors() -> None:
    by_cell = {(0, column): tile(column, tissue=False) for column in range(2)}
    errors_px, _ = _stitch_errors(placement(0.0, 200.0), by_cell, 0.25)
    assert errors_px == pytest.approx([0.0, 0.0])


def test_offset_errors_count_pairs_on_tissue_only() -> None:
    errors_um = [0.1, -0.3, 0.2]
    tiles = [tile(n, error_um=error) for n, error in enumerate(errors_um)]
    tiles += [tile(3, error_um=9.0, tissue=False), tile(4, error_um=None)]
    found = _offset_errors(tiles)
    assert found is not None
    assert found["mean"] == pytest.approx(0.2)
    assert found["max"] == pytest.approx(0.3)
    assert found["p95"] == pytest.approx(np.quantile([0.1, 0.2, 0.3], 0.95))
    assert _offset_errors(tiles[3:]) is None


def test_observe_sees_the_glass_not_the_controller() -> None:
    """Play and scatter shift the glass; the truth is where it really was."""
    config = scanner_config(stage={"mechanics": {"repeatability_um": (0.5, 0.5, 0.2)}})
    with open_scanner(config) as instrument:
        truth = truth_of(instrument)
        frames, poses = [], []
        for z_um in (149.25, 150.75):
            target = StagePosition(x_um=CENTRE_UM[0], y_um=CENTRE_UM[1], z_um=z_um)
            receipt = instrument.stage.move_to(target)
            frame = instrument.camera.grab(after=receipt)
            middle_s = (frame.exposure_start_s + frame.exposure_end_s) / 2
            frames.append(frame)
            poses.append(truth.true_pose_at(middle_s))
        entry = TileEntry(
            row=0,
            column=0,
            visit=0,
            x_um=CENTRE_UM[0],
            y_um=CENTRE_UM[1],
            focus_um=150.0,
            status="captured",
            shots=2,
            capture_s=1.0,
            offset=FocalOffset(offset_um=0.1, sd_um=0.1, confidence=1.0),
            raw_a="raw/a.png",
            raw_b="raw/b.png",
            poses=write_poses(note_poses(truth, frames)),
        )
        line = TileLine(
            entry=entry,
            quality=1.0,
            fuse_s=0.1,
            sharpness_before=1.0,
            sharpness_after=1.0,
            picked=1,
        )
        seen = observe(truth, line)
        assert seen is not None
        focus_um = truth.mean_focus_um(poses[1].x_um, poses[1].y_um)
    assert (seen.x_um, seen.y_um) == (poses[1].x_um, poses[1].y_um)
    assert seen.x_um != frames[1].pose.x_um
    middle_um = (poses[0].z_um + poses[1].z_um) / 2
    assert seen.offset_um == pytest.approx(focus_um - middle_um)
    assert seen.estimate_um == 0.1
    assert seen.is_tissue
