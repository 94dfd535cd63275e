"""Image formation against invariants and against a second, spatial method.

The second method never sees a Fourier transform or a slice: it adds up Born & Wolf's
PSF around every texel, at that texel's own height.
"""

import numpy as np
import numpy.typing as npt
import pytest

from bifocus.config import Optics, VirtualSlide
from bifocus.hal.defocus_render import DefocusRenderer
from bifocus.hal.otf_bank import OtfBank
from bifocus.hal.tissue_source import Tissue, load_tissue
from bifocus.hal.virtual_slide import Field, SlideTruth
from bifocus.optics import Objective, otf_grid, psf_radial
from bifocus.transfer import Light

Float64 = npt.NDArray[np.float64]

# Nyquist 3.33 per um is above the cutoff of blue light, 2 x 0.75 / 0.46 = 3.26, so that
# sampling the PSF in space loses nothing.
FINE_UM = 0.15
SHAPE = (64, 72)


def make_renderer(
    tissue: str = "procedural:160x200",
    *,
    shape: tuple[int, int] = SHAPE,
    pixel_um: float = 0.25,
    spherical_waves: float = 0.0,
    chromatic_um: tuple[float, float, float] = (0.0, 0.0, 0.0),
    **slide: object,
) -> DefocusRenderer:
    config = VirtualSlide.model_validate(
        {"pixel_um": pixel_um, "chromatic_um": chromatic_um, **slide}
    )
    optics = Optics(na=0.75, pixel_um=pixel_um)
    truth = SlideTruth(config, load_tissue(tissue), pixel_um=pixel_um, seed=4)
    return DefocusRenderer(truth, optics, shape, spherical_waves=spherical_waves)


def by_direct_sum(renderer: DefocusRenderer, z_um: float, channel: int) -> Float64:
    """Add up the PSF of each texel row by row; heights may differ between rows."""
    slide, (rows, columns) = renderer.slide, renderer.shape
    field = slide.field_at(*slide.centre_um, renderer.shape)
    absorbance = slide.absorbance(field)[..., channel].astype(np.float64)
    heights = slide.field_heights_um(field)
    weights = slide.layer_weights(field)
    objective = renderer._objectives[channel]
    # The whole PSF carries lambda^2 / (pi NA^2) at any defocus (Parseval).
    energy_um2 = objective.wavelength_um**2 / (np.pi * objective.na**2)
    radii_um = np.linspace(0, np.hypot(rows, columns) * slide.pixel_um, 1200)
    across = (np.arange(columns)[:, None] - np.arange(columns)) * slide.pixel_um
    image = np.zeros((rows, columns))
    for offset_um, weight in zip(slide.layer_offsets_um, weights, strict=True):
        for row in range(rows):
            source = absorbance[row] * weight[row]
            if not source.any():
                continue
            height_um = float(heights[row, 0] + offset_um)
            psf = psf_radial(objective, radii_um, height_um - z_um)
            psf *= slide.pixel_um**2 / energy_um2
            for target in range(rows):
                down_um = (target - row) * slide.pixel_um
                kernel = np.interp(np.hypot(across, down_um), radii_um, psf)
                image[target] += kernel @ source
    return 1 - image


@pytest.mark.parametrize(("z_um", "channel"), [(0.0, 2), (0.9, 1), (-2.0, 0)])
def test_it_agrees_with_a_direct_sum_of_psfs(z_um: float, channel: int) -> None:
    renderer = make_renderer(
        "procedural:24x30",
        shape=(38, 44),
        pixel_um=FINE_UM,
        tilt_mrad=(0.0, 300.0),
        thickness_um=0.6,
        layers=2,
    )
    picture = renderer.render(*renderer.slide.centre_um, z_um)[..., channel]
    expected = by_direct_sum(renderer, z_um, channel)
    assert expected.min() < 0.9
    # Slices 0.2 um apart stand for heights in between: up to 1 % of the contrast.
    assert np.abs(picture - expected).max() < 0.01


@pytest.mark.parametrize("z_um", [-6.0, 0.0, 1.3])
def test_glass_stays_white(z_um: float) -> None:
    renderer = make_renderer(tilt_mrad=(3.0, 1.0), relief_um=1.0, layers=2)
    picture = renderer.render(-5000.0, 0.0, z_um)
    assert np.abs(picture - 1).max() < 1e-5


def test_defocus_moves_light_but_keeps_it() -> None:
    # Tissue of 10 x 8 um amid 40 x 32 um of glass: nothing leaves the field.
    renderer = make_renderer("procedural:32x40", shape=(128, 160))
    centre = renderer.slide.centre_um
    true_loss = float((1 - renderer.slide.texture).sum())
    for z_um in (0.0, 1.0, 3.0):
        loss = float((1 - renderer.render(*centre, z_um)).sum())
        # A few thousandths of the light are in the PSF's far tail, out of the field.
        assert loss == pytest.approx(true_loss, rel=0.01)


def test_in_focus_it_is_the_truth() -> None:
    renderer = make_renderer(focus_um=5.0)
    centre = renderer.slide.centre_um
    truth = renderer.render_truth(*centre)
    assert np.abs(renderer.render(*centre, 5.0) - truth).max() < 1e-4
    assert np.abs(renderer.render(*centre, 6.0) - truth).max() > 0.05


def test_the_truth_ignores_height_and_colour() -> None:
    flat = make_renderer(focus_um=5.0)
    uneven = make_renderer(
        tilt_mrad=(30.0, -10.0),
        relief_um=2.0,
        relief_period_um=60.0,
        thickness_um=1.0,
        layers=3,
        chromatic_um=(0.3, 0.0, -0.4),
    )
    expected = flat.render_truth(*flat.slide.centre_um)
    found = uneven.render_truth(*uneven.slide.centre_um)
    assert np.abs(found - expected).max() < 1e-4


