"""What a series of exposures tells of the sensor: dark level, linearity, noise. Pure.

Light is proportional to the exposure, so levels extrapolated to no exposure are those
of no light. Photon transfer: the variance of the shot noise is proportional to the
light, and what is left without light is read noise (EMVA Standard 1288, release 4.0,
sections 2 and 6). All quantities are linear light, 0..1 of full scale.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bifocus.calib.light_meter import ExposurePair
from bifocus.tone import ToneCurve, levels_to_light, light_to_levels

Float64 = npt.NDArray[np.float64]

# Pairs with more clipped pixels than this do not answer light any more.
_MOST_CLIPPED = 1e-3
# What a shutter may be late or early by and never tell: a rolling shutter's row takes
# 10 to 30 us; as a standard uncertainty, assumed.
EXPOSURE_OFFSET_S = 5e-6
# Exposures must span this factor for the extrapolation to mean anything.
_LEAST_SPAN = 1.9
# Cells whose mean lies this near to the ends of the range have lost part of the noise.
_NOISE_RANGE = (4 / 255, 0.97)
_NOISE_VALUES = 256.0  # per cell, see light_meter
_PASSES = 6
# Rounding adds this, as long as the noise before it is 0.6 levels or more; quieter
# cells are left out, since theirs depends on where the level lies (to 0.3 % at 0.6,
# 20 % at 0.4; from the characteristic function of the normal distribution).
_ROUNDING_VARIANCE = 1 / 255**2 / 12
_LEAST_VARIANCE = (0.6 / 255) ** 2
# What rounding, edges in a cell and the straight line leave of the slope: as a standard
# uncertainty, from repeated series on the virtual instrument with real tissue.
_MODEL_SHARE = 0.0015


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """Light against exposure: dark + slope_per_s * exposure, each colour by itself.

    `parts` are the standard uncertainties that make up `dark_u`, of the mean of the
    colours, under their names. `nonlinearity` is the largest deviation from the line
    in the range that was used; `other_nonlinearity` the same if the camera had the
    other tone curve.
    """

    exposures_s: Float64
    light: Float64
    dark: Float64
    slope_per_s: Float64
    dark_mean: float
    dark_u: float
    parts: dict[str, float]
    nonlinearity: float
    other_nonlinearity: float

    def predict(self, exposure_s: float) -> Float64:
        """Return the light of each colour at an exposure, clipping left aside."""
        return self.dark + self.slope_per_s * exposure_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Variance of a pixel = read^2 + light * shot, in linear light of full scale.

    `mean`, `variance` are what was fitted, binned for a plot.
    """

    shot: float
    shot_u: float
    read_variance: float
    read_variance_u: float
    mean: Float64
    variance: Float64


def fit_response(
    pairs: Sequence[ExposurePair], tone_curve: ToneCurve
) -> Response | None:
    """Fit levels against exposure; None with too few exposures that are not clipped."""
    used = [pair for pair in pairs if pair.clipped <= _MOST_CLIPPED]
    times_s = np.repeat([pair.exposure_s for pair in used], 2)
    if times_s.size < 6 or times_s.max() < _LEAST_SPAN * times_s.min():
        return None
    light = np.concatenate([pair.light for pair in used])
    dark, slope, dark_u, bend = _fit_line(times_s, light)
    other: ToneCurve = "srgb" if tone_curve == "linear" else "linear"
    as_other = np.vectorize(
        lambda value: levels_to_light(light_to_levels(value, tone_curve), other)
    )(light)
    parts = {
        "scatter about the line": float(np.sqrt(np.mean(dark_u**2) / 3)),
        "exposure time": float(slope.mean()) * EXPOSURE_OFFSET_S,
        "rounding to levels": _rounding_u(used),
    }
    return Response(
        exposures_s=times_s,
        light=light,
        dark=dark,
        slope_per_s=slope,
        dark_mean=float(dark.mean()),
        dark_u=float(np.sqrt(sum(part**2 for part in parts.values()))),
        parts=parts,
        nonlinearity=bend,
        other_nonlinearity=_fit_line(times_s, as_other)[3],
    )


