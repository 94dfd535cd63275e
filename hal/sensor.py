"""From light to 8-bit levels: lamp, falloff, noise, dark level, tone curve, rounding.

Pure. Noise model: EMVA Standard 1288, release 4.0, section 2 (Poisson photoelectrons,
taken as normal, plus normal dark noise), without dark current.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bifocus.records import FloatImage, UInt8Image
from bifocus.tone import ToneCurve, encode, light_to_levels

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor:
    """What turns transmission into levels; glass in the field's middle = white level.

    `white_level` is the share of the full well that glass fills, in linear light; the
    other fields are as in `bifocus.camera_config.VirtualSensor`.
    """

    full_well_e: float
    read_noise_e: float
    white_level: float
    falloff: float
    tone_curve: ToneCurve
    falloff_middle: tuple[float, float] = (0.0, 0.0)
    white_balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
    dark_level: float = 0.0
    is_lamp_on: bool = True

    def expose(
        self,
        light: FloatImage,
        rng: np.random.Generator,
        gain: float = 1.0,
        out: UInt8Image | None = None,
    ) -> UInt8Image:
        """Return the noisy picture of linear `light` (rows, columns, 3).

        `gain` is the exposure time over the one that gives `white_level`, `out` an
        array of the same shape to be filled and returned.
        """
        field = illumination(light.shape[:2], self.falloff, self.falloff_middle)
        electrons = light * field[..., None]
        electrons *= np.float32(self._glass_e * gain)
        if self.white_balance != (1.0, 1.0, 1.0):
            electrons *= np.asarray(self.white_balance, np.float32)
        spread = np.sqrt(electrons + np.float32(self.read_noise_e**2))
        electrons += spread * rng.standard_normal(light.shape, dtype=np.float32)
        electrons /= np.float32(self.full_well_e)
        if self.dark_level:
            electrons += np.float32(self.dark_level / 255)
        return encode(electrons, self.tone_curve, out)

    def encode(self, light: FloatImage) -> UInt8Image:
        """Return the picture without noise and with even illumination."""
        levels = light * np.float32(self.white_level)
        if self.white_balance != (1.0, 1.0, 1.0):
            levels *= np.asarray(self.white_balance, np.float32)
        if self.dark_level:
            levels += np.float32(self.dark_level / 255)
        return encode(levels, self.tone_curve)

    def true_values(self) -> dict[str, float]:
        """Return the truth of what calibration measures of light and sensor.

        `white_r`, `_g`, `_b` (stored level of perfectly clear glass where the light is
        brightest), `dark_level`, `read_noise` (e), `gain_e_per_level`.
        """
        dark = self.dark_level / 255
        whites = {
            f"white_{colour}": self._glass_e / self.full_well_e * balance + dark
            for colour, balance in zip("rgb", self.white_balance, strict=True)
        }
        levels = {**whites, "dark_level": dark}
        return {
            **{
                key: light_to_levels(light, self.tone_curve)
                for key, light in levels.items()
            },
            "read_noise": self.read_noise_e,
            "gain_e_per_level": self.full_well_e / 255,
        }

    @property
    def _glass_e(self) -> float:
        return self.white_level * self.full_well_e if self.is_lamp_on else 0.0


def illumination(
    shape: tuple[int, ...], falloff: float, middle: tuple[float, float] = (0.0, 0.0)
) -> Float32:
    """Return the relative light over the field: 1 - falloff (r / r_corner)^2.

    `middle` is where it is brightest, x and y in -1..1; far corners get darker still,
    down to nothing.
    """
    y = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, shape[1], dtype=np.float32)[None, :]
    across = (x - np.float32(middle[0])) * shape[1]
    down = (y - np.float32(middle[1])) * shape[0]
    corner = np.float32(shape[0] ** 2 + shape[1] ** 2)
    relative = 1 - np.float32(falloff) * (across * across + down * down) / corner
    return np.asarray(np.maximum(relative, 0), np.float32)
