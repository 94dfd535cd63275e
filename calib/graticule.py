"""The pitch of a target of crossed lines in a picture, to about 1e-4 of itself. Pure.

Two sets of parallel lines are two combs of peaks in the spectrum. The comb's spacing is
where the power at its first harmonics, summed, is largest; between the bins of the
transform it is found by climbing, under a window that keeps the combs apart.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bifocus.errors import CalibrationError
from bifocus.records import UInt8Image

Float64 = npt.NDArray[np.float64]

# How far pitch and angle may be off what is expected.
_PITCH_RANGE = 0.25
_ANGLE_RANGE = 0.2
_MOST_HARMONICS = 4
_HIGHEST_PER_PX = 0.35  # above, the objective passes little
# Parabolas through ever closer places, as a share of the peak's width.
_STEPS = np.array([0.3, 0.15, 0.05, 0.02])
_LEAST_PERIODS = 3.0  # in the field: the window blurs each peak by three bins
# Share of the picture's variance in the first harmonics; a crossed target has 0.4 in
# each direction, tissue under 0.01.
_LEAST_SHARE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class GraticuleFit:
    """What one picture of crossed lines shows.

    `pitch_x_px` is the distance of lines that follow each other from left to right,
    `angle_mrad` how far the lines are turned, from x towards y, and `skew_mrad` how far
    the two sets are from a right angle.
    """

    pitch_x_px: float
    pitch_y_px: float
    angle_mrad: float
    skew_mrad: float

    @property
    def pitch_px(self) -> float:
        """Mean of both directions."""
        return (self.pitch_x_px + self.pitch_y_px) / 2


def fit_graticule(green: UInt8Image, *, expected_px: float) -> GraticuleFit:
    """Measure the pitch of crossed lines.

    Parameters
    ----------
    green
        (rows, columns) uint8.
    expected_px
        Pitch to look for, to 25 %.

    Raises
    ------
    CalibrationError
        If the field holds too few periods, or no lines of about this pitch.
    """
    periods = min(green.shape) / expected_px
    if periods < _LEAST_PERIODS:
        msg = (
            f"graticule: only {periods:.1f} of its periods of about {expected_px:.0f} "
            f"px lie in the field, at least {_LEAST_PERIODS:g} are needed; take a "
            "finer graticule, or correct calibration.graticule.pitch_um"
        )
        raise CalibrationError(msg)
    windowed = _windowed(green)
    across = _climb(windowed, _find_peak(windowed, expected_px), expected_px)
    down = _climb(windowed.T, _find_peak(windowed.T, expected_px), expected_px)
    _check_share(windowed, across, down, expected_px)
    # A comb at (fx, fy) belongs to lines turned by atan(fy / fx).
    angle_x = np.arctan2(across[1], across[0])
    angle_y = -np.arctan2(down[1], down[0])
    return GraticuleFit(
        pitch_x_px=1 / float(np.hypot(*across)),
        pitch_y_px=1 / float(np.hypot(*down)),
        angle_mrad=500 * float(angle_x + angle_y),
        skew_mrad=1000 * float(angle_y - angle_x),
    )


def _windowed(green: UInt8Image) -> Float64:
    """Return the picture less its mean, under a window without sharp ends."""
    down, across = (np.blackman(length + 2)[1:-1] for length in green.shape)
    window = np.outer(down, across)
    level = float((green * window).sum() / window.sum())
    return np.asarray((green - level) * window, np.float64)


def _waves(length: int, per_px: Float64) -> npt.NDArray[np.complex128]:
    return np.exp(-2j * np.pi * np.outer(per_px, np.arange(length) - length / 2))


def _real_product(
    windowed: Float64, waves: npt.NDArray[np.complex128]
) -> npt.NDArray[np.complex128]:
    """Return the sum of each row times each wave, (waves, rows).

    Two real products are quicker than one of complex numbers.
    """
    return np.asarray(waves.real @ windowed.T + 1j * (waves.imag @ windowed.T))


def _steps(low: float, high: float, step: float) -> Float64:
    count = int(np.ceil((high - low) / step)) + 1
    return np.asarray(np.linspace(low, high, count), np.float64)


def _find_peak(windowed: Float64, expected_px: float) -> Float64:
    """Return the strongest frequency (along, across) about the expected pitch."""
    rows, columns = windowed.shape
    nominal = 1 / expected_px
    low, high = nominal / (1 + _PITCH_RANGE), nominal * (1 + _PITCH_RANGE)
    step = 0.25 / max(rows, columns)
    along = _steps(low, high, step)
    across = _steps(-_ANGLE_RANGE * nominal, _ANGLE_RANGE * nominal, step)
    seen = _real_product(windowed, _waves(columns, along))
    power = np.abs(np.einsum("ar,fr->af", _waves(rows, across), seen))
    row, column = np.unravel_index(int(power.argmax()), power.shape)
    return np.array([along[column], across[row]])


def _climb(windowed: Float64, start: Float64, expected_px: float) -> Float64:
    """Climb to the comb whose harmonics together are strongest."""
    count = max(1, min(_MOST_HARMONICS, int(_HIGHEST_PER_PX * expected_px)))
    numbers = np.arange(1, count + 1)
    rows, columns = windowed.shape

    def power(frequency: Float64) -> float:
        along = _waves(columns, numbers * frequency[0])
        across = _waves(rows, numbers * frequency[1])
        peaks = np.sum(across * _real_product(windowed, along), axis=1)
        return float(np.sum(np.abs(peaks) ** 2))

    found = start.astype(np.float64)
    for step in _STEPS / max(rows, columns) / count:
        for axis in range(2):
            beside = np.zeros(2)
            beside[axis] = step
            low, here, high = (
                power(found + sign * beside) for sign in (-1.0, 0.0, 1.0)
            )
            bend = low - 2 * here + high
            if bend < 0:
                move = 0.5 * (low - high) / bend
                found = found + beside * float(np.clip(move, -2, 2))
    return found


def _check_share(
    windowed: Float64, across: Float64, down: Float64, expected_px: float
) -> None:
    """Refuse a picture whose contrast is not that of lines."""
    rows, columns = windowed.shape
    down_window, across_window = np.blackman(rows), np.blackman(columns)
    total = float(np.sum(windowed**2))
    total *= float(np.sum(down_window**2) * np.sum(across_window**2))
    for picture, frequency in ((windowed, across), (windowed.T, down)):
        along = _real_product(picture, _waves(picture.shape[1], frequency[:1]))
        sideways = _waves(picture.shape[0], frequency[1:])
        power = float(np.abs(np.sum(sideways * along))) ** 2
        share = 2 * power / total
        if share < _LEAST_SHARE:
            msg = (
                f"graticule: no lines {expected_px:.1f} px apart: they hold "
                f"{100 * share:.1f} % of the picture's contrast, at least "
                f"{100 * _LEAST_SHARE:.0f} % are expected; load the target, focus on "
                "it, or leave calibration.graticule out"
            )
            raise CalibrationError(msg)
