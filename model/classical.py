"""Fusion without learning, for comparison: the baselines of every table.

Sharper shot, mean, Laplacian-pyramid stacking (P. Burt and E. Adelson, 1983; choice by
local energy), Wiener filters that are *told* the true focal offset, and Richardson-Lucy
(scikit-image) told the same. What is told is in the name; the blind methods are
`bifocus.physics_fusion`, `dark_channel` and `graph_deblur`.
"""

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import scipy.fft

from bifocus.focal_offset import PairOptics
from bifocus.model.dark_channel import deblur_dark_channel
from bifocus.model.evaluation_pair import EvaluationPair, Method, OffsetMeter
from bifocus.model.graph_deblur import deblur_graph
from bifocus.model.metrics import psnr_db
from bifocus.optics import otf_grid
from bifocus.physics_fusion import PhysicsResult, fuse_two_shots, measure_pair
from bifocus.records import FloatImage, UInt8Image
from bifocus.sharpness import is_plus_sharper
from bifocus.tone import decode, encode

Float32 = npt.NDArray[np.float32]

# Noise to signal at the cutoff; grows with the square of frequency, as tissue's
# spectrum falls. Of these half-decades the best mean on 16 procedural tiles is taken.
ORACLE_RATIOS = tuple(10.0 ** (exponent / 2) for exponent in range(-8, 3))
NOISE_TO_SIGNAL = ORACLE_RATIOS[7]  # 0.32
RICHARDSON_LUCY_STEPS = 20
# Mirrored border, wider than any blur radius here.
_BORDER_PX = 32
_PYRAMID_LEVELS = 4


def fuse_sharper(pair: EvaluationPair) -> UInt8Image:
    """Return the shot with the larger Brenner gradient."""
    return pair.sharper


