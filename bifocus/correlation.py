"""Find the shift between two images of one field: whole pixels, then the fraction.

Phase correlation of the band-passed overlaps at half resolution proposes a few shifts;
the normalised cross-correlation (NCC) at full resolution picks and scores the best; a
symmetric Gauss-Newton step gives the fraction of a pixel. Both images are moved half
the way, so that interpolation blurs them equally and pulls the result to neither side.

The NCC is what makes it safe: clear glass has no right answer, and there it stays low.
The peak of the phase correlation does not tell the two cases apart.

References: C. D. Kuglin and D. C. Hines, Proc. IEEE Conf. Cybernetics and Society
(1975), for phase correlation; B. D. Lucas and T. Kanade, IJCAI 1981, for the last step.
"""

from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt
from scipy import fft

from bifocus.records import FloatImage, UInt8Image
from bifocus.subpixel import sample_shifted

CERTAIN_NCC = 0.8  # So far above any false pair that no further proposal is tried.
SMOOTH_SIGMA_PX = 1.2  # Takes out noise, and detail too fine for derivative filters.
BACKGROUND_BOX_PX = 31  # Wider than a nucleus, narrower than shading and stain drift.
N_CANDIDATES = 4
PEAK_RADIUS_PX = 4  # of a correlation peak, at half resolution.
BORDER_PX = 8  # What the filters' borders reach into an overlap, from either side.
MIN_OVERLAP_PX = 4 * BORDER_PX
GAUSS_NEWTON_STEPS = 2
# Texture this weak, in grey levels, halves the score. Shading in 8 bits has contour
# lines nearly so strong; without noise they agree perfectly, at a meaningless shift.
FLAT_RMS = 1.0

Shift = tuple[int, int]  # (x, y) in whole pixels


def high_pass(pixels: UInt8Image) -> FloatImage:
    """Remove shading and stain level, and the finest noise.

    Parameters
    ----------
    pixels
        (rows, columns) uint8, any size.

    Returns
    -------
    ndarray of float32
        Same shape, mean near 0, in grey levels.
    """
    smooth = cv2.GaussianBlur(pixels.astype(np.float32), (0, 0), SMOOTH_SIGMA_PX)
    level = cv2.blur(smooth, (BACKGROUND_BOX_PX, BACKGROUND_BOX_PX))
    return np.asarray(cv2.subtract(smooth, level), np.float32)


def _overlap(
    a: FloatImage, b: FloatImage, shift: Shift
) -> tuple[FloatImage, FloatImage]:
    """Return what both strips show when b's corner lies at `shift` (x, y) in a."""
    (x, y), (rows_a, columns_a), (rows_b, columns_b) = shift, a.shape, b.shape
    left, right = max(0, x), max(0, min(columns_a, x + columns_b))
    top, bottom = max(0, y), max(0, min(rows_a, y + rows_b))
    return (
        a[top:bottom, left:right],
        b[top - y : max(top, bottom) - y, left - x : max(left, right) - x],
    )


def find_whole_shift(
    a: FloatImage, b: FloatImage, start: Shift, search_px: int
) -> tuple[float, Shift]:
    """Find the shift of b's corner in a's frame at which they agree best.

    Parameters
    ----------
    a, b
        High-passed images, (rows, columns) float32; they may differ in size.
    start
        Expected shift (x, y) in whole px.
    search_px
        Largest deviation from `start` on each axis.

    Returns
    -------
    tuple
        NCC, 0 to 1, and the shift (x, y); `(0, start)` if nothing was found, which is
        so where the overlap is flat or narrower than 32 px.
    """
    best = (0.0, start)
    for proposal in _propose(a, b, start, search_px):
        best = max(best, _climb(a, b, proposal, start, search_px))
        if best[0] >= CERTAIN_NCC:
            break
    return best


