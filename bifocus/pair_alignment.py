"""Bring the two shots of a pair onto one grid and one brightness, in their spectra.

A Z move drags the picture sideways by a fraction of a pixel, and lamps flicker. Both
would look like defocus to the estimator, so they are measured and removed first.
"""

import numpy as np
import numpy.typing as npt
import scipy.fft

from bifocus.pair_spectra import Complex64, PairSpectra

Float64 = npt.NDArray[np.float64]

# Only these frequencies (cycles per pixel) survive defocus with their sign unchanged
# often enough to be trusted for alignment.
_BAND_PER_PX = (0.008, 0.15)
# A shift larger than this is not the same field any more.
_LARGEST_SHIFT_PX = 12.0
# Share of the band that must agree on one shift; glass stays far below.
_LEAST_AGREEMENT = 0.2


def estimate_shift_px(pair: PairSpectra) -> tuple[float, float]:
    """Return (down, right) in pixels by which the plus shot must move to fit the minus.

    Returns (0, 0) when the shots hold too little common texture to tell.
    """
    size = pair.layout.block_px
    cross = np.einsum(
        "bcij,bcij->ij", pair.spectra[0], pair.spectra[1].conj(), optimize=True
    ).astype(np.complex128)
    rows, columns = _frequencies(size)
    radius = np.hypot(rows, columns)
    band = (radius > _BAND_PER_PX[0]) & (radius < _BAND_PER_PX[1])
    magnitude = np.abs(cross)
    whitened = np.where(band, cross / np.sqrt(magnitude + 1e-12), 0)
    correlation = scipy.fft.irfft2(whitened, (size, size))
    start = np.unravel_index(np.argmax(correlation), correlation.shape)
    whole_px = np.array([_signed(index, size) for index in start], dtype=np.float64)
    shift = _refine(whitened, rows, columns, whole_px)
    phase = np.exp(-2j * np.pi * (rows * shift[0] + columns * shift[1]))
    total = float(np.abs(whitened).sum()) + 1e-30
    agreement = float((whitened * phase.conj()).real.sum()) / total
    if agreement < _LEAST_AGREEMENT or np.abs(shift).max() > _LARGEST_SHIFT_PX:
        return 0.0, 0.0
    return float(shift[0]), float(shift[1])


def align(pair: PairSpectra, reference: int) -> tuple[float, float]:
    """Move and scale the other shot onto the `reference` shot (0 minus, 1 plus).

    Returns
    -------
    tuple of float
        The shift (down, right) that was applied, in pixels.
    """
    down, right = estimate_shift_px(pair)
    if reference == 1:
        down, right = -down, -right
    other = 1 - reference
    size = pair.layout.block_px
    ramp = _phase_ramp(size, down, right)
    brightness = pair.means.mean(axis=1)  # (shot, colour)
    gain = brightness[reference] / np.maximum(brightness[other], 1e-6)
    pair.spectra[other] *= ramp * gain[:, None, None].astype(np.float32)
    pair.means[other] *= gain
    return down, right


def _phase_ramp(size: int, down_px: float, right_px: float) -> Complex64:
    rows, columns = _frequencies(size)
    turns = rows * down_px + columns * right_px
    ramp: Complex64 = np.exp(-2j * np.pi * turns).astype(np.complex64)
    return ramp


def _frequencies(size: int) -> tuple[Float64, Float64]:
    rows = np.asarray(np.fft.fftfreq(size)[:, None], dtype=np.float64)
    columns = np.asarray(np.fft.rfftfreq(size)[None, :], dtype=np.float64)
    return rows, columns


def _signed(index: np.intp, size: int) -> int:
    return int(index) - size if int(index) > size // 2 else int(index)


def _refine(
    whitened: npt.NDArray[np.complex128],
    rows: Float64,
    columns: Float64,
    shift: Float64,
) -> Float64:
    """Newton steps to the maximum of the band-limited correlation."""
    keep = whitened != 0
    values = whitened[keep]
    grids = np.broadcast_arrays(rows, columns)
    frequency = 2 * np.pi * np.stack([grid[keep] for grid in grids])
    for _ in range(6):
        turned = values * np.exp(1j * (shift @ frequency))
        slope = -(frequency * turned.imag).sum(axis=1)
        weight = np.abs(values)
        curvature = (frequency[:, None] * frequency[None] * weight).sum(axis=2)
        curvature += np.eye(2) * 1e-9
        shift = shift + np.clip(np.linalg.solve(curvature, slope), -0.5, 0.5)
    return shift
