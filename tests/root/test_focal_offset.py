"""The focal offset read from pairs that `bifocus.optics` did not render."""

import dataclasses
from functools import lru_cache

import numpy as np
import pytest

from bifocus.errors import ConfigError
from bifocus.focal_offset import (
    OffsetMap,
    PairOptics,
    offset_grid_um,
    split_energy,
    transfer_tables,
)
from bifocus.optics import otf_radial
from bifocus.pair_spectra import LARGE_BLOCKS, radial_bins
from bifocus.physics_fusion import measure_pair
from bifocus.transfer import INCOHERENT
from tests.imaging import (
    FOREIGN,
    HARSH,
    MATCHED,
    RenderedPair,
    Scope,
    UInt8,
    expose,
    shoot_incoherent,
    shoot_partially_coherent,
)
from tests.tissue import procedural_tissue, smooth_relief_um

# Multiples of the search step (0.05 n lambda / NA^2 = 0.0471 um): the transfer tables
# of all three then share their OTFs, which are slow to compute.
HALF_SPACINGS_UM = tuple(steps * 0.05 * 0.53 / 0.75**2 for steps in (11, 16, 32))
HALF_SPACING_UM = HALF_SPACINGS_UM[1]  # 0.754 um


def optics(half_spacing_um: float = HALF_SPACING_UM) -> PairOptics:
    return PairOptics(na=0.75, pixel_um=0.25, half_spacing_um=half_spacing_um)


TOLD = dataclasses.replace(optics(), light=INCOHERENT)


def measure_offset(minus: UInt8, plus: UInt8, pair_optics: PairOptics) -> OffsetMap:
    return measure_pair(minus, plus, pair_optics).offsets


def measure(pair: RenderedPair, half_spacing_um: float = HALF_SPACING_UM) -> OffsetMap:
    return measure_offset(pair.minus, pair.plus, optics(half_spacing_um))


@lru_cache(maxsize=64)
def matched_pair(
    offset_um: float, half_spacing_um: float = HALF_SPACING_UM, seed: int = 1
) -> RenderedPair:
    tissue = procedural_tissue(224, seed)
    rng = np.random.default_rng(seed)
    return shoot_incoherent(tissue, offset_um, half_spacing_um, MATCHED, rng)


@pytest.mark.parametrize("half_spacing_um", HALF_SPACINGS_UM)
@pytest.mark.parametrize("offset_um", [-2.0, -0.6, -0.1, 0.0, 0.25, 0.8, 1.7])
def test_matched_optics_give_the_offset(
    offset_um: float, half_spacing_um: float
) -> None:
    tile = measure(matched_pair(offset_um, half_spacing_um), half_spacing_um).tile
    assert tile.offset_um == pytest.approx(offset_um, abs=0.15)
    assert tile.confidence > 0.8


@pytest.mark.parametrize("half_spacing_um", HALF_SPACINGS_UM[:2])
@pytest.mark.parametrize("offset_um", [-1.3, -0.9, 1.1, 1.4])
def test_it_does_so_too_where_one_shot_is_in_focus(
    offset_um: float, half_spacing_um: float
) -> None:
    tile = measure(matched_pair(offset_um, half_spacing_um), half_spacing_um).tile
    assert tile.offset_um == pytest.approx(offset_um, abs=0.15)


def test_wide_spacing_is_vague_where_one_shot_is_in_focus() -> None:
    """Shots 3 um apart: the far one is all but empty, and one shot alone tells little.

    The estimate leans to the near shot's own plane, by up to 0.54 um in 24 tiles.
    """
    half_spacing_um = HALF_SPACINGS_UM[2]
    for offset_um in (1.0, 1.2, 1.4):
        pair = matched_pair(offset_um, half_spacing_um)
        found_um = measure(pair, half_spacing_um).tile.offset_um
        assert offset_um - 0.15 < found_um < half_spacing_um + 0.3


def test_positive_means_that_the_plus_shot_is_nearer() -> None:
    pair = matched_pair(0.9)
    assert pair.sharper is pair.plus
    assert measure(pair).tile.offset_um > 0.5


@pytest.mark.slow
def test_stated_sd_is_honest_on_matched_optics() -> None:
    """Monte Carlo: own tissue, offset, relief and noise in each of 40 tiles."""
    rng = np.random.default_rng(12)
    within = []
    for seed in range(40):
        offset_um = float(np.clip(rng.normal(), -2, 2))
        relief_um = smooth_relief_um(200, seed, 0.4) if seed % 2 else 0.0
        pair = shoot_incoherent(
            procedural_tissue(200, 300 + seed),
            offset_um + relief_um,
            HALF_SPACING_UM,
            MATCHED,
            np.random.default_rng(seed),
        )
        tile = measure(pair).tile
        within.append(abs(tile.offset_um - pair.offset_um) <= 2 * tile.sd_um)
    assert np.mean(within) >= 0.85


@pytest.mark.parametrize("scope", [FOREIGN, HARSH], ids=["foreign", "harsh"])
def test_foreign_optics_give_it_roughly_and_in_order(scope: Scope) -> None:
    truth_um = np.array([-1.5, -1.0, -0.6, -0.2, 0.2, 0.6, 1.0, 1.5])
    tissue = procedural_tissue(200, 5)
    rng = np.random.default_rng(0)
    found_um = np.array(
        [
            measure(
                shoot_partially_coherent(tissue, z_um, HALF_SPACING_UM, scope, rng)
            ).tile.offset_um
            for z_um in map(float, truth_um)
        ]
    )
    assert np.abs(found_um - truth_um).mean() <= 0.4
    assert np.all(np.diff(found_um) > 0)


