"""How good a fused picture is: PSNR, SSIM, harm, means, intervals, re-blur residual.

The protocol of `reference/network.md` section 6: RGB PSNR of 8-bit rounded pictures
inside a margin, three means (all tiles, without the identity cells, identity cells
alone), the 10th percentile, the share of harmed tiles, and intervals by slide.
Source of SSIM: Z. Wang et al., IEEE Trans. Image Process. 13 (2004), 600-612.
"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy.ndimage import gaussian_filter

from bifocus.focal_offset import PairOptics
from bifocus.model.evaluation_pair import IDENTITY_TOLERANCE_UM, EvaluationPair
from bifocus.optics import otf_grid
from bifocus.records import UInt8Image
from bifocus.sharpness import noise_sd
from bifocus.tone import ToneCurve, decode

Float64 = npt.NDArray[np.float64]

# Mirrored borders and what lies outside the field play no part this far inside; the
# blur radius at 4 um defocus, NA 0.75 and 0.25 um pixels is 18 px.
MARGIN_PX = 24
# Rounding to 8 bits alone has this variance, so nothing is known better: 58.9 dB.
ROUNDING_POWER = 1 / 12
# A tile that lost more than this to the sharper shot counts as harmed.
HARM_DB = 0.1
# Edges of |defocus| of the nearer shot, network.md section 4.
BIN_EDGES_UM = (0.0, 0.25, 0.5, 1.0, 1.5, 2.5, np.inf)
# Below this transfer the in-focus picture holds nothing to blur again.
_LEAST_TRANSFER = 0.05


def psnr_db(image: UInt8Image, truth: UInt8Image, margin_px: int = MARGIN_PX) -> float:
    """Return the PSNR in dB over all three colours, at most 58.9.

    Parameters
    ----------
    image, truth
        uint8, the same shape.
    margin_px
        Border left out on each side.

    Examples
    --------
    >>> dark = np.zeros((4, 4, 3), dtype=np.uint8)
    >>> round(psnr_db(dark, dark + 1, margin_px=0), 2)
    48.13
    >>> round(psnr_db(dark, dark, margin_px=0), 2)
    58.92
    """
    error = _inner(image, margin_px) - _inner(truth, margin_px)
    power = max(float(np.mean(error**2)), ROUNDING_POWER)
    return float(10 * np.log10(255**2 / power))


def ssim(image: UInt8Image, truth: UInt8Image, margin_px: int = MARGIN_PX) -> float:
    """Return the mean SSIM of the colours: Gaussian window of 11, sigma 1.5, L = 255.

    Borders that the window would leave are left out beside the margin.
    """
    first = _inner(image, margin_px)
    second = _inner(truth, margin_px)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

    def blur(values: Float64) -> Float64:
        # truncate 3.5 makes the 11-pixel window of the paper.
        window = gaussian_filter(values, (1.5, 1.5, 0), truncate=3.5)
        return np.asarray(window, dtype=np.float64)

    mean1, mean2 = blur(first), blur(second)
    var1 = blur(first**2) - mean1**2
    var2 = blur(second**2) - mean2**2
    cross = blur(first * second) - mean1 * mean2
    above = (2 * mean1 * mean2 + c1) * (2 * cross + c2)
    below = (mean1**2 + mean2**2 + c1) * (var1 + var2 + c2)
    return float((above / below)[5:-5, 5:-5].mean())


def identity_mask(
    offset_um: Float64, half_spacing_um: Float64, tolerance_um: float | None = None
) -> npt.NDArray[np.bool_]:
    """Return where one shot already is the in-focus plane: ||n| - dD| < 0.1 um."""
    limit_um = IDENTITY_TOLERANCE_UM if tolerance_um is None else tolerance_um
    mask: npt.NDArray[np.bool_] = np.abs(np.abs(offset_um) - half_spacing_um) < limit_um
    return mask


def three_means(
    values: Float64, is_identity: npt.NDArray[np.bool_], weights: Float64 | None = None
) -> dict[str, float | None]:
    """Return the means `all`, `non_identity` and `identity`; None where no tile is."""
    weights = np.ones(values.size) if weights is None else weights
    chosen = {
        "all": np.ones(values.size, dtype=bool),
        "non_identity": ~is_identity,
        "identity": is_identity,
    }
    return {
        name: float(np.average(values[mask], weights=weights[mask]))
        if weights[mask].sum() > 0
        else None
        for name, mask in chosen.items()
    }


def gaussian_weights(offset_um: Float64, sd_um: float = 1.0) -> Float64:
    """Return the N(0, sd) weight of each cell centre, summing to 1.

    This is how a table over equally spaced offsets becomes the mean that a Gaussian
    focal offset would give (network.md section 0).
    """
    weights = np.exp(-0.5 * (np.asarray(offset_um, dtype=np.float64) / sd_um) ** 2)
    total: Float64 = weights / weights.sum()
    return total


def grid_means(
    cells: Mapping[float, float], half_spacing_um: float, sd_um: float = 1.0
) -> dict[str, float | None]:
    """Return the three N(0, sd)-weighted means of a row of cells at one half-spacing.

    Parameters
    ----------
    cells
        Mean PSNR by focal offset n in um, equally spaced.
    half_spacing_um
        dD, which decides which cells are identity cells.
    sd_um
        Of the focal offset.
    """
    offset_um = np.array(list(cells), dtype=np.float64)
    values = np.array(list(cells.values()), dtype=np.float64)
    mask = identity_mask(offset_um, np.full(offset_um.size, half_spacing_um))
    return three_means(values, mask, gaussian_weights(offset_um, sd_um))


def harm_rate(gain_db: Float64) -> float:
    """Return the share of tiles more than 0.1 dB below the sharper shot.

    Examples
    --------
    >>> harm_rate(np.array([1.0, -0.05, -0.2, 3.0]))
    0.25
    """
    return float(np.mean(gain_db < -HARM_DB))


def gain_by_bin(
    nearer_defocus_um: Float64,
    gain_db: Float64,
    edges_um: Sequence[float] = BIN_EDGES_UM,
) -> list[dict[str, float | int | None]]:
    """Return mean gain and count per bin of the nearer shot's |defocus|."""
    rows: list[dict[str, float | int | None]] = []
    for low_um, high_um in itertools.pairwise(edges_um):
        inside = (nearer_defocus_um >= low_um) & (nearer_defocus_um < high_um)
        rows.append(
            {
                "from_um": low_um,
                "to_um": high_um if np.isfinite(high_um) else None,
                "count": int(inside.sum()),
                "gain_db": float(gain_db[inside].mean()) if inside.any() else None,
            }
        )
    return rows


