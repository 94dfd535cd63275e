"""How good two-shot fusion will be for each half-spacing dD. Pure.

The linear estimate with the least error (`bifocus.physics_fusion`) of a tile whose best
focus lies d beside F has, at each spatial frequency, the mean squared error

    E(f, d) = h0^2 S / (1 + S (h-^2 / N- + h+^2 / N+)),   h+- = h(d -+ dD),

with S the power of the tissue, and N+- the camera's noise plus what not knowing the
shot's height to r makes of the signal, S (dh/dz)^2 r^2. Summed over all frequencies it
is the mean squared error of a tile; its PSNR is averaged over d ~ N(0, spread).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bifocus.focal_offset import MODEL_SD_UNITS
from bifocus.optics import Objective
from bifocus.records import FloatImage
from bifocus.transfer import Light, compute_transfer

Float64 = npt.NDArray[np.float64]

_RINGS = 64
# Offsets d in standard deviations; even spacing serves mean and worst tenth alike.
_OFFSETS = np.asarray(np.linspace(-2.6, 2.6, 27), dtype=np.float64)
_WEIGHTS = np.exp(-(_OFFSETS**2) / 2) / np.exp(-(_OFFSETS**2) / 2).sum()
_SLOPE_UNITS = 0.02  # of lambda / NA^2: step of the numerical derivative dh/dz
# Below this in-focus transfer no power of the tissue can be told from noise.
_LEAST_TRANSFER = 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class TissuePower:
    """Power of the tissue against that of the noise, by rings of spatial frequency.

    Attributes
    ----------
    frequency_per_um
        Mean radius of each ring, shape (rings,).
    count
        Coefficients in each ring.
    signal
        Power of a coefficient of the tissue itself, before the objective, in units of
        the noise's.
    noise_sd
        Of one pixel, as a share of full scale.
    """

    frequency_per_um: Float64
    count: Float64
    signal: Float64
    noise_sd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SpacingCurve:
    """Predicted PSNR (dB) against half-spacing: mean, and that of the worst tenth."""

    half_spacing_um: Float64
    mean_db: Float64
    worst_tenth_db: Float64

    @property
    def best_um(self) -> float:
        """The half-spacing of the highest mean."""
        return float(self.half_spacing_um[int(np.argmax(self.mean_db))])

    def at(self, half_spacing_um: float) -> float:
        """Return the mean at a half-spacing, by interpolation."""
        return float(np.interp(half_spacing_um, self.half_spacing_um, self.mean_db))


def measure_power(
    focused: FloatImage,
    noise_sd: float,
    *,
    objective: Objective,
    light: Light,
    pixel_um: float,
) -> TissuePower:
    """Return the power of the tissue in a picture taken at the best focus.

    Parameters
    ----------
    focused
        Grey picture as shares of full scale, shape (rows, columns).
    noise_sd
        Of one pixel, in the same unit.
    """
    rows, columns = focused.shape
    window = np.outer(np.hanning(rows), np.hanning(columns))
    plain = (focused - focused.mean()) * window
    power = np.abs(np.fft.rfft2(plain)) ** 2 / float((window**2).sum())
    radius = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None, :])
    ring = np.minimum((radius / 0.5 * _RINGS).astype(np.intp), _RINGS)
    # The lowest ring holds what the window leaks, the last what lies in the corners.
    used = slice(1, _RINGS)
    count = np.bincount(ring.ravel(), minlength=_RINGS + 1)[used]
    total = np.bincount(ring.ravel(), power.ravel(), _RINGS + 1)[used]
    frequency = (np.arange(1, _RINGS) + 0.5) / _RINGS * 0.5 / pixel_um
    excess = np.maximum(total / np.maximum(count, 1) / noise_sd**2 - 1, 0.0)
    transfer = compute_transfer(objective, light, frequency, np.zeros(1))[0]
    passed = transfer.astype(np.float64) ** 2
    is_known = passed > _LEAST_TRANSFER**2
    signal = np.where(is_known, excess / np.maximum(passed, _LEAST_TRANSFER**2), 0.0)
    return TissuePower(
        frequency_per_um=frequency,
        count=count.astype(np.float64),
        signal=signal,
        noise_sd=noise_sd,
    )


def predict_curve(
    tissue: TissuePower,
    objective: Objective,
    light: Light,
    *,
    half_spacings_um: Float64,
    spread_um: float,
    repeatability_um: float,
) -> SpacingCurve:
    """Return the predicted quality for each half-spacing.

    Parameters
    ----------
    half_spacings_um
        To try, ascending.
    spread_um
        Standard deviation of the tissue's best focus beside F.
    repeatability_um
        Standard deviation of the height of one shot.
    """
    unit_um = objective.refractive_index * objective.wavelength_um / objective.na**2
    offsets_um = _OFFSETS * spread_um
    halves_um = half_spacings_um[:, None]
    shots_um = [offsets_um + halves_um, offsets_um - halves_um]
    error = wiener_error(
        tissue,
        objective,
        light,
        defoci_um=np.stack([shot_um.ravel() for shot_um in shots_um]),
        unknown_um=float(np.hypot(repeatability_um, MODEL_SD_UNITS * unit_um)),
    ).reshape(half_spacings_um.size, offsets_um.size)
    quality_db = -10 * np.log10(np.maximum(error, 1e-12))
    worst = []
    for one_db in quality_db:
        order = np.argsort(one_db)
        worst.append(np.interp(0.1, np.cumsum(_WEIGHTS[order]), one_db[order]))
    return SpacingCurve(
        half_spacing_um=half_spacings_um,
        mean_db=quality_db @ _WEIGHTS,
        worst_tenth_db=np.array(worst),
    )


def wiener_error(
    tissue: TissuePower,
    objective: Objective,
    light: Light,
    *,
    defoci_um: Float64,
    unknown_um: float,
) -> Float64:
    """Return the mean squared error of a pixel, full scale 1, in some cases.

    Parameters
    ----------
    defoci_um
        Height of the tissue's best focus over each shot, shape (shots, cases).
    unknown_um
        To what standard deviation the height of a shot is known.
    """
    unit_um = objective.refractive_index * objective.wavelength_um / objective.na**2
    step_um = _SLOPE_UNITS * unit_um

    def transfer(z_um: Float64) -> Float64:
        table = compute_transfer(objective, light, tissue.frequency_per_um, z_um)
        return table.astype(np.float64)

    gain = np.zeros((defoci_um.shape[1], tissue.count.size))
    for z_um in defoci_um:
        slope = (transfer(z_um + step_um) - transfer(z_um - step_um)) / (2 * step_um)
        noise = 1 + tissue.signal * (slope * unknown_um) ** 2
        gain += transfer(z_um) ** 2 / noise
    at_focus = transfer(np.zeros(1))[0]
    error = at_focus**2 * tissue.signal / (1 + tissue.signal * gain)
    share: Float64 = error @ tissue.count / tissue.count.sum()
    return share * tissue.noise_sd**2