def test_local_offsets_follow_a_tilted_slice() -> None:
    size = 432  # three blocks
    slope_um_per_px = 0.8 / size
    height_um = (np.arange(size) - (size - 1) / 2) * slope_um_per_px
    tilted_um = np.asarray(0.2 + np.tile(height_um, (size, 1)), dtype=np.float64)
    tissue = procedural_tissue(size, 7)
    rng = np.random.default_rng(0)
    pair = shoot_incoherent(tissue, tilted_um, HALF_SPACING_UM, MATCHED, rng)
    local_um = measure(pair).local_um
    assert local_um.shape == (3, 3)
    # blocks reach past the right edge: there the mirrored border is what they see
    across = np.diff(local_um, axis=1)[:, 0] / LARGE_BLOCKS.hop_px
    down = np.diff(local_um, axis=0) / LARGE_BLOCKS.hop_px
    np.testing.assert_allclose(across, slope_um_per_px, rtol=0.3)
    assert np.abs(down).max() < 0.15 * slope_um_per_px
    assert measure(pair).tile.offset_um == pytest.approx(0.2, abs=0.1)


@pytest.mark.parametrize("shape", [(256, 300, 3), (512, 612, 3), (700, 900, 3)])
def test_blank_glass_has_no_confidence(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    blank = np.ones(shape)
    tile = measure_offset(expose(blank, rng), expose(blank, rng), optics()).tile
    assert np.isfinite([tile.offset_um, tile.sd_um]).all()
    assert tile.confidence < 0.2


def test_noiseless_glass_has_no_confidence() -> None:
    blank = expose(np.ones((256, 256, 3)))
    assert measure_offset(blank, blank, optics()).tile.confidence < 0.2


def dimmed(pixels: UInt8, gain: float) -> UInt8:
    result: UInt8 = np.rint(pixels * gain).astype(np.uint8)
    return result


@pytest.mark.parametrize("gain", [0.5, 0.8])
def test_brightness_does_not_matter(gain: float) -> None:
    pair = matched_pair(0.9)
    before = measure(pair).tile
    minus, plus = (dimmed(pixels, gain) for pixels in (pair.minus, pair.plus))
    after = measure_offset(minus, plus, optics()).tile
    # dimming 8-bit values rounds them once more
    assert after.offset_um == pytest.approx(before.offset_um, abs=0.03)
    one = measure_offset(pair.minus, dimmed(pair.plus, gain), optics()).tile
    assert one.offset_um == pytest.approx(before.offset_um, abs=0.03)


@pytest.mark.parametrize("offset_um", [-1.3, 0.25, 0.9])
def test_swapped_shots_turn_the_sign(offset_um: float) -> None:
    pair = matched_pair(offset_um)
    forward, swapped = (
        measure_offset(first, second, TOLD)
        for first, second in ((pair.minus, pair.plus), (pair.plus, pair.minus))
    )
    assert swapped.tile.offset_um == pytest.approx(-forward.tile.offset_um, abs=0.01)
    np.testing.assert_allclose(swapped.local_um, -forward.local_um, atol=0.02)
    assert swapped.tile.confidence == pytest.approx(forward.tile.confidence, abs=0.01)


def test_transfer_tables_hold_the_otf_of_both_shots() -> None:
    tables = transfer_tables(optics(), 128)
    offsets_um = offset_grid_um(optics())
    np.testing.assert_allclose(offsets_um, -offsets_um[::-1])
    assert offsets_um[-1] == pytest.approx(4 * 0.53 / 0.75**2)
    frequency = radial_bins(128).frequency.astype(np.float64) / 0.25
    for number in (0, 70, 110):
        for side, plane_um in enumerate((-HALF_SPACING_UM, HALF_SPACING_UM)):
            z_um = plane_um - float(offsets_um[number])
            expected = otf_radial(optics().objective(1), frequency, z_um)
            # both read tables by linear interpolation
            np.testing.assert_allclose(tables[1, side, number], expected, atol=3e-3)
    # without aberrations the shots change places when the offset changes sign
    np.testing.assert_allclose(tables[:, 0], tables[:, 1, ::-1], atol=1e-4)


def test_energy_is_split_without_loss() -> None:
    rng = np.random.default_rng(0)
    h = rng.uniform(-1, 1, (2, 500)).astype(np.float32)
    signal = rng.normal(size=500) + 1j * rng.normal(size=500)
    minus, plus = h * signal
    energies = [abs(minus) ** 2, abs(plus) ** 2, (minus * plus.conj()).real]
    statistics = np.stack(energies).astype(np.float32)
    along, across, norm = split_energy(statistics, h)
    np.testing.assert_allclose(norm, (h**2).sum(axis=0), rtol=1e-5)
    # shots that obey the model have all their energy along h
    np.testing.assert_allclose(along, norm * np.abs(signal) ** 2, rtol=1e-3, atol=1e-5)
    assert np.all(across <= 1e-4 * (1 + along))
    turned = np.stack([-h[1], h[0]])
    along, across, _ = split_energy(statistics, turned)
    np.testing.assert_allclose(across, norm * np.abs(signal) ** 2, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"pixel_um": 0.0},
        {"pixel_um": float("nan")},
        {"half_spacing_um": -0.5},
        {"half_spacing_um": float("inf")},
        {"na": 1.2},
        {"na": float("nan")},
        {"wavelengths_um": (0.6, 0.0, 0.4)},
    ],
)
def test_optics_that_do_not_exist_are_refused(change: dict[str, float]) -> None:
    good = {"na": 0.75, "pixel_um": 0.25, "half_spacing_um": 0.75}
    with pytest.raises(ConfigError):
        PairOptics(**{**good, **change})  # type: ignore[arg-type]
