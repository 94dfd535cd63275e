"""Half-spacing in true micrometres, and which length along z it rests on. Pure.

Two sources, both named: the drive's own micrometre, trusted to `calibration.
z_tolerance`; and the wavelength of the light, by which defocus is measured in the step
`optics`, as far as `optics.wavelengths_um` and `pixel_um` are true. Their mean counts,
weighted by what each is uncertain by. Where they disagree, nothing here tells which is
wrong: u grows by Birge's ratio (R. T. Birge, Phys. Rev. 40 (1932) 207), so that it
covers both.
"""

import math
from dataclasses import dataclass

from bifocus.calib.spacing_pairs import Pairs
from bifocus.calib.spacing_ruler import SharpnessRuler
from bifocus.calib.uncertainty import limits_u, root_sum_square
from bifocus.config import Instrument
from bifocus.records import Measured

# The mean wavelength of a colour: LEDs are sorted to some nm, and sensors see them
# through filters as wide as they are.
WAVELENGTH_TOLERANCE = 0.02


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
    share = drive_u**2 / (drive_u**2 + light_u**2)
    birge = abs(seen.value - 1) / math.hypot(light_u, drive_u)
    return ZLength(
        scale=1 + share * (seen.value - 1),
        u=light_u * math.sqrt(share) * max(1.0, birge),
        source=f"{drive}, and {light}, weighted by their uncertainties",
    )


def spacing_values(
    pairs: Pairs,
    ruler: SharpnessRuler,
    length: ZLength,
    commanded_um: float,
    choice: str,
) -> tuple[dict[str, Measured], dict[str, float]]:
    """Return dD as commanded, as the stage counts it, and true; and the budget.

    `choice` says how the commanded one was chosen.
    """
    miss, scale = pairs.miss_um, length.scale
    miss_um = float(miss.coefficients[0])
    stage_um = commanded_um + miss_um
    # The ruler serves for a difference only: of its error that share counts.
    ends_um = [ruler.u_um(sign * commanded_um) for sign in (-1, 1)]
    share = min(abs(miss_um) / commanded_um, 1.0)
    parts_um = {
        "scatter of the pairs": float(miss.u[0]),
        "ruler": share * root_sum_square(ends_um) / 2,
    }
    budget_um = {name: scale * part_um for name, part_um in parts_um.items()}
    budget_um["z scale"] = length.u * stage_um
    how = (
        f"{pairs.half_um.size} pairs shot as in a scan, against the same heights "
        "come up to from far below, by their sharpness"
    )
    values = {
        "half_spacing_um": Measured(
            value=scale * stage_um,
            standard_uncertainty=root_sum_square(list(budget_um.values())),
            method=f"{how}; {length.source}",
        ),
        "half_spacing_stage_um": Measured(
            value=stage_um,
            standard_uncertainty=root_sum_square(list(parts_um.values())),
            method=f"{how}; in the z drive's own um",
        ),
        "half_spacing_commanded_um": Measured(
            value=commanded_um,
            standard_uncertainty=0.0,
            method=f"{choice}, in whole motor steps",
        ),
    }
    return values, budget_um
