"""The lamp's falloff and colour, and the dark level: their removal from a picture."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bifocus.errors import ConfigError
from bifocus.records import FlatField, FloatImage, InstrumentProfile, UInt8Image
from bifocus.tone import ToneCurve, decode, encode, levels_to_light

Float64 = npt.NDArray[np.float64]


def quadratic_columns(x: Float64, y: Float64) -> Float64:
    """Return the columns [1, x, y, x^2, x y, y^2] for coordinates in -1..1."""
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)


def quartic_columns(x: Float64, y: Float64) -> Float64:
    """Return the six columns of `quadratic_columns`, then those up to fourth order."""
    third = [x**3, x * x * y, x * y * y, y**3]
    fourth = [x**4, x**3 * y, x * x * y * y, x * y**3, y**4]
    higher = np.stack([*third, *fourth], axis=-1)
    return np.concatenate([quadratic_columns(x, y), higher], axis=-1)


def surface_columns(count: int, x: Float64, y: Float64) -> Float64:
    """Return the columns that belong to so many coefficients, 6 or 15."""
    columns = quadratic_columns if count == 6 else quartic_columns
    return columns(x, y)


def field_coordinates(shape: tuple[int, int]) -> tuple[Float64, Float64]:
    """Return x and y, -1..1 from the first to the last pixel, each of `shape`."""
    y, x = np.meshgrid(
        np.linspace(-1, 1, shape[0]), np.linspace(-1, 1, shape[1]), indexing="ij"
    )
    return x, y


def compute_gain(flat_field: FlatField, shape: tuple[int, int]) -> FloatImage:
    """Return the lamp's brightness over the field, each colour's maximum being 1.

    Returns
    -------
    ndarray of float32
        Shape (rows, columns, 3), values in 0..1.
    """
    coefficients = np.asarray(flat_field.coefficients, dtype=np.float64)
    columns = surface_columns(coefficients.shape[1], *field_coordinates(shape))
    log_light = columns @ coefficients.T
    gain = np.exp(log_light - log_light.max(axis=(0, 1)))
    return np.asarray(gain, dtype=np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class GlassLevels:
    """Stored levels, 0 to 255, of clear glass per colour and of no light at all.

    `white` is where the light over the field is brightest; None where it is unknown.
    """

    white: tuple[float, float, float] | None = None
    dark: float = 0.0

    @classmethod
    def of_profile(cls, profile: InstrumentProfile) -> "GlassLevels":
        """Return what calibration measured; profiles without colour change nothing."""
        measured = profile.values
        keys = ("white_r", "white_g", "white_b")
        dark = measured.get("dark_level")
        white = [measured[key].value for key in keys if key in measured]
        return cls(
            white=(white[0], white[1], white[2]) if len(white) == len(keys) else None,
            dark=max(dark.value, 0.0) if dark is not None else 0.0,
        )


class FlatFieldCorrection:
    """Shows pictures as an even, white lamp would have; nothing without a profile.

    In linear light: the dark level is subtracted, the falloff divided out, and each
    colour scaled so that clear glass has one level in all of them, that of the
    brightest. The factors belong to the instrument and are the same for every tile:
    stain is never taken for a colour of the lamp.

    Examples
    --------
    >>> import numpy as np
    >>> same = FlatFieldCorrection(None, (64, 64), "linear")
    >>> picture = np.full((64, 64, 3), 100, np.uint8)
    >>> same.apply(picture) is picture
    True
    >>> tinted = np.full((64, 64, 3), (180, 200, 160), np.uint8)
    >>> glass = GlassLevels(white=(180.0, 200.0, 160.0))
    >>> white = FlatFieldCorrection(None, (64, 64), "linear", glass)
    >>> white.apply(tinted)[0, 0].tolist()
    [200, 200, 200]
    """

    def __init__(
        self,
        flat_field: FlatField | None,
        shape: tuple[int, int],
        tone_curve: ToneCurve,
        glass: GlassLevels | None = None,
    ) -> None:
        self._tone_curve: ToneCurve = tone_curve
        levels = glass or GlassLevels()
        self._dark = np.float32(levels_to_light(levels.dark, tone_curve))
        self._factor: FloatImage | None = None
        balance = _white_factors(levels, tone_curve)
        if flat_field is not None:
            self._factor = balance / compute_gain(flat_field, shape)
        elif levels.white is not None or levels.dark > 0:
            self._factor = np.broadcast_to(balance, (*shape, 3))

    @classmethod
    def of_profile(
        cls, profile: InstrumentProfile, shape: tuple[int, int], tone_curve: ToneCurve
    ) -> "FlatFieldCorrection":
        """Return the correction that a profile asks for."""
        glass = GlassLevels.of_profile(profile)
        return cls(profile.flat_field, shape, tone_curve, glass)

    @property
    def changes_pictures(self) -> bool:
        """Whether `apply` returns other pictures than it is given."""
        return self._factor is not None

    def apply(
        self, pixels: UInt8Image, lend: Callable[[], UInt8Image] | None = None
    ) -> UInt8Image:
        """Return the picture as an even, white lamp would have shown it.

        `lend` gives the array for it, of the picture's shape; by default a new one.
        """
        if self._factor is None:
            return pixels
        light = decode(pixels, self._tone_curve)
        if self._dark:
            light -= self._dark
        light *= self._factor
        return encode(light, self._tone_curve, lend() if lend else None)


def _white_factors(levels: GlassLevels, tone_curve: ToneCurve) -> FloatImage:
    """Return the factor of each colour that makes glass white, shape (3,)."""
    if levels.white is None:
        return np.ones(3, np.float32)
    dark = levels_to_light(levels.dark, tone_curve)
    light = np.array([levels_to_light(white, tone_curve) for white in levels.white])
    signal = light - dark
    if signal.min() <= 0:
        msg = (
            f"the profile's clear glass is no brighter than darkness: white "
            f"{levels.white}, dark {levels.dark} of 255; run `bifocus calibrate`"
        )
        raise ConfigError(msg)
    return np.asarray(signal.max() / signal, np.float32)
