"""The true values of what calibration measures, on a virtual instrument.

Under the keys of the measured values, and in their units, so that both can be laid side
by side.
"""

import numpy as np

from bifocus.config import Instrument
from bifocus.hal.virtual_truth import VirtualTruth
from bifocus.records import InstrumentProfile, StagePosition
from bifocus.stage_config import Mechanics, SerialStageConfig, VirtualStageConfig

_GRID = 5  # places along each side of the region for the plane of the slide
_EDGE = 0.1  # share of the region


def calibration_truth(
    truth: VirtualTruth,
    config: Instrument,
    profile: InstrumentProfile,
    region_um: tuple[float, float, float, float],
) -> dict[str, float]:
    """Return the truth of the main values of a profile.

    Parameters
    ----------
    truth
        The hidden side of the instrument, still open.
    config
        Its file, which says what mechanics and optics it plays.
    profile
        Tells where and when the focus was measured, and which dD was commanded.
    region_um
        Region over which the slide's tilt is meant, in stage um.

    Returns
    -------
    dict
        `focus_um` (see `VirtualTruth.commanded_focus_um`: of the tissue where the
        profile has told it from the sharpest plane), `focus_sharpest_um`,
        `half_spacing_um` (true um of half the way between the planes of a pair),
        `backlash_x_um`, `_y_um`, `_z_um` (commanded um), `pixel_um`, `scale_x`,
        `scale_y` (true um per commanded um),
        `rotation_mrad`, `tilt_mrad`, `tilt_x_mrad`, `tilt_y_mrad` (of the plane through
        the true best focus of fields over the region), `na`, `spherical_waves`,
        `condenser`, `z_scale` (true um per commanded um), `chromatic_r_um`, `_b_um`
        (commanded um), `dark_level`, `read_noise`
        and `gain_e_per_level` (see `Sensor.true_values`).
    """
    mechanics = find_mechanics(config)
    optics, hidden = config.optics, config.virtual_optics
    reference_s = profile.facts.get("focus", {}).get("reference_s")
    tilt_x_mrad, tilt_y_mrad = _tilt_mrad(truth, region_um)
    place = (profile.focus_x_um, profile.focus_y_um)
    sharpest_um = truth.commanded_focus_um(*place, reference_s)
    focus_um = sharpest_um
    if "focus_sharpest_um" in profile.values:
        focus_um = truth.commanded_focus_um(*place, reference_s, of="tissue")
    return {
        "focus_um": focus_um,
        "focus_sharpest_um": sharpest_um,
        "half_spacing_um": _half_spacing_um(truth, profile),
        "backlash_x_um": mechanics.backlash_um[0],
        "backlash_y_um": mechanics.backlash_um[1],
        "backlash_z_um": mechanics.backlash_um[2],
        "pixel_um": hidden.pixel_um or optics.pixel_um,
        "scale_x": mechanics.scale[0],
        "scale_y": mechanics.scale[1],
        "rotation_mrad": hidden.rotation_mrad,
        "tilt_mrad": float(np.hypot(tilt_x_mrad, tilt_y_mrad)),
        "tilt_x_mrad": tilt_x_mrad,
        "tilt_y_mrad": tilt_y_mrad,
        "na": hidden.na or optics.na,
        **_aberrations(config),
        **_light(truth),
    }


def _aberrations(config: Instrument) -> dict[str, float]:
    """Return what else the optics hide; heights are commanded, over green's focus."""
    hidden, slide = config.virtual_optics, config.virtual_slide
    z_scale = find_mechanics(config).scale[2]
    found = {"condenser": hidden.condenser or 1.0, "z_scale": z_scale}
    if slide is not None:
        red_um, green_um, blue_um = slide.chromatic_um
        found["chromatic_r_um"] = (red_um - green_um) / z_scale
        found["chromatic_b_um"] = (blue_um - green_um) / z_scale
        spherical_waves = hidden.spherical_waves
        if spherical_waves is None:
            spherical_waves = slide.spherical_waves
        found["spherical_waves"] = spherical_waves
    return found


def _light(truth: VirtualTruth) -> dict[str, float]:
    """Return the truth of the sensor; that of white is left out.

    The clear glass of a tissue picture is seldom perfectly clear: in the demo's 1.3 %
    darker in green and blue, which is what calibration finds.
    """
    values = truth.sensor.true_values()
    return {key: it for key, it in values.items() if not key.startswith("white_")}


def find_mechanics(config: Instrument) -> Mechanics:
    """Return what the stage of a virtual instrument truly does wrong."""
    stage = config.stage
    if isinstance(stage, VirtualStageConfig):
        return stage.mechanics
    if isinstance(stage, SerialStageConfig) and stage.virtual_firmware is not None:
        return stage.virtual_firmware.mechanics
    return Mechanics()


def _half_spacing_um(truth: VirtualTruth, profile: InstrumentProfile) -> float:
    commanded = profile.values.get("half_spacing_commanded_um", profile.half_spacing_um)
    low, high = (
        truth.glass_for(
            StagePosition(
                x_um=profile.focus_x_um,
                y_um=profile.focus_y_um,
                z_um=profile.focus_um.value + sign * commanded.value,
            )
        ).z_um
        for sign in (-1, 1)
    )
    return (high - low) / 2


def _tilt_mrad(
    truth: VirtualTruth, region_um: tuple[float, float, float, float]
) -> tuple[float, float]:
    """Return the slopes of the plane through the best focus, true um a true mm.

    Of fields, as a camera sees them: relief curves within one. Their middles keep off
    the region's edges, where fields would reach beyond it.
    """
    x_um, y_um, width_um, height_um = region_um
    shares = np.linspace(_EDGE, 1 - _EDGE, _GRID)
    places = [
        truth.glass_for(
            StagePosition(x_um=x_um + i * width_um, y_um=y_um + j * height_um, z_um=0)
        )
        for i in shares.tolist()
        for j in shares.tolist()
    ]
    heights_um = [truth.mean_focus_um(place.x_um, place.y_um) for place in places]
    columns = np.array([[1.0, place.x_um, place.y_um] for place in places])
    plane = np.linalg.lstsq(columns, np.array(heights_um), rcond=None)[0]
    return 1000 * float(plane[1]), 1000 * float(plane[2])
