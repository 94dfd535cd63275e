"""Sharp tissue drawn for training pairs: crops, their stain, sharpness and grain."""

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import simplejpeg

from bifocus.errors import ImageFileError
from bifocus.model.pair_spec import PairSpec
from bifocus.model.texture_files import TextureFile
from bifocus.records import FloatImage, UInt8Image
from bifocus.tone import decode

# Blank glass teaches nothing: a crop must vary by this many grey levels.
_LEAST_CONTRAST_LEVELS = 12.0
_DRAWS_PER_CROP = 40
# Clear glass of a crop, robust to JPEG's overshoot.
_GLASS_PERCENTILE = 99.5


def draw_texture(
    files: tuple[TextureFile, ...],
    spec: PairSpec,
    side_px: int,
    rng: np.random.Generator,
) -> tuple[FloatImage, TextureFile]:
    """Draw a square crop of tissue as linear transmission.

    Sources are drawn evenly, then files, so that a large source does not drown others.

    Parameters
    ----------
    files
        From `list_textures`.
    spec
        Gives scale, stain jitter, and the tone curve by which values become light.
    side_px
        Rows and columns of the crop.
    rng
        The only source of randomness.

    Returns
    -------
    pixels, file
        float32, (side, side, 3), 0..1, clear glass near 1; and where it came from.

    Raises
    ------
    ImageFileError
        If no image is large enough or has any texture.
    """
    crop, file = _draw_crop(files, spec, side_px, rng)
    light = compute_transmission(crop, spec)
    if spec.texture_blend:
        other, _ = _draw_crop(files, spec, side_px, rng)
        light *= compute_transmission(other, spec) ** np.float32(spec.texture_blend)
    if spec.texture_grain or spec.texture_strength != 1:
        light = _with_grain(light, spec, rng)
    return light, file


def _with_scanner_noise(
    crop: UInt8Image, spec: PairSpec, rng: np.random.Generator
) -> UInt8Image:
    """Return the crop with noise of its scanner's camera: partly grey, partly not."""
    colour = np.float32(spec.texture_noise_colour)
    noise = rng.normal(0, 1, (*crop.shape[:2], 4)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), spec.texture_noise_px)
    noise = np.asarray(smooth, dtype=np.float32)
    noise = np.sqrt(1 - colour) * noise[..., :1] + np.sqrt(colour) * noise[..., 1:]
    noise *= np.float32(spec.texture_noise) / noise.std()
    noisy = np.clip(np.rint(crop + noise), 0, 255)
    return np.asarray(noisy, dtype=np.uint8)


def _with_grain(
    light: FloatImage, spec: PairSpec, rng: np.random.Generator
) -> FloatImage:
    """Return the transmission with its densities changed; the grain has no colour."""
    noise = rng.normal(0, 1, light.shape[:2]).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), spec.texture_grain_px)
    noise = np.asarray(smooth, dtype=np.float32)
    share = 1 + np.float32(spec.texture_grain) * noise / noise.std()
    power = np.float32(spec.texture_strength) * np.maximum(share, 0)
    changed = np.power(np.maximum(light, np.float32(1e-3)), power[..., None])
    return np.asarray(changed, dtype=np.float32)


def _draw_crop(
    files: tuple[TextureFile, ...],
    spec: PairSpec,
    side_px: int,
    rng: np.random.Generator,
) -> tuple[UInt8Image, TextureFile]:
    """Draw one crop as stored values, after what its file is to have been through."""
    folders = sorted({file.folder for file in files})
    for _ in range(_DRAWS_PER_CROP):
        folder = folders[rng.integers(len(folders))]
        members = [file for file in files if file.folder == folder]
        file = members[rng.integers(len(members))]
        image = _load_scaled(file.path, file.scale)
        wanted = min(round(side_px / spec.texture_scale), *image.shape[:2])
        if wanted < side_px:
            continue
        top = int(rng.integers(image.shape[0] - wanted + 1))
        left = int(rng.integers(image.shape[1] - wanted + 1))
        crop = image[top : top + wanted, left : left + wanted]
        if wanted != side_px:
            size = (side_px, side_px)
            crop = np.asarray(
                cv2.resize(crop, size, interpolation=cv2.INTER_AREA), dtype=np.uint8
            )
        if crop.std(axis=(0, 1)).max() >= _LEAST_CONTRAST_LEVELS:
            return _process(_turn(crop, int(rng.integers(8))), spec, rng), file
    msg = (
        f"no crop of {side_px} px with texture in {len(files)} images of "
        f"{', '.join(folders)}"
    )
    raise ImageFileError(msg)


def compute_transmission(stored: UInt8Image, spec: PairSpec) -> FloatImage:
    """Return stored values as transmission, with the spec's change of stain.

    Optical densities are scaled by colour and their vector turned about grey: the
    amount of stain stays, its hue moves.
    """
    light = decode(stored, spec.tone_curve)
    light = np.clip(
        light / max(float(np.percentile(light, _GLASS_PERCENTILE)), 0.05), 0, 1
    )
    if spec.stain_turn_rad == 0 and spec.stain_gain == (1.0, 1.0, 1.0):
        return np.ascontiguousarray(light, dtype=np.float32)
    density = -np.log(np.maximum(light, 1 / 512))
    density = density @ _turn_about_grey(spec.stain_turn_rad).T.astype(np.float32)
    density = density * np.asarray(spec.stain_gain, dtype=np.float32)
    jittered: FloatImage = np.exp(-np.maximum(density, 0)).astype(np.float32)
    return jittered


def _process(crop: UInt8Image, spec: PairSpec, rng: np.random.Generator) -> UInt8Image:
    """Do to a crop what the scanner it came from may have done, as its record says."""
    if spec.texture_noise:
        crop = _with_scanner_noise(crop, spec, rng)
    if spec.texture_sharpen:
        smooth = cv2.GaussianBlur(crop, (0, 0), 1.0)
        amount = spec.texture_sharpen
        sharp = cv2.addWeighted(crop, 1 + amount, smooth, -amount, 0)
        crop = np.asarray(sharp, dtype=np.uint8)
    if spec.texture_jpeg:
        encoded = simplejpeg.encode_jpeg(crop, quality=spec.texture_jpeg)
        crop = simplejpeg.decode_jpeg(encoded)
    return crop


def _turn_about_grey(angle_rad: float) -> FloatImage:
    """Return Rodrigues' rotation of colour space about the grey axis."""
    axis = np.full(3, 1 / np.sqrt(3))
    cross = np.array(
        [[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]]
    )
    turn = np.eye(3) + np.sin(angle_rad) * cross
    turn = turn + (1 - np.cos(angle_rad)) * cross @ cross
    rotation: FloatImage = turn.astype(np.float32)
    return rotation


def _turn(crop: UInt8Image, number: int) -> UInt8Image:
    """Return one of the eight turns and mirrorings of a square."""
    turned = np.rot90(crop, number % 4)
    return np.ascontiguousarray(turned[:, ::-1] if number >= 4 else turned)


@lru_cache(maxsize=96)
def _load_scaled(path: Path, scale: float) -> UInt8Image:
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        msg = f"{path}: not an image that can be read"
        raise ImageFileError(msg)
    if scale != 1:
        pixels = cv2.resize(
            pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA
        )
    result = np.ascontiguousarray(pixels[..., ::-1], dtype=np.uint8)
    result.setflags(write=False)
    return result
