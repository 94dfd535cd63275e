"""The lamp's falloff over the field: its surface, and its removal from a picture."""

import numpy as np
import numpy.typing as npt

from bifocus.records import FlatField, FloatImage, UInt8Image
from bifocus.tone import ToneCurve, decode, encode

Float64 = npt.NDArray[np.float64]


def quadratic_columns(x: Float64, y: Float64) -> Float64:
    """Return the columns [1, x, y, x^2, x y, y^2] for coordinates in -1..1."""
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)


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
    columns = quadratic_columns(*field_coordinates(shape))
    log_light = columns @ np.asarray(flat_field.coefficients, dtype=np.float64).T
    gain = np.exp(log_light - log_light.max(axis=(0, 1)))
    return np.asarray(gain, dtype=np.float32)


class FlatFieldCorrection:
    """Divides pictures by the lamp's falloff; does nothing where there is no profile.

    Examples
    --------
    >>> import numpy as np
    >>> same = FlatFieldCorrection(None, (64, 64), "linear")
    >>> picture = np.full((64, 64, 3), 100, np.uint8)
    >>> same.apply(picture) is picture
    True
    """

    def __init__(
        self,
        flat_field: FlatField | None,
        shape: tuple[int, int],
        tone_curve: ToneCurve,
    ) -> None:
        self._tone_curve: ToneCurve = tone_curve
        self._inverse: FloatImage | None = None
        if flat_field is not None:
            self._inverse = np.reciprocal(compute_gain(flat_field, shape))

    def apply(self, pixels: UInt8Image) -> UInt8Image:
        """Return the picture as an even lamp would have shown it."""
        if self._inverse is None:
            return pixels
        light = decode(pixels, self._tone_curve)
        light *= self._inverse
        return encode(light, self._tone_curve)
