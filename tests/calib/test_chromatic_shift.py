"""Colours beside each other: shifts put in by the Fourier shift theorem come back."""

import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import fourier_shift, gaussian_filter, zoom

from bifocus.calib.chromatic_shift import measure_colour_shift
from bifocus.records import FloatImage

Float64 = npt.NDArray[np.float64]

SHAPE = (288, 320)


def moved(plane: Float64, right_px: float, down_px: float) -> Float64:
    spectrum: npt.NDArray[np.complex128] = fourier_shift(
        np.fft.fft2(plane), (down_px, right_px)
    )
    return np.asarray(np.fft.ifft2(spectrum).real)


def stained(
    right_px: float, down_px: float, *, noise: float = 0.006
) -> list[FloatImage]:
    """Two stains with edges in common and different strengths; red moved aside."""
    rng = np.random.default_rng(12)
    nuclei = gaussian_filter(rng.normal(size=SHAPE), 3) > 0.035
    fibres = gaussian_filter(rng.normal(size=SHAPE), (2, 6)) > 0.02
    first = gaussian_filter(nuclei.astype(float), 1.2)
    second = gaussian_filter(fibres.astype(float), 1.2)
    absorbed = (0.9 * first + 0.1 * second, 0.7 * first + 0.6 * second, 0.4 * first)
    planes = [np.exp(-plane) for plane in absorbed]
    spectrum: npt.NDArray[np.complex128] = fourier_shift(
        np.fft.fft2(planes[0]), (down_px, right_px)
    )
    planes[0] = np.fft.ifft2(spectrum).real
    clean = np.stack(planes, axis=-1)
    return [
        (0.9 * clean + rng.normal(0, noise, clean.shape)).astype(np.float32)
        for _ in range(3)
    ]


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.4, -0.25), (-1.7, 0.8), (3.2, 2.4)])
def test_a_known_shift_comes_back(shift: tuple[float, float]) -> None:
    found = measure_colour_shift(stained(*shift), 0)
    assert found is not None
    assert abs(found.right_px - shift[0]) <= 3 * found.u_px
    assert abs(found.down_px - shift[1]) <= 3 * found.u_px
    assert found.u_px < 0.05
    assert abs(found.distance_px - np.hypot(*shift)) <= 3 * found.u_px
    assert abs(found.magnification) < 1e-3


def test_a_larger_picture_is_told_from_a_shift() -> None:
    """Red 0.5 % larger: 0.8 px at the edges, nothing in the middle."""
    frames = stained(0.0, 0.0)
    for frame in frames:
        larger = zoom(
            frame[..., 0].astype(float), 1.005, order=3, grid_mode=True, mode="reflect"
        )
        top = (larger.shape[0] - SHAPE[0]) / 2
        left = (larger.shape[1] - SHAPE[1]) / 2
        frame[..., 0] = moved(larger, -left, -top)[: SHAPE[0], : SHAPE[1]]
    found = measure_colour_shift(frames, 0)
    assert found is not None
    assert found.magnification == pytest.approx(0.005, abs=0.0015)
    assert abs(found.right_px) < 0.1
    assert abs(found.down_px) < 0.1


def test_glass_tells_nothing() -> None:
    rng = np.random.default_rng(2)
    frames = [rng.normal(0.9, 0.006, (*SHAPE, 3)).astype(np.float32) for _ in range(3)]
    assert measure_colour_shift(frames, 0) is None
    assert measure_colour_shift(frames, 2) is None
