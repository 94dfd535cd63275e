"""Known sideways shifts and lamp changes are found under different defocus."""

import numpy as np
import pytest
import scipy.fft

from bifocus.pair_alignment import align, estimate_shift_px
from bifocus.pair_spectra import compute_spectra
from bifocus.records import FloatImage
from tests.imaging import FOREIGN, MATCHED, render_incoherent, render_partially_coherent
from tests.tissue import Float64, procedural_tissue

# Remove with the fix: the mirrored border does not move with the picture.

SIZE = 256
TISSUE = procedural_tissue(SIZE, 11)


def moved(image: Float64, down_px: float, right_px: float) -> Float64:
    """Move a periodic picture by any fraction of a pixel, by Fourier's theorem."""
    rows = np.fft.fftfreq(SIZE)[:, None, None]
    columns = np.fft.rfftfreq(SIZE)[None, :, None]
    ramp = np.exp(-2j * np.pi * (rows * down_px + columns * right_px))
    spectrum = scipy.fft.rfft2(image, axes=(0, 1)) * ramp
    back = scipy.fft.irfft2(spectrum, (SIZE, SIZE), axes=(0, 1))
    return np.asarray(back, dtype=np.float64)


def grainy(image: Float64, seed: int) -> FloatImage:
    rng = np.random.default_rng(seed)
    return (image + rng.normal(0, 0.006, image.shape)).astype(np.float32)


def found_px(minus: FloatImage, plus: FloatImage) -> tuple[float, float]:
    return estimate_shift_px(minus, plus)


def shifted_pair(
    shift_px: tuple[float, float],
    offset_um: float,
    *,
    gain: tuple[float, float, float] = (1, 1, 1),
) -> tuple[FloatImage, FloatImage]:
    """Return shots at +-0.75 um, the plus shot moved and its lamp changed."""
    minus, plus = (
        render_incoherent(TISSUE, offset_um, plane_um, MATCHED)
        for plane_um in (-0.75, 0.75)
    )
    plus = moved(plus, *shift_px) * np.array(gain)
    return grainy(minus, 0), grainy(plus, 1)


@pytest.mark.parametrize("offset_um", [0.0, -0.75, 1.2])
@pytest.mark.parametrize("shift_px", [(0.3, -0.45), (-1.5, 2.25), (6.2, -7.7)])
def test_shift_is_found_under_different_defocus(
    shift_px: tuple[float, float], offset_um: float
) -> None:
    # to fit the minus shot, the plus shot must move back
    found = found_px(*shifted_pair(shift_px, offset_um))
    assert found == pytest.approx((-shift_px[0], -shift_px[1]), abs=0.05)


@pytest.mark.parametrize("offset_um", [0.0, -0.75, 1.2])
def test_no_shift_is_found_where_there_is_none(offset_um: float) -> None:
    assert found_px(*shifted_pair((0, 0), offset_um)) == pytest.approx((0, 0), abs=0.05)


def test_shift_is_found_in_partially_coherent_light() -> None:
    minus = render_partially_coherent(TISSUE, 1.1, FOREIGN)
    plus = render_partially_coherent(TISSUE, -0.4, FOREIGN)
    plus = moved(plus, 0.8, -0.6)
    # coma moves the picture with defocus; 0.03 waves are some hundredths of a pixel
    assert found_px(grainy(minus, 0), grainy(plus, 1)) == pytest.approx(
        (-0.8, 0.6), abs=0.1
    )


@pytest.mark.parametrize("reference", [0, 1])
def test_align_removes_shift_and_brightness(reference: int) -> None:
    shots = shifted_pair((0.7, -1.3), 0.3, gain=(0.8, 0.9, 1.1))
    pair = compute_spectra(*shots)
    kept = pair.spectra[reference].copy()
    measured = estimate_shift_px(*shots)
    assert measured == pytest.approx((-0.7, 1.3), abs=0.05)
    align(pair, measured, reference=reference)
    np.testing.assert_array_equal(pair.spectra[reference], kept)
    brightness = pair.means.mean(axis=1)
    np.testing.assert_allclose(brightness[0], brightness[1], rtol=1e-4)
    # defocus keeps the phase of low frequencies and, near zero, their strength
    low = (..., slice(1, 4), slice(1, 4))
    ratio = (pair.spectra[1][low] * pair.spectra[0][low].conj()).sum(axis=(0, 2, 3))
    ratio /= (np.abs(pair.spectra[0][low]) ** 2).sum(axis=(0, 2, 3))
    np.testing.assert_allclose(ratio, 1, atol=0.05)


def test_blank_glass_is_not_moved() -> None:
    blank = np.full((SIZE, SIZE, 3), 0.9)
    assert found_px(grainy(blank, 0), grainy(blank, 1)) == (0.0, 0.0)
    flat = np.full((SIZE, SIZE, 3), 0.9, dtype=np.float32)
    assert found_px(flat, flat) == (0.0, 0.0)


def test_different_fields_are_not_moved() -> None:
    other = procedural_tissue(SIZE, 12)
    assert found_px(grainy(TISSUE, 0), grainy(other, 1)) == (0.0, 0.0)


def test_a_dark_shot_stays_finite() -> None:
    dark = np.zeros((SIZE, SIZE, 3), dtype=np.float32)
    shots = grainy(TISSUE, 0), dark
    assert found_px(*shots) == (0.0, 0.0)
    pair = compute_spectra(*shots)
    align(pair, (0.0, 0.0), reference=0)
    assert np.isfinite(pair.spectra).all()
