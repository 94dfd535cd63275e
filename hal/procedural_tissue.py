"""A seeded H&E-like tissue made of numbers alone: for tests, and where no image is.

Beer-Lambert light through two stains; the stain vectors are those of A. Ruifrok and
D. Johnston, Anal. Quant. Cytol. Histol. 23 (2001) 291. Detail reaches the pixel
limit, so that a defocus of a fraction of a micrometre is visible.
"""

import cv2
import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]

HEMATOXYLIN = np.array([0.65, 0.70, 0.29], np.float32)
EOSIN = np.array([0.07, 0.99, 0.11], np.float32)


def make_procedural_tissue(height: int, width: int, seed: int = 0) -> Float32:
    """Return linear transmission (height, width, 3), float32 in 0..1; 1 is clear glass.

    The same `seed` and size give the same picture. About a quarter is glass.
    """
    rng = np.random.default_rng([seed, height, width])
    shape = (height, width)
    cover = _smooth_noise(shape, 180.0, rng) + 0.3 * _smooth_noise(shape, 25.0, rng)
    inside = 1 / (1 + np.exp(-8 * (cover + 0.55)))
    fibres = _smooth_noise(shape, 9.0, rng) + 0.8 * _fibre_noise(shape, rng)
    grain = _smooth_noise(shape, 1.0, rng)
    eosin = inside * np.clip(0.32 + 0.14 * fibres + 0.05 * grain, 0.02, 1.2)
    nuclei = _nuclei(shape, inside > 0.5, rng) * (1 + 0.25 * grain)
    density = eosin[..., None] * EOSIN + np.maximum(nuclei, 0)[..., None] * HEMATOXYLIN
    transmission: Float32 = np.exp(-np.float32(np.log(10)) * density)
    return transmission.astype(np.float32)


def _smooth_noise(
    shape: tuple[int, int], period_px: float, rng: np.random.Generator
) -> Float32:
    """Gaussian noise of unit spread and about this period; coarse grids are cheap."""
    step = max(1.0, period_px / 4)
    coarse = (int(np.ceil(shape[0] / step)) + 4, int(np.ceil(shape[1] / step)) + 4)
    noise = rng.standard_normal(coarse, dtype=np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), max(period_px / step / 4, 0.5))
    fine = cv2.resize(soft, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)
    cut = np.asarray(fine, np.float32)[: shape[0], : shape[1]]
    result: Float32 = (cut - cut.mean()) / cut.std()
    return result


def _fibre_noise(shape: tuple[int, int], rng: np.random.Generator) -> Float32:
    """Streaks along one direction, bent by a slow displacement."""
    rows, columns = np.indices(shape, dtype=np.float32)
    bend = 22 * _smooth_noise(shape, 220.0, rng)
    streaks = rng.standard_normal((shape[0] + 256, shape[1] // 16 + 24), np.float32)
    bent = cv2.remap(
        cv2.GaussianBlur(streaks, (0, 0), sigmaX=1.0, sigmaY=1.2),
        columns / 16 + 4,
        rows + 128 + bend,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )
    result: Float32 = (bent / max(float(bent.std()), 1e-6)).astype(np.float32)
    return result


def _nuclei(
    shape: tuple[int, int], inside: npt.NDArray[np.bool_], rng: np.random.Generator
) -> Float32:
    """Hematoxylin density: soft ellipses where there is tissue."""
    density = np.zeros(shape, np.float32)
    count = max(6, shape[0] * shape[1] // 1300)
    rows = rng.integers(0, shape[0], count)
    columns = rng.integers(0, shape[1], count)
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        axes = (int(rng.integers(5, 12)), int(rng.integers(4, 8)))
        turn_deg, strength = float(rng.uniform(0, 180)), float(rng.uniform(0.35, 0.9))
        if inside[row, column]:
            centre = (column, row)
            cv2.ellipse(density, centre, axes, turn_deg, 0, 360, strength, -1)
    result: Float32 = cv2.GaussianBlur(density, (0, 0), 0.7).astype(np.float32)
    return result
