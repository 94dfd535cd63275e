"""How sharp an image is: the Brenner gradient of the paper, and two measures beside it.

Each function takes one grey image (rows, columns) and returns one number that is
largest in focus. Compare them only between images of the same field.
Sources: J. F. Brenner et al., J. Histochem. Cytochem. 24 (1976); H. Sun et al.,
Microsc. Res. Tech. 65 (2004) for normalised variance and Tenengrad;
J. Immerkaer, Comput. Vis. Image Underst. 64 (1996) for the noise estimate.
"""

import cv2
import numpy as np

from bifocus.records import FloatImage, UInt8Image

# Immerkaer's mask: it removes planes and, nearly, edges, so that noise is left.
_NOISE_MASK = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32)


def to_gray(pixels: UInt8Image | FloatImage) -> FloatImage:
    """Return the grey image (rows, columns) of RGB or grey pixels, as float32.

    The green channel is used as it is: it holds most of the contrast of H&E and no
    other channel's focus.
    """
    gray = pixels[..., 1] if pixels.ndim == 3 else pixels
    return np.ascontiguousarray(gray, dtype=np.float32)


def noise_sd(gray: FloatImage) -> float:
    """Return the standard deviation of white noise, from the quietest half of tiles.

    The mask's response is averaged in 16x16 cells; the lower half of the cells, where
    there is least texture, is used. Texture can still raise the estimate.
    """
    response = np.abs(cv2.filter2D(gray, cv2.CV_32F, _NOISE_MASK))
    cells = cv2.resize(
        response,
        (max(gray.shape[1] // 16, 1), max(gray.shape[0] // 16, 1)),
        interpolation=cv2.INTER_AREA,
    )
    quiet = np.sort(cells, axis=None)[: max(cells.size // 2, 1)]
    # E|N(0, 36 s^2)| = 6 s sqrt(2 / pi), Immerkaer's equation 5; the quieter half of
    # cells of pure noise lies 6.8 % under the mean of all.
    return float(np.sqrt(np.pi / 2) * quiet.mean() / 6 / 0.932)


def brenner(gray: FloatImage, *, noise_sd_levels: float = 0.0) -> float:
    """Return the mean of (I(x+2) - I(x))^2, with its noise bias removed.

    White noise of standard deviation s adds 2 s^2 whatever the focus, which flattens
    the curve of a dim stack; pass `noise_sd_levels=s` to subtract it. The result is
    never negative.
    """
    difference = gray[:, 2:] - gray[:, :-2]
    raw = float(np.mean(np.square(difference), dtype=np.float64))
    return max(raw - 2 * noise_sd_levels**2, 0.0)


def measure_sharpness(pixels: UInt8Image) -> tuple[float, float]:
    """Return (Brenner without its noise bias, the bias that was removed)."""
    gray = to_gray(pixels)
    noise = noise_sd(gray)
    return brenner(gray, noise_sd_levels=noise), 2 * noise**2


def normalised_variance(gray: FloatImage) -> float:
    """Return var(I) / mean(I), insensitive to the brightness of the lamp."""
    mean = float(gray.mean(dtype=np.float64))
    return float(gray.var(dtype=np.float64)) / mean if mean > 0 else 0.0


def tenengrad(gray: FloatImage) -> float:
    """Return the mean squared Sobel gradient."""
    across = cv2.Sobel(gray, cv2.CV_32F, 1, 0, ksize=3)
    down = cv2.Sobel(gray, cv2.CV_32F, 0, 1, ksize=3)
    return float(np.mean(np.square(across) + np.square(down), dtype=np.float64))


def is_plus_sharper(minus: UInt8Image, plus: UInt8Image) -> bool:
    """Return whether `plus` has the larger Brenner gradient (the paper's Y1 rule)."""
    return brenner(to_gray(plus)) > brenner(to_gray(minus))
