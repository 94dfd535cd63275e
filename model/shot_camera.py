"""From rendered light to what a camera stores: drift, noise, white level, tone, JPEG.

The sharper shot is the reference: the truth shares its pixel grid and brightness, and
the other shot is shifted and drifts, just as the fusion in use sees it.
"""

import dataclasses
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import scipy.fft

from bifocus.model.incoherent import RenderedPair
from bifocus.model.pair_spec import PairSpec
from bifocus.records import FloatImage, UInt8Image
from bifocus.sharpness import is_plus_sharper
from bifocus.tone import encode


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPair:
    """Both shots and the truth as 8-bit RGB, and which shot is sharper by Brenner."""

    minus: UInt8Image
    plus: UInt8Image
    truth: UInt8Image
    is_plus_sharper: bool


def store_pair(rendered: RenderedPair, spec: PairSpec) -> StoredPair:
    """Take rendered light through the camera.

    Parameters
    ----------
    rendered
        Linear light of both shots and the truth, clear glass = 1.
    spec
        Drift, noise and storage; the noise is seeded by `spec.seed`.

    Returns
    -------
    StoredPair
        The truth has neither noise nor JPEG.
    """
    rng = np.random.default_rng([spec.seed, 2])
    first = [_expose(light, spec, rng) for light in (rendered.minus, rendered.plus)]
    plus_is_sharper = is_plus_sharper(first[0], first[1])
    # The other shot is exposed once more, now with its drift.
    other = rendered.minus if plus_is_sharper else rendered.plus
    drifted = _expose(_drift(other, spec), spec, rng)
    shots = (drifted, first[1]) if plus_is_sharper else (first[0], drifted)
    minus, plus = (_through_jpeg(shot, spec.jpeg_quality) for shot in shots)
    return StoredPair(
        minus=minus,
        plus=plus,
        truth=encode(rendered.truth * np.float32(spec.white_level), spec.tone_curve),
        is_plus_sharper=plus_is_sharper,
    )


def cut_pair(pair: StoredPair, side: slice) -> StoredPair:
    """Return the square that `side` cuts out of rows and columns alike."""
    return dataclasses.replace(
        pair,
        minus=pair.minus[side, side],
        plus=pair.plus[side, side],
        truth=pair.truth[side, side],
    )


def shift_periodic(image: FloatImage, shift_px: tuple[float, float]) -> FloatImage:
    """Move an image by a fraction of a pixel down and right; the field is periodic."""
    rows, columns = image.shape[:2]
    phase = shift_px[0] * np.fft.fftfreq(rows)[:, None]
    phase = phase + shift_px[1] * np.fft.rfftfreq(columns)[None, :]
    turn = np.exp(-2j * np.pi * phase).astype(np.complex64)
    spectrum = scipy.fft.rfft2(image, axes=(0, 1)) * turn[..., None]
    moved = scipy.fft.irfft2(spectrum, (rows, columns), axes=(0, 1))
    return np.asarray(moved, dtype=np.float32)


def _drift(light: FloatImage, spec: PairSpec) -> FloatImage:
    rows, columns = light.shape[:2]
    down = np.linspace(-1, 1, rows)[:, None]
    across = np.linspace(-1, 1, columns)[None, :]
    brightness = spec.gain * (1 + spec.tilt[0] * down + spec.tilt[1] * across)
    moved = shift_periodic(light, spec.shift_px) if any(spec.shift_px) else light
    return np.asarray(moved * brightness[..., None], dtype=np.float32)


def _expose(light: FloatImage, spec: PairSpec, rng: np.random.Generator) -> UInt8Image:
    electrons: npt.NDArray[np.float64] = np.maximum(light, 0) * (
        spec.white_level * spec.full_well_e
    )
    noise = rng.normal(0, 1, light.shape) * np.sqrt(electrons + spec.read_noise_e**2)
    return encode(
        ((electrons + noise) / spec.full_well_e).astype(np.float32), spec.tone_curve
    )


def _through_jpeg(image: UInt8Image, quality: int) -> UInt8Image:
    if quality == 0:
        return image
    # cv2 reads and writes BGR; the order only matters in that it is the same twice,
    # and that luma weighs the colours as it would for a file.
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    _, coded = cv2.imencode(".jpg", image[..., ::-1], options)
    decoded = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), dtype=np.uint8)
    return np.ascontiguousarray(decoded[..., ::-1])
