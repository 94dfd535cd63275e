"""The tone curve guessed from pairs, on two image formations that are not bifocus's."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from bifocus.records import UInt8Image
from bifocus.tone import ToneCurve
from bifocus.tone_choice import estimate_exponent, guess_tone_curve
from tests.imaging import (
    FOREIGN,
    expose,
    render_incoherent,
    render_partially_coherent,
)
from tests.tissue import procedural_tissue, real_crops

Float64 = npt.NDArray[np.float64]
ImageFormation = Callable[[Float64, float], Float64]
Light = list[tuple[Float64, Float64]]

HALF_SPACING_UM = 0.75
# Few heights, so that the renderer's transfer functions are used again.
OFFSETS_UM = (-0.5, 0.0, 0.25, 0.75)


def incoherent(tissue: Float64, z_um: float) -> Float64:
    return render_incoherent(tissue, z_um, 0.0, FOREIGN)


def partially_coherent(tissue: Float64, z_um: float) -> Float64:
    return render_partially_coherent(tissue, z_um, FOREIGN)


@pytest.fixture(scope="module", params=[incoherent, partially_coherent])
def light(request: pytest.FixtureRequest) -> Light:
    """Return eight pairs as light, before any camera."""
    tissues = [procedural_tissue(192, seed=80 + number) for number in range(8)]
    return shoot_all(request.param, tissues)


def shoot_all(form: ImageFormation, tissues: list[Float64]) -> Light:
    return [
        (
            form(tissue, offset_um + HALF_SPACING_UM),
            form(tissue, offset_um - HALF_SPACING_UM),
        )
        for tissue, offset_um in zip(tissues, 2 * OFFSETS_UM, strict=True)
    ]


def exposed(
    light: Light, tone_curve: ToneCurve, seed: int = 0
) -> Iterator[tuple[UInt8Image, UInt8Image]]:
    rng = np.random.default_rng(seed)
    for minus, plus in light:
        yield expose(minus, rng, tone_curve), expose(plus, rng, tone_curve)


@pytest.mark.parametrize(
    ("tone_curve", "low", "high"), [("linear", 0.9, 1.1), ("srgb", 2.0, 2.4)]
)
def test_eight_pairs_decide_rightly(
    light: Light, tone_curve: ToneCurve, low: float, high: float
) -> None:
    """sRGB is close to a power of 2.2 (IEC 61966-2-1)."""
    pairs = list(exposed(light, tone_curve))
    assert low < estimate_exponent(pairs) < high
    assert guess_tone_curve(pairs) == tone_curve


@pytest.mark.parametrize("tone_curve", ["linear", "srgb"])
def test_one_pair_off_focus_decides_rightly(
    light: Light, tone_curve: ToneCurve
) -> None:
    for pair, offset_um in zip(exposed(light, tone_curve), 2 * OFFSETS_UM, strict=True):
        if abs(offset_um) >= 0.5:
            assert guess_tone_curve([pair]) == tone_curve


@pytest.mark.parametrize("tone_curve", ["linear", "srgb"])
def test_flicker_and_a_loose_stage_change_nothing(
    light: Light, tone_curve: ToneCurve
) -> None:
    """The second shot is 3 % darker and lies 5 px away."""
    moved = [(minus, 0.97 * np.roll(plus, (3, -4), (0, 1))) for minus, plus in light]
    assert guess_tone_curve(exposed(moved, tone_curve)) == tone_curve


@pytest.mark.parametrize("tone_curve", ["linear", "srgb"])
def test_the_order_of_the_shots_does_not_matter(
    light: Light, tone_curve: ToneCurve
) -> None:
    turned = [(plus, minus) for minus, plus in light]
    assert guess_tone_curve(exposed(turned, tone_curve)) == tone_curve


@pytest.mark.parametrize("tone_curve", ["linear", "srgb"])
def test_real_tissue(data_dir: Path, tone_curve: ToneCurve) -> None:
    tissues = real_crops(data_dir, count=8, size=192, seed=5)
    light = shoot_all(partially_coherent, tissues)
    assert guess_tone_curve(exposed(light, tone_curve)) == tone_curve


def test_no_pairs_are_taken_as_a_camera_gives_them() -> None:
    assert guess_tone_curve([]) == "linear"


def test_pairs_that_tell_nothing_are_taken_as_linear() -> None:
    rng = np.random.default_rng(4)
    glass = np.ones((96, 96, 3))
    noisy = [(expose(glass, rng), expose(glass, rng)) for _ in range(8)]
    assert estimate_exponent(noisy) == 1.0
    black = np.zeros((96, 96, 3), dtype=np.uint8)
    assert estimate_exponent([(black, black)]) == 1.0


def test_the_smallest_pictures_that_fusion_takes() -> None:
    pair = (np.zeros((64, 64, 3), np.uint8), np.full((64, 64, 3), 9, np.uint8))
    assert guess_tone_curve([pair]) == "linear"