def test_chromatic_offsets_focus_each_colour_elsewhere() -> None:
    renderer = make_renderer(chromatic_um=(1.0, 0.0, -0.8))
    centre = renderer.slide.centre_um
    truth = renderer.render_truth(*centre)
    for channel, best_um in enumerate((1.0, 0.0, -0.8)):
        picture = renderer.render(*centre, best_um)
        errors = np.abs(picture - truth).max(axis=(0, 1))
        assert errors.argmin() == channel


def test_plus_and_minus_are_alike_without_aberration_only() -> None:
    ideal = make_renderer()
    centre = ideal.slide.centre_um
    above, below = ideal.render(*centre, 1.23), ideal.render(*centre, -1.23)
    assert np.abs(above - below).max() < 1e-4
    aberrated = make_renderer(spherical_waves=0.4)
    above, below = aberrated.render(*centre, 1.2), aberrated.render(*centre, -1.2)
    assert np.abs(above - below).max() > 0.02


def test_a_whole_pixel_moves_the_picture_by_one() -> None:
    renderer = make_renderer(relief_um=1.0, relief_period_um=50.0)
    x_um, y_um = renderer.slide.centre_um
    here = renderer.render(x_um, y_um, 0.5)
    right = renderer.render(x_um + 0.25, y_um, 0.5)
    down = renderer.render(x_um, y_um + 0.5, 0.5)
    assert np.abs(right[:, :-1] - here[:, 1:]).max() < 2e-3
    assert np.abs(down[:-2] - here[2:]).max() < 2e-3


def test_parts_of_a_pixel_move_the_picture_too() -> None:
    x_um, y_um = make_renderer().slide.centre_um
    z_um = 2.5  # blurred, so that a picture is well sampled and can be interpolated
    renderer = make_renderer()
    here = renderer.render(x_um, y_um, z_um)
    half = renderer.render(x_um + 0.125, y_um, z_um)
    between = (-here[:, :-3] + 9 * here[:, 1:-2] + 9 * here[:, 2:-1] - here[:, 3:]) / 16
    assert np.abs(half[:, 1:-2] - between).max() < 5e-3


def test_kept_slices_give_the_same_picture_as_new_ones() -> None:
    used, fresh = make_renderer(), make_renderer()
    x_um, y_um = used.slide.centre_um
    used.render(x_um, y_um, 0.0)
    near = used.render(x_um + 0.8, y_um - 0.6, 0.7)
    assert np.abs(near - fresh.render(x_um + 0.8, y_um - 0.6, 0.7)).max() < 2e-3


def test_texels_lie_where_the_stage_says() -> None:
    pixels = np.ones((40, 60, 3), np.float32)
    pixels[10, 22] = 0
    tissue = Tissue(pixels=pixels, description="one dark texel", sha256="")
    config = VirtualSlide(x_um=100.0, y_um=50.0)
    slide = SlideTruth(config, tissue, pixel_um=0.25, seed=0)
    renderer = DefocusRenderer(slide, Optics(na=0.75, pixel_um=0.25), (63, 81))
    # With odd sizes the middle pixel sits on the optical axis.
    picture = renderer.render(100.0 + 22.5 * 0.25, 50.0 + 10.5 * 0.25, 0.0)
    assert divmod(int(picture[..., 1].argmin()), 81) == (31, 40)
    assert slide.field_at(100.0 + 22.5 * 0.25, 50.0 + 10.5 * 0.25, (63, 81)) == Field(
        row=-21, column=-18, shape=(63, 81)
    )


@pytest.mark.parametrize("spherical_waves", [0.0, 0.3])
def test_the_bank_agrees_with_the_exact_otf(spherical_waves: float) -> None:
    shape = (90, 100)
    bank = OtfBank(shape, 0.25)
    objective = Objective(na=0.75, wavelength_um=0.53, spherical_waves=spherical_waves)
    for z_um in (-3.97, -1.05, -0.02, 0.0, 0.449):
        exact = otf_grid(objective, shape, 0.25, z_um)
        assert np.abs(bank.grid(objective, z_um) - exact).max() < 2e-3


@pytest.mark.parametrize("spherical_waves", [0.0, 0.2])
def test_a_condenser_that_fills_the_pupil_is_incoherent_light(
    spherical_waves: float,
) -> None:
    """Two quadratures of one integral: Hopkins' overlap, and Abbe's sum."""
    shape = (90, 100)
    light = Light(condenser=1.0, spherical_waves=spherical_waves)
    bank = OtfBank(shape, 0.25, light)
    objective = Objective(na=0.75, wavelength_um=0.53, spherical_waves=spherical_waves)
    for z_um in (-3.97, 0.0, 0.449):
        exact = otf_grid(objective, shape, 0.25, z_um)
        assert np.abs(bank.grid(objective, z_um) - exact).max() < 2e-3


def test_light_from_a_small_condenser_shows_phase_out_of_focus() -> None:
    """In focus phase shows nothing; above and below, contrasts of opposite sign."""
    shape = (90, 100)
    objective = Objective(na=0.75, wavelength_um=0.53)
    absorbing = OtfBank(shape, 0.25, Light(condenser=0.5))
    retarding = OtfBank(shape, 0.25, Light(condenser=0.5, phase_ratio=1.0))
    above, focus, below = (
        retarding.grid(objective, z_um) - absorbing.grid(objective, z_um)
        for z_um in (1.0, 0.0, -1.0)
    )
    assert np.abs(focus).max() < 1e-4
    assert np.abs(above).max() > 0.2
    np.testing.assert_allclose(above, -below, atol=1e-3)
