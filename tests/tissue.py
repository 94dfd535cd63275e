"""Tissue to image in tests: seeded procedural H&E, real crops, and relief.

Transmissions are (rows, columns, 3), 1 = clear glass.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import gaussian_filter

Float64 = npt.NDArray[np.float64]

# Haematoxylin and eosin in optical density (A. Ruifrok and D. Johnston, 2001).
_HAEMATOXYLIN = np.array([0.65, 0.70, 0.29])
_EOSIN = np.array([0.07, 0.99, 0.11])


def procedural_tissue(size: int, seed: int) -> Float64:
    """Return the transmission of seeded H&E-like tissue: nuclei, fibres, lumens."""
    rng = np.random.default_rng(seed)
    fibres = _noise(rng, size, (0.8, 4.0)) + 0.6 * _noise(rng, size, (3.0, 1.0))
    fine = _noise(rng, size, (0.7, 0.7))
    eosin = np.clip(0.45 + 0.13 * fibres + 0.05 * fine, 0.02, None)
    chromatin = 1 + 0.3 * _noise(rng, size, (1.1, 1.1)) + 0.1 * fine
    haematoxylin = _nuclei(rng, size) * np.clip(chromatin, 0.2, None)
    lumen = np.clip(2 * _noise(rng, size, (22.0, 22.0)) - 1.5, 0, 1)
    density = haematoxylin[..., None] * _HAEMATOXYLIN + eosin[..., None] * _EOSIN
    transmission: Float64 = np.exp(-density * (1 - lumen[..., None]))
    return transmission


def real_crops(folder: Path, count: int, size: int, seed: int) -> list[Float64]:
    """Return transmissions from textured square crops of the images in `folder`."""
    rng = np.random.default_rng(seed)
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in {".png", ".jpg", ".jpeg"}
    )
    crops: list[Float64] = []
    for path in rng.permutation(np.array(paths, dtype=object)):
        with Image.open(path) as image:
            if min(image.size) < size:
                continue
            left, top = (int(rng.integers(side - size + 1)) for side in image.size)
            box = (left, top, left + size, top + size)
            crop = np.asarray(image.convert("RGB").crop(box), dtype=np.float64)
        if crop.std() >= 15:  # less is glass or a blank corner
            crops.append(np.clip(crop / np.percentile(crop, 99.5), 0, 1))
        if len(crops) == count:
            break
    return crops


def smooth_relief_um(size: int, seed: int, amplitude_um: float) -> Float64:
    """Return a smooth height map of zero mean that reaches +-`amplitude_um`."""
    rng = np.random.default_rng(seed)
    relief = gaussian_filter(rng.normal(size=(size, size)), size / 6, mode="wrap")
    relief -= relief.mean()
    result: Float64 = amplitude_um * relief / np.abs(relief).max()
    return result


def _noise(
    rng: np.random.Generator, size: int, sigma_px: tuple[float, float]
) -> Float64:
    """Return smoothed noise of zero mean and unit variance."""
    smooth = gaussian_filter(rng.normal(size=(size, size)), sigma_px, mode="wrap")
    result: Float64 = (smooth - smooth.mean()) / smooth.std()
    return result


def _nuclei(rng: np.random.Generator, size: int) -> Float64:
    """Return the density of tilted ellipses, 10 to 20 px long, on a torus."""
    rows, columns = np.indices((size, size), dtype=np.float64)
    density = np.zeros((size, size))
    for _ in range(max(size * size // 900, 4)):
        row, column, angle = rng.uniform(0, [size, size, np.pi])
        down = (rows - row + size / 2) % size - size / 2
        right = (columns - column + size / 2) % size - size / 2
        along = down * np.cos(angle) + right * np.sin(angle)
        across = right * np.cos(angle) - down * np.sin(angle)
        long_px = rng.uniform(7, 11)
        radius = np.hypot(along / long_px, across / (long_px * rng.uniform(0.5, 0.9)))
        edge = np.clip((1 - radius) * long_px / 1.5 + 0.5, 0, 1)
        density = np.maximum(density, rng.uniform(0.5, 1.1) * edge)
    return density