def _propose(
    a: FloatImage, b: FloatImage, start: Shift, search_px: int
) -> Iterator[Shift]:
    """Yield the shifts at the highest peaks of the phase correlation, best first."""
    part_a, part_b = _overlap(a, b, start)
    if min(part_a.shape) < MIN_OVERLAP_PX:
        return
    surface = _phase_correlation(_half(part_a), _half(part_b))
    reach = min(search_px // 2, *((length - 1) // 2 for length in surface.shape))
    span = np.arange(-reach, reach + 1)
    near = surface[np.ix_(span, span)]  # negative shifts sit at the far end
    for _ in range(N_CANDIDATES):
        i_row, i_column = np.unravel_index(int(near.argmax()), near.shape)
        dy, dx = 2 * int(span[i_row]), 2 * int(span[i_column])
        yield start[0] + dx, start[1] + dy
        rows = slice(max(0, i_row - PEAK_RADIUS_PX), i_row + PEAK_RADIUS_PX + 1)
        columns = slice(
            max(0, i_column - PEAK_RADIUS_PX), i_column + PEAK_RADIUS_PX + 1
        )
        near[rows, columns] = -np.inf


def _half(part: FloatImage) -> FloatImage:
    """Halve the resolution; the smoothing before it has removed what would alias."""
    rows, columns = part.shape
    size = (columns // 2, rows // 2)
    half = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    return np.asarray(half, np.float32)


def _phase_correlation(a: FloatImage, b: FloatImage) -> FloatImage:
    """Correlation surface whose peak, at index (y, x), is the shift of b within a."""
    window = np.outer(np.hanning(a.shape[0]), np.hanning(a.shape[1])).astype(np.float32)
    shape = [fft.next_fast_len(length, real=True) for length in a.shape]
    cross = fft.rfft2(a * window, shape) * np.conj(fft.rfft2(b * window, shape))
    # The full whitening of textbook phase correlation lifts noise to the level of the
    # signal; the square root keeps the peak sharp and the noise down.
    cross /= np.sqrt(np.abs(cross)) + np.finfo(np.float32).tiny ** 0.5
    return np.asarray(fft.irfft2(cross, shape), np.float32)


def _climb(
    a: FloatImage,
    b: FloatImage,
    shift: Shift,
    start: Shift,
    search_px: int,
) -> tuple[float, Shift]:
    """Walk from a proposed shift to the nearest peak of the NCC, in whole pixels."""
    known: dict[Shift, float] = {}

    def score(at: Shift) -> float:
        if at not in known:
            is_near = max(abs(at[0] - start[0]), abs(at[1] - start[1])) <= search_px
            parts = _overlap(a, b, at)
            is_wide = min(parts[0].shape) >= MIN_OVERLAP_PX
            known[at] = _ncc(*parts) if is_near and is_wide else -1.0
        return known[at]

    while True:
        x, y = shift
        best = max(((x, y), (x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1)), key=score)
        if best == shift:
            return score(best), best
        shift = best


def _ncc(a: FloatImage, b: FloatImage) -> float:
    """Normalised cross-correlation of two high-passed parts; low where one is flat."""
    # OpenCV sums in double precision and takes views without a copy.
    product = cv2.sumElems(cv2.multiply(a, b))[0]
    flat = a.size * FLAT_RMS**2
    energy = (cv2.norm(a) ** 2 + flat) * (cv2.norm(b) ** 2 + flat)
    return float(product / energy**0.5)


def refine_shift(
    a: FloatImage, b: FloatImage, whole: Shift
) -> tuple[float, float, float]:
    """Find the fraction of a pixel that a whole shift is off by.

    Parameters
    ----------
    a, b
        As in `find_whole_shift`.
    whole
        Its result, (x, y).

    Returns
    -------
    tuple of float
        (dx, dy) to add to `whole`, each within +-1, and the NCC there; (0, 0, 0) if the
        texture does not hold them.
    """
    part_a, part_b = _overlap(a, b, whole)
    moved_a, moved_b = part_a, part_b
    delta = np.zeros(2)
    inner = (slice(BORDER_PX, -BORDER_PX), slice(BORDER_PX, -BORDER_PX))
    for _ in range(GAUSS_NEWTON_STEPS):
        half_x, half_y = delta / 2
        moved_a = _sample(part_a, half_x, half_y)[inner]
        moved_b = _sample(part_b, -half_x, -half_y)[inner]
        delta += _newton_step(moved_a, moved_b)
        if not np.all(np.abs(delta) <= 1):  # nothing to hold on to; also catches NaN
            return 0.0, 0.0, 0.0
    return float(delta[0]), float(delta[1]), _ncc(moved_a, moved_b)


def _sample(part: FloatImage, dx_px: float, dy_px: float) -> FloatImage:
    """Read the image at (x + dx, y + dy), for shifts of less than a pixel, any sign."""
    x, y = int(np.floor(dx_px)), int(np.floor(dy_px))
    moved = sample_shifted(part, dx_px - x, dy_px - y)
    return np.roll(moved, (-y, -x), axis=(0, 1)) if x or y else moved


def _newton_step(a: FloatImage, b: FloatImage) -> npt.NDArray[np.float64]:
    """Shift (dx, dy) of b within a that best explains b - a, to first order."""
    scale_a, scale_b = (float(cv2.norm(part)) or 1.0 for part in (a, b))
    mean = (a / scale_a + b / scale_b) / 2
    difference = b / scale_b - a / scale_a
    gx = (mean[1:-1, 2:] - mean[1:-1, :-2]) / 2
    gy = (mean[2:, 1:-1] - mean[:-2, 1:-1]) / 2
    difference = np.ascontiguousarray(difference[1:-1, 1:-1])
    normal = np.array(
        [[np.vdot(gx, gx), np.vdot(gx, gy)], [np.vdot(gx, gy), np.vdot(gy, gy)]],
        dtype=np.float64,
    )
    right = np.array([np.vdot(gx, difference), np.vdot(gy, difference)], np.float64)
    # A ridge of one part in a million lets an edge without corners stay solvable.
    return np.linalg.solve(
        normal + np.eye(2) * (1e-6 * np.trace(normal) + 1e-30), right
    )
