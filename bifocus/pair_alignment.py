"""Bring the two shots of a pair onto one grid and one brightness.

A Z move drags the picture sideways by a fraction of a pixel, and lamps flicker. Both
would look like defocus to the estimator, so they are measured and removed first.

The shift is read from the phase of the cross-spectrum of the whole fields: weighted by
power, since the weak frequencies are those that defocus has turned over. The window
follows half the shift in each shot, so that both see the same tissue under it.
"""

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt
import scipy.fft

from bifocus.pair_spectra import Complex64, PairSpectra
from bifocus.records import FloatImage

Float64 = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]

# Pixels are averaged two by two first: the band below leaves nothing to lose.
BIN_PX = 2
# Only these frequencies (cycles per pixel) survive defocus with their sign unchanged
# often enough to be trusted for alignment.
BAND_PER_PX = (0.008, 0.15)
# A shift larger than this is not the same field any more.
LARGEST_SHIFT_PX = 12.0
# Share of the band's power that must agree on one shift; glass stays far below.
LEAST_AGREEMENT = 0.5
_PASSES = 3
# Windows that lie this close to where they should, in binned pixels, are not moved
# again: what they still pull the shift by is a tenth of that.
_SETTLED_PX = 0.02
_NEWTON_STEPS = 20


def estimate_shift_px(minus: FloatImage, plus: FloatImage) -> tuple[float, float]:
    """Return (down, right) in pixels by which the plus shot must move to fit the minus.

    Parameters
    ----------
    minus, plus
        Linear light, float32, (rows, columns, 3), both sides at least 64 px.

    Returns
    -------
    tuple of float
        (0, 0) when the shots hold too little common texture to tell.
    """
    first, second = _binned(minus), _binned(plus)
    band, frequency = _band((first.shape[0], first.shape[1]))
    shift: Float64 = np.zeros(2)
    agreement = 0.0
    for number in range(_PASSES):
        middle = shift
        cross = _windowed(first, middle / 2) * _windowed(second, -middle / 2).conj()
        if number == 0:
            shift = _coarse_peak(np.where(band, cross, 0), first.shape)
        shift, agreement = _refine(cross[band], frequency, shift)
        if np.abs(shift - middle).max() < _SETTLED_PX:
            break
    shift = shift * BIN_PX
    if agreement < LEAST_AGREEMENT or np.abs(shift).max() > LARGEST_SHIFT_PX:
        return 0.0, 0.0
    return float(shift[0]), float(shift[1])


def align(pair: PairSpectra, shift_px: tuple[float, float], reference: int) -> None:
    """Move and scale the other shot onto the `reference` shot, in place.

    Parameters
    ----------
    pair
        Spectra of both shots.
    shift_px
        What `estimate_shift_px` found for them.
    reference
        0 to keep the minus shot as it is, 1 to keep the plus shot.
    """
    down, right = shift_px if reference == 0 else (-shift_px[0], -shift_px[1])
    other = 1 - reference
    rows, columns = _frequencies((pair.layout.block_px, pair.layout.block_px))
    turns = rows * down + columns * right
    ramp: Complex64 = np.exp(-2j * np.pi * turns).astype(np.complex64)
    brightness = pair.means.mean(axis=1)  # (shot, colour)
    gain = brightness[reference] / np.maximum(brightness[other], 1e-6)
    pair.spectra[other] *= ramp * gain[:, None, None].astype(np.float32)
    pair.means[other] *= gain


def _binned(image: FloatImage) -> Float32:
    """Return the grey picture at half the size, less the level of its first pixel.

    The level is of no interest; without it, blank glass is zero and not rounding.
    """
    rows, columns, colours = image.shape
    size = (columns // BIN_PX, rows // BIN_PX)
    total: Float32 = np.zeros((size[1], size[0]), dtype=np.float32)
    for colour in range(colours):
        plane = image[: size[1] * BIN_PX, : size[0] * BIN_PX, colour]
        binned = cv2.resize(plane, size, interpolation=cv2.INTER_AREA)
        total = total + np.asarray(binned, dtype=np.float32)
    gray: Float32 = (total - total[0, 0]) / np.float32(colours)
    return gray


@lru_cache(maxsize=4)
def _band(shape: tuple[int, int]) -> tuple[npt.NDArray[np.bool_], Float64]:
    """Return where the band is in the half plane, and its angular frequencies."""
    rows, columns = _frequencies(shape)
    radius = np.hypot(rows, columns) / BIN_PX
    band = (radius > BAND_PER_PX[0]) & (radius < BAND_PER_PX[1])
    turns = [grid[band] for grid in np.broadcast_arrays(rows, columns)]
    return band, 2 * np.pi * np.stack(turns)


def _windowed(gray: Float32, shift: Float64) -> Complex64:
    """Return the spectrum under a Hann window whose middle is moved by `shift`."""
    down, right = (
        _hann(length, float(middle)).astype(np.float32)
        for length, middle in zip(gray.shape, shift, strict=True)
    )
    mean = (down @ gray @ right) / (down.sum() * right.sum())
    bare = gray - mean
    bare *= down[:, None]
    bare *= right
    return np.asarray(scipy.fft.rfft2(bare), dtype=np.complex64)


def _hann(length: int, middle: float) -> Float64:
    x = np.arange(length) + 0.5 - middle
    inside = (x > 0) & (x < length)
    return np.where(inside, 0.5 - 0.5 * np.cos(2 * np.pi * x / length), 0.0)


def _frequencies(shape: tuple[int, int]) -> tuple[Float64, Float64]:
    rows = np.asarray(np.fft.fftfreq(shape[0])[:, None], dtype=np.float64)
    columns = np.asarray(np.fft.rfftfreq(shape[1])[None, :], dtype=np.float64)
    return rows, columns


def _coarse_peak(cross: Complex64, shape: tuple[int, ...]) -> Float64:
    """Return the whole-pixel peak of the correlation, signed."""
    correlation = scipy.fft.irfft2(cross, shape)
    peak = np.unravel_index(int(np.argmax(correlation)), shape)
    signed = [
        int(index) - length if index > length // 2 else int(index)
        for index, length in zip(peak, shape, strict=True)
    ]
    return np.array(signed, dtype=np.float64)


def _refine(
    cross: Complex64, frequency: Float64, shift: Float64
) -> tuple[Float64, float]:
    """Climb to the maximum of the correlation; return it and the agreement there."""
    for _ in range(_NEWTON_STEPS):
        turned = cross * np.exp(1j * (shift @ frequency))
        slope = -(frequency * turned.imag).sum(axis=1)
        weighted = frequency * np.maximum(turned.real, 0)
        curvature = weighted @ frequency.T + 1e-12 * np.eye(2)
        step = np.clip(np.linalg.solve(curvature, slope), -0.5, 0.5)
        shift = shift + step
        if np.abs(step).max() < 1e-3:
            break
    turned = cross * np.exp(1j * (shift @ frequency))
    total = float(np.abs(cross).sum()) + 1e-30
    return shift, float(turned.real.sum()) / total
