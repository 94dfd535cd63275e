"""Virtual instruments whose optics are not those of their files: named, and drawn."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from bifocus.calibrated_optics import CalibratedOptics
from bifocus.config import Instrument
from bifocus.transfer import Light

CALIBRATED_ON = "procedural:1100x1100"
HELD_OUT = "demo"
NA, PIXEL_UM, GREEN_UM = 0.75, 0.25, 0.53
# Sides in um at NA 0.75; they grow with the pixel.
_SIDES_UM = {CALIBRATED_ON: 137.5, HELD_OUT: 300.0}
_REGION_UM = 96.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hidden:
    """What an instrument truly is; `file_na` is what its file says of `na`.

    Lengths along z are true um; `z_scale` is true um in one of the stage's.
    """

    na: float = NA
    file_na: float = NA
    spherical_waves: float = 0.0
    condenser: float = 1.0
    phase_ratio: float = 0.0
    chromatic_um: tuple[float, float, float] = (0.0, 0.0, 0.0)
    z_scale: float = 1.0
    tilt_mrad: tuple[float, float] = (0.0, 0.0)
    backlash_um: float = 3.0
    repeatability_um: float = 0.02
    drift_um_per_hour: float = 0.0
    full_well_e: float = 10500.0

    @property
    def pixel_um(self) -> float:
        """A pixel that samples each NA alike."""
        return PIXEL_UM * NA / self.file_na

    @property
    def half_spacing_um(self) -> float:
        """Commanded dD: 0.75 um at NA 0.75, as much blur at any other."""
        return 0.75 * (NA / self.file_na) ** 2

    @property
    def region_um(self) -> tuple[float, float, float, float]:
        """Region of the slide that calibration may use."""
        half_um = _REGION_UM * self.pixel_um / PIXEL_UM
        return (-half_um, -half_um, 2 * half_um, 2 * half_um)

    @property
    def optics(self) -> CalibratedOptics:
        """What a perfect calibration would find."""
        red_um, green_um, blue_um = self.chromatic_um
        return CalibratedOptics(
            na=self.na,
            light=Light(
                condenser=self.condenser,
                phase_ratio=self.phase_ratio,
                spherical_waves=self.spherical_waves,
            ),
            chromatic_um=(
                (red_um - green_um) / self.z_scale,
                0.0,
                (blue_um - green_um) / self.z_scale,
            ),
            z_scale=self.z_scale,
        )


NAMED: dict[str, Hidden] = {
    "spherical +0.10": Hidden(spherical_waves=0.10),
    "spherical +0.25": Hidden(spherical_waves=0.25),
    "spherical -0.20": Hidden(spherical_waves=-0.20),
    "NA 0.68": Hidden(na=0.68),
    "NA 0.68, spherical +0.15": Hidden(na=0.68, spherical_waves=0.15),
    "condenser 0.6, phase 0.3": Hidden(condenser=0.6, phase_ratio=0.3),
    "condenser 0.7, phase 0.3, spherical +0.15": Hidden(
        condenser=0.7, phase_ratio=0.3, spherical_waves=0.15
    ),
    "spherical +0.15, colours +0.3 / -0.2 um": Hidden(
        spherical_waves=0.15, chromatic_um=(0.3, 0.0, -0.2)
    ),
    "ideal": Hidden(),
}


def draw_hidden(seed: int) -> Hidden:
    """Draw an instrument: NA, aberration, condenser, stage and noise; the file is true.

    Its file is wrong only where no file can be right: aberration, condenser, and a Z
    scale of up to 5 %.
    """
    rng = np.random.default_rng([seed, 0x0B5])
    na = float(rng.uniform(0.4, 0.95))
    condenser = float(rng.choice([0.6, 0.8, 1.0]))
    lean = float(rng.uniform(0, 5))
    angle = float(rng.uniform(0, 2 * np.pi))
    return Hidden(
        na=na,
        file_na=na,
        spherical_waves=float(rng.uniform(-0.25, 0.25)),
        condenser=condenser,
        phase_ratio=float(rng.uniform(0, 0.3)) if condenser < 1 else 0.0,
        z_scale=float(rng.uniform(0.95, 1.05)),
        tilt_mrad=(lean * float(np.cos(angle)), lean * float(np.sin(angle))),
        backlash_um=0.05 * float(rng.uniform(0, 120)),
        repeatability_um=float(rng.uniform(0, 0.05)),
        drift_um_per_hour=float(rng.uniform(-5, 5)),
        full_well_e=float(rng.uniform(8000, 20000)),
    )


def make_instrument(
    hidden: Hidden, tissue: str, seed: int, *, side_px: int = 512
) -> Instrument:
    """Return the instrument file, and in its virtual sections what it hides."""
    zoom = hidden.pixel_um / PIXEL_UM
    depth = (NA / hidden.file_na) ** 2  # depths of field in that of NA 0.75
    side_um = _SIDES_UM.get(tissue, 300.0) * zoom
    document: dict[str, Any] = {
        "version": 1,
        "name": "optics bench",
        "seed": seed,
        "clock": "virtual",
        "optics": {"na": hidden.file_na, "pixel_um": hidden.pixel_um},
        "stage": {
            "kind": "virtual",
            "x_um": (-2000.0, 2000.0),
            "y_um": (-2000.0, 2000.0),
            "z_um": (-100.0, 100.0),
            "speed_um_per_s": (2000.0, 2000.0, 500.0),
            "acceleration_um_per_s2": (20000.0, 20000.0, 5000.0),
            "step_um": (0.1, 0.1, 0.05),
            "take_up_um": (6.0, 6.0, 7.2),
            "mechanics": {
                "backlash_um": (5.0, 5.0, hidden.backlash_um),
                "repeatability_um": (0.1, 0.1, hidden.repeatability_um),
                "scale": (1.0, 1.0, hidden.z_scale),
                "z_drift_um_per_hour": hidden.drift_um_per_hour,
            },
        },
        "camera": {
            "kind": "virtual",
            "width_px": side_px,
            "height_px": side_px,
            "full_well_e": hidden.full_well_e,
        },
        "virtual_slide": {
            "tissue": tissue,
            "pixel_um": hidden.pixel_um,
            "x_um": -side_um,
            "y_um": -side_um,
            "tilt_mrad": hidden.tilt_mrad,
            "relief_um": 0.3,
            "relief_period_um": 150.0 * zoom,
            "chromatic_um": hidden.chromatic_um,
        },
        "virtual_optics": {
            "na": hidden.na,
            "spherical_waves": hidden.spherical_waves,
            "condenser": hidden.condenser if hidden.condenser < 1 else None,
            "phase_ratio": hidden.phase_ratio,
        },
        "calibration": {"z_start_um": -2.0, "coarse_range_um": 16.0 * depth},
        "scan": {"half_spacing_um": hidden.half_spacing_um},
    }
    return Instrument.model_validate(document)
