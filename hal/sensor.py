"""From light to 8-bit levels: illumination, shot and read noise, tone curve, rounding.

Pure. Noise model: EMVA Standard 1288, release 4.0, section 2 (Poisson photoelectrons,
taken as normal, plus normal dark noise), without dark current.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bifocus.records import FloatImage, UInt8Image
from bifocus.tone import ToneCurve, encode

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor:
    """What turns transmission into levels; glass in the field's middle = white level.

    `white_level` is the share of the full well that glass fills, in linear light.
    """

    full_well_e: float
    read_noise_e: float
    white_level: float
    falloff: float
    tone_curve: ToneCurve

    def expose(
        self, light: FloatImage, rng: np.random.Generator, gain: float = 1.0
    ) -> UInt8Image:
        """Return the noisy picture of linear `light` (rows, columns, 3).

        `gain` is the exposure time over the one that gives `white_level`.
        """
        flat = light * illumination(light.shape[:2], self.falloff)[..., None]
        electrons = flat * np.float32(self.white_level * self.full_well_e * gain)
        spread = np.sqrt(electrons + np.float32(self.read_noise_e**2))
        electrons += spread * rng.standard_normal(light.shape, dtype=np.float32)
        return encode(electrons / np.float32(self.full_well_e), self.tone_curve)

    def encode(self, light: FloatImage) -> UInt8Image:
        """Return the picture without noise and with even illumination."""
        return encode(light * np.float32(self.white_level), self.tone_curve)


def illumination(shape: tuple[int, ...], falloff: float) -> Float32:
    """Return the relative light over the field: 1 - falloff (r / r_corner)^2."""
    y = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None] * shape[0]
    x = np.linspace(-1, 1, shape[1], dtype=np.float32)[None, :] * shape[1]
    corner = np.float32(shape[0] ** 2 + shape[1] ** 2)
    return np.asarray(1 - falloff * (x * x + y * y) / corner, np.float32)