def bootstrap_interval(
    values: Float64,
    slide_ids: Sequence[str],
    rng: np.random.Generator,
    *,
    n_resamples: int = 2000,
) -> tuple[float, float] | None:
    """Return the 95 % interval of the mean, slides drawn with replacement.

    Tiles of one slide share stain and texture and are no independent draws. Returns
    None for fewer than two slides, which say nothing about other slides.
    """
    names, slide = np.unique(np.asarray(slide_ids), return_inverse=True)
    if names.size < 2:
        return None
    total = np.bincount(slide, weights=values)
    count = np.bincount(slide)
    drawn = rng.integers(names.size, size=(n_resamples, names.size))
    means = total[drawn].sum(axis=1) / count[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def reblur_ratio(image: UInt8Image, pair: EvaluationPair) -> float:
    """Return how far the picture, blurred again, misses the shots, in noise sds.

    For each shot the in-focus picture x = h(0) o is passed through h(z) / h(0) of the
    true defocus z; the RMS of what is left of the shot is divided by the shot's own
    noise. About 1 when picture, optics and noise agree; the worse shot counts. Detail
    finer than h(0) > 0.05 is not predicted and not counted.
    """
    tone = pair.tone_curve
    sharp = decode(image, tone)
    ratios = []
    for sign, shot in ((-1.0, pair.minus), (1.0, pair.plus)):
        z_um = sign * pair.half_spacing_um - pair.offset_um
        residual, noise = _reblur_residual(
            sharp, decode(shot, tone), pair.optics, round(z_um, 4)
        )
        ratios.append(residual / max(noise, _rounding_sd(tone)))
    return max(ratios)


def _rounding_sd(tone_curve: ToneCurve) -> float:
    slope = 1.0 if tone_curve == "linear" else 2.0  # sRGB is steeper in the lights
    return float(slope * np.sqrt(ROUNDING_POWER) / 255)


def _reblur_residual(
    sharp: npt.NDArray[np.float32],
    shot: npt.NDArray[np.float32],
    optics: PairOptics,
    z_um: float,
) -> tuple[float, float]:
    """Return the RMS of shot minus re-blurred picture, and the shot's noise sd."""
    shape = (shot.shape[0], shot.shape[1])
    power, noise = 0.0, 0.0
    for colour in range(3):
        objective = optics.objective(colour)
        focus = otf_grid(objective, shape, optics.pixel_um, 0.0)
        blur = otf_grid(objective, shape, optics.pixel_um, z_um)
        known = focus > _LEAST_TRANSFER
        ratio = np.where(known, blur / np.where(known, focus, 1), 0)
        predicted = scipy.fft.irfft2(scipy.fft.rfft2(sharp[..., colour]) * ratio, shape)
        seen = scipy.fft.irfft2(scipy.fft.rfft2(shot[..., colour]) * known, shape)
        error = _inner(seen - predicted, MARGIN_PX)
        power += float(np.mean(error**2)) / 3
        # Noise outside the known band was cut off with it.
        noise += noise_sd(shot[..., colour]) ** 2 * float(known.mean()) / 3
    return float(np.sqrt(power)), float(np.sqrt(noise))


def _inner(image: npt.ArrayLike, margin_px: int) -> Float64:
    values = np.asarray(image, dtype=np.float64)
    if margin_px <= 0 or 2 * margin_px >= min(values.shape[:2]):
        return values
    return values[margin_px:-margin_px, margin_px:-margin_px]