def fuse_mean(pair: EvaluationPair) -> UInt8Image:
    """Return the mean of both shots' stored values."""
    total = pair.minus.astype(np.uint16) + pair.plus
    return ((total + 1) // 2).astype(np.uint8)


def fuse_laplacian(pair: EvaluationPair) -> UInt8Image:
    """Return the Laplacian-pyramid stack: at each place and scale the livelier shot.

    Energy is the squared detail of all colours in a 5x5 window; the coarsest level is
    averaged. It assumes that each place is sharp in some shot, which is false here.
    """
    first, second = (_laplacian_pyramid(shot) for shot in (pair.minus, pair.plus))
    fused = [(first[-1] + second[-1]) / 2]
    for one, two in zip(first[-2::-1], second[-2::-1], strict=True):
        energies = [
            cv2.blur(np.square(level).sum(axis=2), (5, 5)) for level in (one, two)
        ]
        fused.append(np.where((energies[0] >= energies[1])[..., None], one, two))
    image = fused[0]
    for detail in fused[1:]:
        size = (detail.shape[1], detail.shape[0])
        image = cv2.pyrUp(image, dstsize=size) + detail
    return np.rint(np.clip(image, 0, 255)).astype(np.uint8)


def fuse_physics(pair: EvaluationPair) -> UInt8Image:
    """Return the blind two-shot Wiener fusion of `bifocus.physics_fusion`."""
    result = fuse_two_shots(
        pair.minus, pair.plus, pair.optics, tone_curve=pair.tone_curve
    )
    return result.pixels


def fuse_physics_joint(pair: EvaluationPair) -> UInt8Image:
    """Return the same with the colours fused together."""
    return fuse_together(pair).pixels


def fuse_together(pair: EvaluationPair) -> PhysicsResult:
    """Return what networks start from, with the fraction of a level that it lost."""
    return fuse_two_shots(
        pair.minus,
        pair.plus,
        pair.optics,
        tone_curve=pair.tone_curve,
        colours="together",
    )


def measure_physics_offset_um(pair: EvaluationPair) -> float:
    """Return the focal offset that the blind method reads from the pair, in um."""
    measured = measure_pair(
        pair.minus, pair.plus, pair.optics, tone_curve=pair.tone_curve
    )
    return measured.offsets.tile.offset_um


def fuse_wiener_one_shot(pair: EvaluationPair) -> UInt8Image:
    """Return the Wiener filter of the sharper shot, told the true offset."""
    return _wiener(pair, NOISE_TO_SIGNAL, is_one_shot=True)


def fuse_wiener_two_shots(pair: EvaluationPair) -> UInt8Image:
    """Return the Wiener filter of both shots, told the true offset."""
    return _wiener(pair, NOISE_TO_SIGNAL, is_one_shot=False)


def fuse_wiener_oracle(pair: EvaluationPair) -> UInt8Image:
    """Return the two-shot Wiener picture nearest to the truth over all regularisers.

    Told the offset *and* choosing by the truth: a bound, not a method.
    """
    pictures = [_wiener(pair, ratio, is_one_shot=False) for ratio in ORACLE_RATIOS]
    return max(pictures, key=lambda picture: psnr_db(picture, pair.truth))


def fuse_richardson_lucy(pair: EvaluationPair) -> UInt8Image:
    """Return Richardson-Lucy of the sharper shot, told the true offset (scikit-image).

    The object that it finds is seen through the in-focus transfer function again, since
    the truth is an in-focus picture and not the object.
    """
    from skimage import restoration  # heavy, and optional

    richardson_lucy: Any = restoration.richardson_lucy  # untyped

    is_plus = is_plus_sharper(pair.minus, pair.plus)
    shot = _mirrored(decode(pair.plus if is_plus else pair.minus, pair.tone_curve))
    shape = (shot.shape[0], shot.shape[1])
    z_um = _defocus_um(pair)[int(is_plus)]
    result = np.empty_like(shot)
    for colour in range(3):
        point = _point_image(pair.optics, colour, z_um)
        found = richardson_lucy(
            np.maximum(shot[..., colour], 1e-4),
            point,
            num_iter=RICHARDSON_LUCY_STEPS,
            clip=False,
        )
        focus = otf_grid(pair.optics.objective(colour), shape, pair.optics.pixel_um, 0)
        spectrum = scipy.fft.rfft2(found.astype(np.float32)) * focus
        result[..., colour] = scipy.fft.irfft2(spectrum, shape)
    return encode(_cut(result), pair.tone_curve)


def fuse_dark_channel(pair: EvaluationPair) -> UInt8Image:
    """Return the sharper shot, deblurred blindly by the dark channel prior."""
    return deblur_dark_channel(pair.sharper)


def fuse_graph(pair: EvaluationPair) -> UInt8Image:
    """Return the sharper shot, deblurred blindly by reweighted graph variation."""
    return deblur_graph(pair.sharper)


# In the order of the tables.
BASELINES: Mapping[str, Method] = {
    "sharper shot": fuse_sharper,
    "mean": fuse_mean,
    "laplacian stack": fuse_laplacian,
    "dark channel": fuse_dark_channel,
    "graph": fuse_graph,
    "richardson-lucy (true n)": fuse_richardson_lucy,
    "wiener 1 shot (true n)": fuse_wiener_one_shot,
    "wiener 2 shots (true n)": fuse_wiener_two_shots,
    "wiener oracle": fuse_wiener_oracle,
    "physics": fuse_physics,
    "physics-joint": fuse_physics_joint,
}
OFFSET_METERS: Mapping[str, OffsetMeter] = {"physics": measure_physics_offset_um}


def _wiener(pair: EvaluationPair, ratio: float, *, is_one_shot: bool) -> UInt8Image:
    """X = h0 sum(h_i Y_i) / (sum h_i^2 + ratio (f / cutoff)^2), in linear light."""
    shots = [_mirrored(decode(p, pair.tone_curve)) for p in (pair.minus, pair.plus)]
    depths_um = _defocus_um(pair)
    if is_one_shot:
        index = int(is_plus_sharper(pair.minus, pair.plus))
        shots, depths_um = [shots[index]], (depths_um[index],)
    shape = (shots[0].shape[0], shots[0].shape[1])
    pixel_um = pair.optics.pixel_um
    down = np.fft.fftfreq(shape[0], pixel_um)[:, None]
    radius = np.hypot(down, np.fft.rfftfreq(shape[1], pixel_um)[None, :])
    result = np.empty_like(shots[0])
    for colour in range(3):
        objective = pair.optics.objective(colour)
        above = np.zeros(radius.shape, dtype=np.complex64)
        below = (ratio * (radius / objective.cutoff_per_um) ** 2).astype(np.float32)
        for shot, z_um in zip(shots, depths_um, strict=True):
            transfer = otf_grid(objective, shape, pixel_um, z_um)
            above += transfer * scipy.fft.rfft2(shot[..., colour])
            below += transfer**2
        focus = otf_grid(objective, shape, pixel_um, 0.0)
        spectrum = focus * above / np.maximum(below, 1e-9)
        result[..., colour] = scipy.fft.irfft2(spectrum, shape)
    return encode(_cut(result), pair.tone_curve)


def _defocus_um(pair: EvaluationPair) -> tuple[float, ...]:
    half_um = pair.half_spacing_um
    # Rounded so that the tables of transfer functions are found again.
    return tuple(round(sign * half_um - pair.offset_um, 3) for sign in (-1, 1))


def _point_image(optics: PairOptics, colour: int, z_um: float) -> Float32:
    """Return the point image on 65x65 pixels, its sum 1."""
    side = 2 * _BORDER_PX + 1
    otf = otf_grid(optics.objective(colour), (side, side), optics.pixel_um, z_um)
    point = np.fft.fftshift(scipy.fft.irfft2(otf, (side, side)))
    point = np.maximum(point, 0)
    return np.asarray(point / point.sum(), dtype=np.float32)


def _mirrored(light: FloatImage) -> Float32:
    border = (_BORDER_PX, _BORDER_PX)
    return np.pad(light, (border, border, (0, 0)), mode="reflect")


def _cut(image: Float32) -> Float32:
    inner = slice(_BORDER_PX, -_BORDER_PX)
    return np.ascontiguousarray(image[inner, inner])


def _laplacian_pyramid(shot: UInt8Image) -> list[Float32]:
    levels: list[Float32] = []
    image = shot.astype(np.float32)
    for _ in range(_PYRAMID_LEVELS):
        smaller = np.asarray(cv2.pyrDown(image), dtype=np.float32)
        size = (image.shape[1], image.shape[0])
        levels.append(image - np.asarray(cv2.pyrUp(smaller, dstsize=size), np.float32))
        image = smaller
    return [*levels, image]
