"""Two-shot fusion on pairs from other optics than the ones it was told of."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from bifocus.errors import ImageFileError
from bifocus.focal_offset import PairOptics
from bifocus.physics_fusion import PhysicsResult, fuse_two_shots
from bifocus.tone import join_levels
from tests.imaging import (
    FOREIGN,
    HARSH,
    MATCHED,
    RenderedPair,
    Scope,
    UInt8,
    psnr_db,
    shoot_incoherent,
    shoot_partially_coherent,
)
from tests.tissue import Float64, procedural_tissue, real_crops, smooth_relief_um

# A multiple of the search step, as in test_focal_offset.py: the OTFs are shared.
HALF_SPACING_UM = 16 * 0.05 * 0.53 / 0.75**2  # 0.754 um
OPTICS = PairOptics(na=0.75, pixel_um=0.25, half_spacing_um=HALF_SPACING_UM)
# A tile counts as harmed when it lost more than this to the sharper shot.
HARM_DB = -0.1

Shoot = Callable[[Float64, float, np.random.Generator], RenderedPair]


def fuse(pair: RenderedPair) -> PhysicsResult:
    return fuse_two_shots(pair.minus, pair.plus, OPTICS)


def gain_db(pair: RenderedPair) -> float:
    fused, sharper = fuse(pair).pixels, pair.sharper
    return psnr_db(fused, pair.truth) - psnr_db(sharper, pair.truth)


def gains_db(tissues: list[Float64], shoot: Shoot) -> Float64:
    """Return the gain of each tile at its own offset, normally distributed, sd 1 um."""
    rng = np.random.default_rng(5)
    offsets_um = np.clip(rng.normal(size=len(tissues)), -2.2, 2.2)
    return np.array(
        [
            gain_db(shoot(tissue, float(offset_um), np.random.default_rng(number)))
            for number, (tissue, offset_um) in enumerate(
                zip(tissues, offsets_um, strict=True)
            )
        ]
    )


def partially_coherent(scope: Scope) -> Shoot:
    def shoot(
        tissue: Float64, offset_um: float, rng: np.random.Generator
    ) -> RenderedPair:
        return shoot_partially_coherent(tissue, offset_um, HALF_SPACING_UM, scope, rng)

    return shoot


@lru_cache(maxsize=16)
def level_pair(offset_um: float, shape: tuple[int, int] = (224, 224)) -> RenderedPair:
    tissue = procedural_tissue(max(shape), 1)[: shape[0], : shape[1]]
    rng = np.random.default_rng(1)
    return shoot_incoherent(tissue, offset_um, HALF_SPACING_UM, MATCHED, rng)


@pytest.mark.slow
@pytest.mark.parametrize("scope", [FOREIGN, HARSH], ids=["foreign", "harsh"])
def test_procedural_tissue_under_foreign_light_gains(scope: Scope) -> None:
    tissues = [procedural_tissue(200, 100 + seed) for seed in range(10)]
    gains = gains_db(tissues, partially_coherent(scope))
    assert gains.mean() > 1
    assert np.mean(gains < HARM_DB) <= 0.1


@pytest.mark.slow
@pytest.mark.parametrize("scope", [FOREIGN, HARSH], ids=["foreign", "harsh"])
def test_real_tissue_under_foreign_light_gains(scope: Scope, data_dir: Path) -> None:
    tissues = real_crops(data_dir, 10, 200, seed=7)
    assert len(tissues) == 10
    gains = gains_db(tissues, partially_coherent(scope))
    assert gains.mean() > 1
    assert np.mean(gains < HARM_DB) <= 0.1


@pytest.mark.slow
def test_relief_in_incoherent_light_gains() -> None:
    tissues = [procedural_tissue(200, 200 + seed) for seed in range(8)]

    def shoot(
        tissue: Float64, offset_um: float, rng: np.random.Generator
    ) -> RenderedPair:
        relief_um = smooth_relief_um(200, int(rng.integers(1000)), 0.4)
        height_um = offset_um + relief_um
        return shoot_incoherent(tissue, height_um, HALF_SPACING_UM, MATCHED, rng)

    gains = gains_db(tissues, shoot)
    assert gains.mean() > 2.5
    assert np.mean(gains < HARM_DB) <= 0.1


@pytest.mark.parametrize("side", [-1, 1])
def test_a_shot_that_is_the_truth_comes_back(side: int) -> None:
    tissue = procedural_tissue(256, 3)
    pair = shoot_incoherent(
        tissue, side * HALF_SPACING_UM, HALF_SPACING_UM, MATCHED, None
    )
    np.testing.assert_array_equal(pair.sharper, pair.truth)
    result = fuse(pair)
    assert result.sharper_is_plus == (side > 0)
    assert psnr_db(result.pixels, pair.truth) >= 45
    assert np.abs(result.pixels.astype(int) - pair.truth).max() <= 3


def test_a_noisy_shot_in_focus_is_not_made_worse() -> None:
    pair = level_pair(HALF_SPACING_UM)
    assert gain_db(pair) >= HARM_DB


@pytest.mark.parametrize("offset_um", [0.0, 0.4, -1.2])
def test_matched_optics_gain_more_than_foreign(offset_um: float) -> None:
    pair = level_pair(offset_um)
    result = fuse(pair)
    assert gain_db(pair) > 2
    assert result.quality > 0.8
    assert result.offset.offset_um == pytest.approx(offset_um, abs=0.15)
    assert result.seconds > 0


def test_shots_of_different_fields_are_not_mixed_into_nonsense() -> None:
    """The result stays near a shot, and the quality says that nothing fits."""
    one = level_pair(0.4)
    tissue = procedural_tissue(224, 99)
    rng = np.random.default_rng(2)
    other = shoot_incoherent(tissue, 0.4, HALF_SPACING_UM, MATCHED, rng)
    result = fuse_two_shots(one.minus, other.plus, OPTICS)
    assert result.quality < fuse(one).quality - 0.2
    assert np.isfinite([result.offset.offset_um, result.offset.sd_um]).all()


@pytest.mark.parametrize(
    "shape", [(64, 64), (65, 131), (127, 64), (199, 201), (200, 333), (257, 300)]
)
def test_small_and_odd_sizes_work(shape: tuple[int, int]) -> None:
    tissue = procedural_tissue(max(shape), 8)[: shape[0], : shape[1]]
    rng = np.random.default_rng(0)
    pair = shoot_incoherent(tissue, 0.0, HALF_SPACING_UM, MATCHED, rng)
    result = fuse(pair)
    assert result.pixels.shape == (*shape, 3)
    assert result.pixels.dtype == np.uint8
    assert psnr_db(result.pixels, pair.truth) > psnr_db(pair.sharper, pair.truth)
    # the border, too, holds a picture: the shots wrap around there, so only roughly
    error = np.abs(result.pixels.astype(int) - pair.truth)
    assert error.mean() < 6


@pytest.mark.slow
def test_four_megapixels_with_black_and_saturated_parts() -> None:
    pair = level_pair(0.4, (256, 256))
    minus, plus = (np.tile(shot, (8, 8, 1)) for shot in (pair.minus, pair.plus))
    for shot in (minus, plus):
        shot[:300], shot[300:600] = 0, 255
    result = fuse_two_shots(minus, plus, OPTICS)  # a NaN would warn when cast to uint8
    assert result.pixels.shape == (2048, 2048, 3)
    assert np.isfinite(result.local_um).all()
    assert 0 <= result.quality <= 1
    inner = (slice(100, 200), slice(100, -100))
    assert result.pixels[inner].max() <= 2
    tile = result.pixels[1024:1280, 1024:1280]
    gain = psnr_db(tile, pair.truth) - psnr_db(pair.sharper, pair.truth)
    assert gain > 1


def test_the_result_is_deterministic() -> None:
    pair = level_pair(0.4)
    first, second = fuse(pair), fuse(pair)
    np.testing.assert_array_equal(first.pixels, second.pixels)
    np.testing.assert_array_equal(first.local_um, second.local_um)
    assert first.offset == second.offset
    assert first.quality == second.quality


def test_the_inputs_are_left_alone() -> None:
    pair = level_pair(0.4)
    before = pair.minus.copy(), pair.plus.copy()
    fuse(pair)
    np.testing.assert_array_equal(pair.minus, before[0])
    np.testing.assert_array_equal(pair.plus, before[1])


def test_srgb_pairs_need_the_srgb_curve() -> None:
    gains = []
    for seed, offset_um in ((1, 0.0), (2, 0.4), (3, -1.1)):
        pair = shoot_incoherent(
            procedural_tissue(224, seed),
            offset_um,
            HALF_SPACING_UM,
            MATCHED,
            np.random.default_rng(seed),
            "srgb",
        )
        srgb, linear = (
            fuse_two_shots(pair.minus, pair.plus, OPTICS, tone_curve=curve)
            for curve in ("srgb", "linear")
        )
        gains.append(
            psnr_db(srgb.pixels, pair.truth) - psnr_db(linear.pixels, pair.truth)
        )
    # 0.34, 0.08 and 0.12 dB measured: H&E has little contrast in light
    assert np.mean(gains) > 0.1
    assert min(gains) > 0


def shot(shape: tuple[int, ...] = (80, 80, 3), dtype: str = "uint8") -> UInt8:
    return np.full(shape, 200, dtype=dtype)


@pytest.mark.parametrize(
    ("minus", "plus", "words"),
    [
        (shot(), shot((80, 96, 3)), "differ in size"),
        (shot((80, 80)), shot((80, 80)), "8-bit RGB"),
        (shot((80, 80, 4)), shot((80, 80, 4)), "8-bit RGB"),
        (shot(), shot(dtype="uint16"), "plus shot must be 8-bit RGB"),
        (shot(dtype="float32"), shot(), "minus shot must be 8-bit RGB"),
        (shot((63, 80, 3)), shot((63, 80, 3)), "at least 64 px"),
        (shot((0, 0, 3)), shot((0, 0, 3)), "at least 64 px"),
    ],
)
def test_unusable_shots_are_refused(minus: UInt8, plus: UInt8, words: str) -> None:
    with pytest.raises(ImageFileError, match=words):
        fuse_two_shots(minus, plus, OPTICS)


def test_blank_glass_stays_blank() -> None:
    rng = np.random.default_rng(0)
    minus, plus = (
        np.clip(rng.normal(235, 1.5, (200, 200, 3)), 0, 255).astype(np.uint8)
        for _ in range(2)
    )
    result = fuse_two_shots(minus, plus, OPTICS)
    assert np.abs(result.pixels.astype(float) - 234.5).mean() < 1.5
    assert result.pixels.std() <= 1.1 * minus.std()


def test_the_picture_and_its_remainder_are_the_light_unrounded() -> None:
    result = fuse(level_pair(0.5))
    exact = 255 * np.clip(result.linear.astype(np.float64), 0, 1)
    joined = join_levels(result.pixels, result.remainder())
    assert np.abs(joined - exact).max() <= 1 / 256 + 1e-4
    # Fractions are spread evenly: as in light that knows nothing of levels.
    part = joined - result.pixels
    assert part.std() == pytest.approx(1 / np.sqrt(12), rel=0.03)
