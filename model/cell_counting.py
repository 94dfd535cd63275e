"""Count cells as the paper's Table II does in ImageJ: grey, contrast, threshold, count.

ImageJ's chain is Type > 8-bit (mean of the colours), Enhance Contrast with 0.35 % of
saturated pixels, Threshold "Default" (IsoData on a histogram whose peak is cut), and
Analyze Particles with size limits and 8-connected particles. Source of IsoData:
T. Ridler and S. Calvard, IEEE Trans. Syst. Man Cybern. 8 (1978); the form with a moving
level and the cut peak follows ImageJ's description of its default method.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import label

from bifocus.errors import ConfigError
from bifocus.records import UInt8Image

# ImageJ's Enhance Contrast, preset.
SATURATED_PERCENT = 0.35


@dataclass(frozen=True, slots=True, kw_only=True)
class ParticleLimits:
    """Sizes of a particle that counts, in square micrometres.

    The presets are those of nuclei: discs of 3 um to 15 um diameter.
    """

    least_um2: float = 7.0
    most_um2: float = 180.0

    def __post_init__(self) -> None:
        """Refuse limits that nothing can meet."""
        if not 0 <= self.least_um2 < self.most_um2:
            msg = f"need 0 <= least_um2 < most_um2, got {self}"
            raise ConfigError(msg)


def count_cells(
    picture: UInt8Image, pixel_um: float, limits: ParticleLimits | None = None
) -> int:
    """Return the number of dark particles within the size limits.

    Parameters
    ----------
    picture
        uint8 RGB, (rows, columns, 3); cells darker than what surrounds them.
    pixel_um
        Pixel size at the slide.
    limits
        Of the particles' areas.
    """
    limits = limits or ParticleLimits()
    areas_um2 = particle_areas_px(find_dark(picture)) * pixel_um**2
    counted = (areas_um2 >= limits.least_um2) & (areas_um2 <= limits.most_um2)
    return int(counted.sum())


def find_dark(picture: UInt8Image) -> npt.NDArray[np.bool_]:
    """Return where the picture is darker than its threshold."""
    grey = stretch_contrast(to_grey(picture))
    dark: npt.NDArray[np.bool_] = grey <= default_threshold(grey)
    return dark


def particle_areas_px(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return the area of each 8-connected particle in pixels."""
    labelled: Any = label(mask, structure=np.ones((3, 3)))  # stubs lack the tuple
    areas = np.bincount(np.asarray(labelled[0]).ravel())[1:]
    return np.asarray(areas, dtype=np.int64)


def to_grey(picture: UInt8Image) -> UInt8Image:
    """Return the unweighted mean of the colours, rounded, as ImageJ's 8-bit."""
    return np.asarray(np.rint(picture.mean(axis=2)), dtype=np.uint8)


def stretch_contrast(grey: UInt8Image) -> UInt8Image:
    """Return the grey picture stretched so that 0.35 % of the pixels saturate."""
    low, high = np.percentile(
        grey, [SATURATED_PERCENT / 2, 100 - SATURATED_PERCENT / 2]
    )
    if high <= low:
        return grey
    scaled = (grey.astype(np.float64) - low) * 255 / (high - low)
    return np.asarray(np.rint(np.clip(scaled, 0, 255)), dtype=np.uint8)


def default_threshold(grey: UInt8Image) -> int:
    """Return ImageJ's "Default" threshold: the highest value that counts as dark.

    Where the histogram's peak is more than twice its runner-up, it is cut to 1.5 times
    that, so that a plain background does not pull the level.
    """
    histogram = np.bincount(grey.ravel(), minlength=256).astype(np.float64)
    mode = int(histogram.argmax())
    second = float(np.delete(histogram, mode).max())
    if second > 0 and histogram[mode] > 2 * second:
        histogram[mode] = 1.5 * second
    return isodata_threshold(histogram)


def isodata_threshold(histogram: npt.NDArray[np.float64]) -> int:
    """Return the mean of the two class means at the first level that reaches it.

    Both ends of the histogram, which clipping fills, are left out.
    """
    values = np.arange(histogram.size)
    counted = histogram.copy()
    counted[0] = counted[-1] = 0
    used = np.flatnonzero(counted)
    if used.size < 2:
        return int(histogram.size // 2)
    weight, moment = np.cumsum(counted), np.cumsum(counted * values)
    result = float(used[0])
    for level in range(int(used[0]), int(used[-1])):
        below = moment[level] / weight[level]
        above = (moment[-1] - moment[level]) / (weight[-1] - weight[level])
        result = (below + above) / 2
        if level + 2 > result:
            break
    return round(result)


def count_errors(
    true_counts: Sequence[int], counts: Mapping[str, Sequence[int]]
) -> list[dict[str, float | int | str]]:
    """Return the rows of Table II: counts in each method's pictures against the truth.

    `mean_abs_error` is the mean of |count - true count| per picture, `bias` that of the
    difference.

    Examples
    --------
    >>> row = count_errors([3, 5], {"sharper shot": [2, 6]})[0]
    >>> row["mean_abs_error"], row["bias"]
    (1.0, 0.0)
    """
    truth = np.asarray(true_counts, dtype=np.float64)
    rows: list[dict[str, float | int | str]] = []
    for name, counted in counts.items():
        error = np.asarray(counted, dtype=np.float64) - truth
        rows.append(
            {
                "model": name,
                "pictures": len(counted),
                "true_count": float(truth.mean()),
                "mean_abs_error": float(np.abs(error).mean()),
                "bias": float(error.mean()),
            }
        )
    return rows
