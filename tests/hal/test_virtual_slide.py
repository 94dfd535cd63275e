"""Topography and layers of the virtual slide against their definitions."""

import numpy as np
import pytest

from bifocus.config import VirtualSlide
from bifocus.hal.tissue_source import load_tissue
from bifocus.hal.virtual_slide import Field, SlideTruth

TISSUE = load_tissue("procedural:160x240")


def make_slide(pixel_um: float = 0.25, seed: int = 3, **changes: object) -> SlideTruth:
    config = VirtualSlide.model_validate({"x_um": 100.0, "y_um": 200.0, **changes})
    return SlideTruth(config, TISSUE, pixel_um=pixel_um, seed=seed)


def test_tilt_is_micrometres_per_millimetre_about_the_centre() -> None:
    slide = make_slide(focus_um=7.0, tilt_mrad=(3.0, -2.0))
    x_um, y_um = slide.centre_um
    assert (x_um, y_um) == (130.0, 220.0)
    assert slide.height_um(x_um, y_um) == pytest.approx(7.0)
    assert slide.height_um(x_um + 1000, y_um) == pytest.approx(10.0)
    assert slide.height_um(x_um, y_um + 1000) == pytest.approx(5.0)


@pytest.mark.parametrize("seed", range(5))
def test_relief_reaches_exactly_its_amplitude(seed: int) -> None:
    slide = make_slide(relief_um=1.5, relief_period_um=40.0, seed=seed)
    heights = slide.field_heights_um(Field(row=0, column=0, shape=(160, 240)))
    # Texel centres are half a pixel inside the edge, where the slope is up to
    # 2 pi 1.5 um / 40 um: 0.03 um.
    assert heights.max() == pytest.approx(1.5, abs=0.03)
    assert heights.min() == pytest.approx(-1.5, abs=0.03)


def test_relief_differs_by_seed_and_is_smooth() -> None:
    one, two = (make_slide(relief_um=1.0, seed=seed) for seed in (1, 2))
    field = Field(row=0, column=0, shape=(160, 240))
    assert np.ptp(one.field_heights_um(field) - two.field_heights_um(field)) > 0.1
    assert np.abs(np.diff(one.field_heights_um(field), axis=1)).max() < 0.05


def test_layers_share_the_absorbance_completely() -> None:
    slide = make_slide(thickness_um=0.8, layers=3)
    weights = slide.layer_weights(Field(row=-10, column=5, shape=(50, 60)))
    assert np.sum(weights, axis=0) == pytest.approx(1.0, abs=1e-6)
    assert min(float(weight.min()) for weight in weights) > 0
    assert slide.layer_offsets_um.tolist() == pytest.approx([-0.4, 0.0, 0.4])


def test_beyond_the_texture() -> None:
    field = Field(row=-5, column=-5, shape=(10, 10))
    glass = make_slide(beyond="glass").absorbance(field)
    assert not glass[:5].any()
    assert not glass[:, :5].any()
    mirror = make_slide(beyond="mirror").absorbance(field)
    assert np.array_equal(mirror[:5], mirror[5:][::-1])
    assert np.array_equal(glass[5:, 5:], mirror[5:, 5:])


def test_mean_focus_weighs_by_absorbance() -> None:
    slide = make_slide(focus_um=4.0, tilt_mrad=(100.0, 0.0))
    x_um, y_um = slide.centre_um
    field = slide.field_at(x_um, y_um, (64, 80))
    absorbance = slide.absorbance(field).mean(axis=2, dtype=np.float64)
    columns_um = (np.arange(80) - 39.5) * 0.25
    expected = 4.0 + 0.1 * np.average(columns_um, weights=absorbance.sum(axis=0))
    assert slide.mean_focus_um(x_um, y_um, (64, 80)) == pytest.approx(
        expected, abs=1e-4
    )


def test_mean_focus_of_glass_is_the_mean_height() -> None:
    slide = make_slide(focus_um=4.0)
    assert slide.mean_focus_um(5000.0, 5000.0, (64, 80)) == pytest.approx(4.0)


def test_the_texture_is_resampled_to_the_camera_pixel() -> None:
    coarse = make_slide(pixel_um=0.5)
    assert coarse.texture.shape[:2] == (80, 120)
    assert coarse.size_um == (60.0, 40.0)
    blocks = TISSUE.pixels.reshape(80, 2, 120, 2, 3).mean(axis=(1, 3))
    assert np.abs(coarse.texture - blocks).max() < 1e-5
    assert make_slide(pixel_um=0.125).size_um == (60.0, 40.0)


@pytest.mark.parametrize("mirror", [(False, False), (True, True), (False, True)])
def test_a_turned_camera_sees_the_stage_move_askew(mirror: tuple[bool, bool]) -> None:
    """30 mrad from x towards y: cos and sin of 0.03, by hand; y is turned over last."""
    slide = SlideTruth(
        VirtualSlide(x_um=100.0, y_um=200.0, tilt_mrad=(3.0, -2.0)),
        TISSUE,
        pixel_um=0.25,
        seed=3,
        rotation_mrad=30.0,
        mirror=mirror,
    )
    x_um, y_um = slide.centre_um
    before = np.array(slide.corner_px(x_um, y_um, (64, 80)))
    assert before == pytest.approx((80.0, 48.0))
    signs = np.where(mirror, -1.0, 1.0)
    moved = np.array(slide.corner_px(x_um + 10.0, y_um, (64, 80))) - before
    assert moved * 0.25 == pytest.approx(signs * (9.9955003, -0.2999550), abs=1e-6)
    moved = np.array(slide.corner_px(x_um, y_um + 10.0, (64, 80))) - before
    assert moved * 0.25 == pytest.approx(signs * (0.2999550, 9.9955003), abs=1e-6)
    # The tilt stays that of the slide along the stage's axes.
    assert slide.height_um(x_um + 1000.0, y_um) == pytest.approx(3.0)
    assert slide.height_um(x_um, y_um + 1000.0) == pytest.approx(-2.0)
    field = slide.field_at(x_um + 3.0, y_um + 1.0, (8, 8))
    assert float(slide.field_heights_um(field).mean()) == pytest.approx(
        3e-3 * 3.0 - 2e-3 * 1.0, abs=1e-3
    )


def test_lengths_on_the_slide_survive_another_pixel_size() -> None:
    """A graticule of 6 um under pixels of 0.2525 um: 23.762 px, all over the slide."""
    tissue = load_tissue("graticule:6:400x400", pixel_um=0.2)
    slide = SlideTruth(VirtualSlide(pixel_um=0.2), tissue, pixel_um=0.2525, seed=0)
    profile = 1 - slide.texture[..., 1].mean(axis=0).astype(float)
    middles = []
    for number in range(13):
        expected = (number + 0.5) * 6 / 0.2525 - 0.5
        around = np.arange(round(expected) - 7, round(expected) + 8)
        dark = profile[around] - profile.min()
        middles.append(float((around * dark).sum() / dark.sum()) - expected)
    assert np.abs(middles).max() < 0.05
    assert abs(np.polyfit(np.arange(13), middles, 1)[0]) < 0.003
