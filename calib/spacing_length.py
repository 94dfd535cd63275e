"""Which length along z the half-spacing rests on. Pure.

Two sources, both named: the drive's own micrometre, trusted to `calibration.
z_tolerance`; and the wavelength of the light, by which defocus is measured in the step
`optics`, as far as `optics.wavelengths_um` and `pixel_um` are true. Their mean counts,
weighted by what each is uncertain by. Where they disagree by more than chance allows,
the drive is not within its tolerance, and light alone counts.
"""

import math
from dataclasses import dataclass

from bifocus.calib.uncertainty import limits_u, root_sum_square
from bifocus.config import Instrument
from bifocus.records import Measured

# The mean wavelength of a colour: LEDs are sorted to some nm, and sensors see them
# through filters as wide as they are.
WAVELENGTH_TOLERANCE = 0.02
_DISAGREE = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ZLength:
    """True micrometres in one of the drive's, its standard uncertainty, and whence."""

    scale: float
    u: float
    source: str


def choose_length(config: Instrument, seen: Measured | None) -> ZLength:
    """Return the length that dD rests on.

    Parameters
    ----------
    config
        Says how far drive and pixel are trusted.
    seen
        `z_scale` of the step `optics`; None if that has not been measured.
    """
    tolerance = config.calibration.z_tolerance
    drive_u = limits_u(tolerance)
    drive = f"um of the z drive, trusted to {tolerance:.0%} (calibration.z_tolerance)"
    if seen is None or tolerance == 0:
        return ZLength(scale=1.0, u=drive_u, source=drive)
    light_u = root_sum_square(
        [
            seen.standard_uncertainty,
            # Defocus in waves goes with z NA^2 / wavelength, and NA / wavelength is
            # seen in cycles per pixel.
            2 * config.optics.pixel_tolerance / math.sqrt(3),
            WAVELENGTH_TOLERANCE / math.sqrt(3),
        ]
    )
    light = (
        f"defocus in wavelengths, {seen.value:.3f} um for one of the drive's (step "
        f"optics; pixel_um to {config.optics.pixel_tolerance:.0%}, wavelengths to "
        f"{WAVELENGTH_TOLERANCE:.0%})"
    )
    if abs(seen.value - 1) > _DISAGREE * math.hypot(light_u, drive_u):
        return ZLength(scale=seen.value, u=light_u, source=light)
    share = drive_u**2 / (drive_u**2 + light_u**2)
    return ZLength(
        scale=1 + share * (seen.value - 1),
        u=light_u * math.sqrt(share),
        source=f"{drive}, and {light}, weighted by their uncertainties",
    )
