"""The optics of one instrument as its own z-stack shows them, for the profile.

Nominal optics are a guess: the NA of the light that really arrives, a cover glass of
another thickness and a condenser stopped down change what defocus does to a picture,
and colours focus at different heights. `bifocus.calib.optics_step` measures them; the
focal offset, the fusion and the networks' physics image then use them.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bifocus.errors import ConfigError
from bifocus.transfer import Light


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetReadout:
    """How the focal offset read from pairs relates to the true one on this instrument.

    Attributes
    ----------
    gain, bias_um
        Read = gain * true + bias; gain within 0.5 to 2.
    range_um
        True offsets up to this, plus and minus, are read well.
    sd_factor
        Actual scatter about the line / the stated standard uncertainty.
    """

    gain: float = 1.0
    bias_um: float = 0.0
    range_um: float
    sd_factor: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a read-out that could not be corrected."""
        if not (math.isfinite(self.gain) and 0.5 <= self.gain <= 2):
            msg = f"the read-out's gain must lie between 0.5 and 2, got {self.gain}"
            raise ConfigError(msg)
        if not math.isfinite(self.bias_um):
            msg = f"the read-out's bias_um must be finite, got {self.bias_um}"
            raise ConfigError(msg)
        for name in ("range_um", "sd_factor"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                msg = f"the read-out's {name} must be a positive number, got {value}"
                raise ConfigError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibratedOptics:
    """What the fusion must know of one instrument's optics.

    Attributes
    ----------
    na
        Effective numerical aperture, at the wavelengths of the instrument file.
    light
        Condenser, phase, spherical aberration and pupil.
    chromatic_um
        Height of best focus of red, green and blue over that of green, as the stage
        counts.
    z_scale
        Micrometres that the optics see in one of the stage's; 0.5 to 2.
    readout
        Calibration of the focal offset; None leaves the offsets as they are read.
    """

    na: float
    light: Light
    chromatic_um: tuple[float, float, float] = (0.0, 0.0, 0.0)
    z_scale: float = 1.0
    readout: OffsetReadout | None = None

    def __post_init__(self) -> None:
        """Refuse what no objective has."""
        if not (math.isfinite(self.na) and 0 < self.na < 1.7):
            msg = f"calibrated na must lie between 0 and 1.7, got {self.na}"
            raise ConfigError(msg)
        shifts_um = self.chromatic_um
        if len(shifts_um) != 3 or not all(map(math.isfinite, shifts_um)):
            msg = f"chromatic_um must be three finite numbers, got {self.chromatic_um}"
            raise ConfigError(msg)

        if not (math.isfinite(self.z_scale) and 0.5 <= self.z_scale <= 2):
            msg = f"z_scale must lie between 0.5 and 2, got {self.z_scale}"
            raise ConfigError(msg)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON and YAML hold them."""
        document = dataclasses.asdict(self)
        document["chromatic_um"] = list(self.chromatic_um)
        return document

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> "CalibratedOptics":
        """Return what `to_dict` has written.

        Raises
        ------
        ConfigError
            If a key is missing, unknown, or has a value that no optics have.
        """
        try:
            fields = dict(document)
            readout = fields.pop("readout", None)
            return cls(
                **{
                    **fields,
                    "light": Light(**fields["light"]),
                    "chromatic_um": tuple(fields["chromatic_um"]),
                    "readout": None if readout is None else OffsetReadout(**readout),
                }
            )
        except (KeyError, TypeError, ValueError) as error:
            msg = (
                f"not the record of calibrated optics: {error}; run "
                "`bifocus calibrate --only optics`"
            )
            raise ConfigError(msg) from error