def fit_noise(pairs: Sequence[ExposurePair], dark: float) -> Noise | None:
    """Fit the variance of pixels against their light.

    Parameters
    ----------
    pairs
        From `LightMeter.take_series`.
    dark
        Light level without light.

    Returns
    -------
    Noise or None
        None when the cells span too little light to tell shot from read noise.
    """
    mean = np.concatenate([pair.cells.ravel() for pair in pairs])
    variance = np.concatenate([pair.variance.ravel() for pair in pairs])
    low, high = _NOISE_RANGE
    inside = (mean > low) & (mean < high)
    mean, variance = mean[inside] - dark, variance[inside] - _ROUNDING_VARIANCE
    for _ in range(2):  # what is quiet is judged by the line, not by its own scatter
        if not _is_wide(mean):
            return None
        fitted, spread = _fit_variance(mean, variance)
        loud = fitted[0] + fitted[1] * mean > _LEAST_VARIANCE
        mean, variance = mean[loud], variance[loud]
    if not _is_wide(mean):
        return None
    fitted, spread = _fit_variance(mean, variance)
    if fitted[1] <= 0:
        return None
    model_u = _MODEL_SHARE * float(fitted[1])
    spread = np.hypot(spread, [model_u * float(np.quantile(mean, 0.1)), model_u])
    binned = _binned(mean, variance)
    return Noise(
        shot=float(fitted[1]),
        shot_u=float(spread[1]),
        read_variance=float(fitted[0]),
        read_variance_u=float(spread[0]),
        mean=binned[0],
        variance=binned[1],
    )


def _is_wide(mean: Float64) -> bool:
    return mean.size >= 50 and mean.max() >= _LEAST_SPAN * max(mean.min(), 1e-6)


def _fit_variance(mean: Float64, variance: Float64) -> tuple[Float64, Float64]:
    """Return read variance and shot variance per light, and their u."""
    columns = np.stack([np.ones_like(mean), mean], axis=1)
    model = np.full(mean.shape, float(variance.mean()) + _ROUNDING_VARIANCE)
    for _ in range(_PASSES):  # the spread of a variance is proportional to itself
        weight = (_NOISE_VALUES - 1) / 2 / model**2
        normal = columns.T @ (weight[:, None] * columns)
        fitted = np.linalg.solve(normal, columns.T @ (weight * variance))
        model = np.maximum(columns @ fitted, 1e-9) + _ROUNDING_VARIANCE
    spread = np.sqrt(np.diag(np.linalg.inv(normal)))
    return np.asarray(fitted, np.float64), np.asarray(spread, np.float64)


def rounding_bias_u(noise_levels: float) -> float:
    """Return the standard uncertainty of a mean of rounded values, in levels.

    Noise of standard deviation s before the rounding leaves a bias of at most
    exp(-2 pi^2 s^2) / pi levels, sinusoidal in the true value (B. Widrow and I. Kollar,
    *Quantization Noise*, 2008, section 4.3).

    Examples
    --------
    >>> round(rounding_bias_u(0.0), 3), rounding_bias_u(1.0) < 1e-8
    (0.225, True)
    """
    return float(np.exp(-2 * (np.pi * noise_levels) ** 2) / np.pi / np.sqrt(2))


def _fit_line(
    times_s: Float64, light: Float64
) -> tuple[Float64, Float64, Float64, float]:
    """Return intercepts, slopes, u of the intercepts, and the largest deviation."""
    columns = np.stack([np.ones_like(times_s), times_s], axis=1)
    fitted = np.linalg.lstsq(columns, light, rcond=None)[0]
    residual = light - columns @ fitted
    variance = (residual**2).sum(axis=0) / (times_s.size - 2)
    unit = np.linalg.inv(columns.T @ columns)[0, 0]
    nominal_s = np.round(times_s, 9)  # a clock's own rounding is no other exposure
    steps = [residual[nominal_s == time].mean(axis=0) for time in np.unique(nominal_s)]
    bend = float(np.abs(steps).max() / light.max())
    return fitted[0], fitted[1], np.sqrt(variance * unit), bend


def _rounding_u(pairs: Sequence[ExposurePair]) -> float:
    """Return u of the dark level from rounding, at the quietest exposure."""
    quietest = min(float(np.median(pair.variance)) for pair in pairs)
    sd_levels = np.sqrt(max(quietest * 255**2 - 1 / 12, 0.0))
    return rounding_bias_u(float(sd_levels)) / 255


def _binned(mean: Float64, variance: Float64) -> tuple[Float64, Float64]:
    """Return means of both in twenty bins of light, for a plot."""
    edges = np.linspace(mean.min(), mean.max(), 21)
    which = np.clip(np.digitize(mean, edges) - 1, 0, 19)
    filled = [number for number in range(20) if (which == number).sum() > 8]
    return (
        np.array([mean[which == number].mean() for number in filled]),
        np.array([variance[which == number].mean() for number in filled]),
    )
