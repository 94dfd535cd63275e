"""What blind deblurring methods share: kernel from gradients, scales, deconvolution.

Pan et al. (CVPR 2016) and Bai et al. (TIP 2019) differ in how they make the
intermediate picture; both then estimate the kernel from its gradients by least squares,
work from coarse to fine, and restore the picture with the final kernel by a non-blind
method. Pictures here are float64, 0..1, and wrap around: taper them first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy.ndimage import center_of_mass, gaussian_filter, label
from scipy.ndimage import shift as shift_picture

from bifocus.records import UInt8Image

Float64 = npt.NDArray[np.float64]
Complex128 = npt.NDArray[np.complex128]

# Both papers drop what is fainter than this share of the kernel's peak.
_FAINT = 0.05
_BORDER_PX = 32

# Makes the intermediate picture from the blurred one and the kernel.
Sharpen = Callable[[Float64, Float64], Float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlindSettings:
    """Sizes of the search; the same for both methods.

    `kernel_px` is odd and holds the blur of 1.5 um defocus at NA 0.75 and 0.25 um.
    """

    kernel_px: int = 15
    iterations: int = 4
    kernel_weight: float = 2.0
    restore_weight: float = 0.002


def deblur_blindly(
    shot: UInt8Image, sharpen: Sharpen, settings: BlindSettings
) -> UInt8Image:
    """Return the shot deblurred with a kernel estimated from its green channel.

    Parameters
    ----------
    shot
        uint8 RGB, (rows, columns, 3).
    sharpen
        The method's own step.
    settings
        Kernel size, iterations at each scale, weights.
    """
    stored = shot.astype(np.float64) / 255
    border = (_BORDER_PX, _BORDER_PX)
    wide = np.pad(stored, (border, border, (0, 0)), mode="symmetric")
    wide = np.stack([_tapered(wide[..., colour]) for colour in range(3)], axis=2)
    kernel = estimate_kernel_by_scales(wide[..., 1], sharpen, settings)
    inner = slice(_BORDER_PX, -_BORDER_PX)
    restored = np.stack(
        [
            restore_tv(wide[..., colour], kernel, settings.restore_weight)
            for colour in range(3)
        ],
        axis=2,
    )[inner, inner]
    return np.rint(255 * np.clip(restored, 0, 1)).astype(np.uint8)


def estimate_kernel_by_scales(
    blurred: Float64, sharpen: Sharpen, settings: BlindSettings
) -> Float64:
    """Return the kernel found from coarse to fine, scales a factor sqrt(2) apart."""
    sizes = _kernel_sizes(settings.kernel_px)
    kernel: Float64 = np.zeros((sizes[0], sizes[0]))
    middle = sizes[0] // 2
    # Both papers start from two or three pixels in a row, not from a peak.
    kernel[middle, middle - 1 : middle + 2] = 1 / 3
    for size in sizes:
        scale = size / settings.kernel_px
        level = _shrunk(blurred, scale)
        kernel = _resized_kernel(kernel, size)
        for _ in range(settings.iterations):
            latent = sharpen(level, kernel)
            kernel = estimate_kernel(level, latent, size, settings.kernel_weight)
    return kernel


def estimate_kernel(
    blurred: Float64, latent: Float64, kernel_px: int, weight: float
) -> Float64:
    """Return argmin |grad x * k - grad b|^2 + weight |k|^2, then k >= 0 and sum 1.

    The least-squares step is exact in the frequency domain; faint and lone pixels are
    dropped and the kernel is centred, as both papers do.
    """
    gradients = _gradient_otfs(blurred.shape)
    above = np.zeros(gradients[0].shape, dtype=np.complex128)
    below = np.full(gradients[0].shape, weight)
    for gradient in gradients:
        x = gradient * scipy.fft.rfft2(latent)
        above = above + np.conj(x) * gradient * scipy.fft.rfft2(blurred)
        below = below + np.abs(x) ** 2
    full = inverse(above / below, blurred.shape)
    half = kernel_px // 2
    kernel = np.roll(full, (half, half), axis=(0, 1))[:kernel_px, :kernel_px]
    return tidy_kernel(kernel)


def tidy_kernel(kernel: Float64) -> Float64:
    """Return the kernel without negative, faint and lone parts, centred, its sum 1."""
    kernel = np.where(kernel < _FAINT * kernel.max(), 0, kernel)
    labelled: Any = label(kernel > 0, structure=np.ones((3, 3)))  # stubs lack the tuple
    parts = np.asarray(labelled[0])
    for part in range(1, int(labelled[1]) + 1):
        if kernel[parts == part].sum() < 0.1 * kernel.sum():
            kernel = np.where(parts == part, 0, kernel)
    middle = kernel.shape[0] // 2
    if kernel.sum() <= 0:
        kernel = np.zeros_like(kernel)
        kernel[middle, middle] = 1
    row, column = center_of_mass(kernel)
    whole = (middle - round(row), middle - round(column))
    kernel = np.maximum(shift_picture(kernel, whole, order=0), 0)
    centred: Float64 = kernel / kernel.sum()
    return centred


def restore_tv(blurred: Float64, kernel: Float64, weight: float) -> Float64:
    """Return argmin |x * k - b|^2 / 2 + weight |grad x|_1 by half-quadratic splitting.

    Y. Wang et al., SIAM J. Imaging Sci. 1 (2008): gradients are shrunk, then the
    picture solved for in the frequency domain, while their tie is tightened.
    """
    otf = kernel_otf(kernel, blurred.shape)
    gradients = _gradient_otfs(blurred.shape)
    data = np.conj(otf) * scipy.fft.rfft2(blurred)
    power = sum((np.abs(gradient) ** 2 for gradient in gradients), np.zeros(1))
    restored, tie = blurred, 10 * weight
    while tie <= 1e4 * weight:
        above = data
        for axis, gradient in enumerate(gradients):
            step = difference(restored, axis)
            shrunk = np.sign(step) * np.maximum(np.abs(step) - weight / tie, 0)
            above = above + tie * np.conj(gradient) * scipy.fft.rfft2(shrunk)
        spectrum = above / (np.abs(otf) ** 2 + tie * power)
        restored = inverse(spectrum, blurred.shape)
        tie *= 4
    return restored


def inverse(
    spectrum: npt.NDArray[np.complexfloating], shape: tuple[int, ...]
) -> Float64:
    """Return the real picture of a half-plane spectrum."""
    return np.asarray(scipy.fft.irfft2(spectrum, shape), dtype=np.float64)


def kernel_otf(kernel: Float64, shape: tuple[int, ...]) -> Complex128:
    """Return the transfer function of a centred kernel on the `rfft2` half plane."""
    full = np.zeros(shape)
    height, width = kernel.shape
    full[:height, :width] = kernel
    full = np.roll(full, (-(height // 2), -(width // 2)), axis=(0, 1))
    return np.asarray(scipy.fft.rfft2(full), dtype=np.complex128)


def difference(picture: Float64, axis: int) -> Float64:
    """Return the forward difference along an axis, wrapping around."""
    return np.roll(picture, -1, axis=axis) - picture


def difference_adjoint(step: Float64, axis: int) -> Float64:
    """Return the adjoint of `difference`."""
    return np.roll(step, 1, axis=axis) - step


def gradient_power(shape: tuple[int, ...]) -> Float64:
    """Return |d_rows|^2 + |d_columns|^2 on the `rfft2` half plane."""
    rows = 2 - 2 * np.cos(2 * np.pi * np.fft.fftfreq(shape[0]))
    columns = 2 - 2 * np.cos(2 * np.pi * np.fft.rfftfreq(shape[1]))
    return np.asarray(rows[:, None] + columns[None, :], dtype=np.float64)


def _gradient_otfs(shape: tuple[int, ...]) -> tuple[Complex128, Complex128]:
    rows = np.exp(2j * np.pi * np.fft.fftfreq(shape[0])) - 1
    columns = np.exp(2j * np.pi * np.fft.rfftfreq(shape[1])) - 1
    full = (shape[0], shape[1] // 2 + 1)
    return (
        np.asarray(np.broadcast_to(rows[:, None], full), dtype=np.complex128),
        np.asarray(np.broadcast_to(columns[None, :], full), dtype=np.complex128),
    )


def _kernel_sizes(largest: int) -> list[int]:
    """Return odd sizes from about 5 up to the largest, a factor sqrt(2) apart."""
    sizes = [largest]
    while sizes[0] > 5:
        smaller = int(sizes[0] / np.sqrt(2)) | 1
        sizes.insert(0, min(max(smaller, 5), sizes[0] - 2))
    return sizes


def _shrunk(picture: Float64, scale: float) -> Float64:
    if scale >= 1:
        return picture
    # Even sides keep the inverse real transforms unambiguous.
    size = tuple(2 * round(length * scale / 2) for length in picture.shape[::-1])
    return np.asarray(
        cv2.resize(picture, (size[0], size[1]), interpolation=cv2.INTER_AREA),
        dtype=np.float64,
    )


def _resized_kernel(kernel: Float64, size: int) -> Float64:
    if kernel.shape[0] == size:
        return kernel
    larger = cv2.resize(kernel, (size, size), interpolation=cv2.INTER_LINEAR)
    return tidy_kernel(np.asarray(larger, dtype=np.float64))


def _tapered(picture: Float64) -> Float64:
    """Blend the outer border with a smooth copy, so that it wraps without a step."""
    rows, columns = (np.hanning(2 * _BORDER_PX) for _ in range(2))
    weight = np.ones(picture.shape)
    for axis, window in enumerate((rows, columns)):
        ramp = np.ones(picture.shape[axis])
        ramp[:_BORDER_PX], ramp[-_BORDER_PX:] = (
            window[:_BORDER_PX],
            window[_BORDER_PX:],
        )
        weight = weight * np.expand_dims(ramp, 1 - axis)
    smooth = gaussian_filter(picture, _BORDER_PX / 2, mode="wrap")
    return np.asarray(weight * picture + (1 - weight) * smooth, dtype=np.float64)
