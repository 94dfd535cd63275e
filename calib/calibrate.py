"""The calibration procedure: from an open instrument to its profile.

Steps: find a tile with texture and its focus (coarse, then fine stacks); look at places
all over the region at that focus for clear glass, and fit the lamp's falloff to it.
"""

import hashlib
import logging
from collections.abc import Iterator
from datetime import datetime, timezone

from bifocus import __version__
from bifocus.calib.flat_field import fit_flat_field
from bifocus.calib.focus_search import FocusSearch, find_focus
from bifocus.calib.zstack import check_targets
from bifocus.config import Instrument
from bifocus.errors import BlankSlideError, CalibrationError
from bifocus.hal.devices import Camera, Stage
from bifocus.records import (
    FlatField,
    FloatImage,
    InstrumentProfile,
    Measured,
    StagePosition,
)
from bifocus.tone import decode

logger = logging.getLogger(__name__)

# Places tried for the first tile, as fractions of the region: its middle, then around.
_PLACES = (
    *((0.5, 0.5), (0.35, 0.35), (0.65, 0.65), (0.65, 0.35), (0.35, 0.65)),
    *((0.2, 0.5), (0.8, 0.5), (0.5, 0.2), (0.5, 0.8)),
)
# Glass is looked for on a grid of so many places over the region.
_GLASS_PLACES = 4

Region = tuple[float, float, float, float]


def calibrate(
    stage: Stage, camera: Camera, config: Instrument, region_um: Region
) -> InstrumentProfile:
    """Calibrate an open instrument.

    Parameters
    ----------
    stage, camera
        Open devices; the stage moves within the region and the search range in z.
    config
        The instrument file.
    region_um
        x, y of the top-left corner, width and height, in stage micrometres.

    Returns
    -------
    InstrumentProfile
        Bound to the identities that the devices report.

    Raises
    ------
    OutOfTravelError
        If the region lies outside the stage's travel; nothing has moved.
    BlankSlideError
        If no place of the region has texture.
    CalibrationError
        If there is texture, but no focus could be found.
    """
    _check_region(stage, region_um)
    camera.configure(exposure_s=config.camera.exposure_s)
    search = _find_first_tile(stage, camera, config, region_um)
    focus_um = search.focus_um
    logger.info(
        "focus %.2f um, u %.2f um", focus_um.value, focus_um.standard_uncertainty
    )
    flat_field = _measure_flat_field(stage, camera, config, region_um, focus_um.value)
    digest = hashlib.sha256()
    for stack in (search.coarse, *search.fine):
        digest.update(bytes.fromhex(stack.digest))
    return InstrumentProfile(
        identity=read_identity(stage, camera, config),
        created_utc=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        software_version=__version__,
        raw_sha256=digest.hexdigest(),
        focus_um=focus_um,
        focus_x_um=search.coarse.x_um,
        focus_y_um=search.coarse.y_um,
        half_spacing_um=_half_spacing(config, search),
        flat_field=flat_field,
        simulated=stage.capabilities.simulated or camera.capabilities.simulated,
        curve={
            "z_um": [round(float(z), 4) for z in search.fine[-1].z_um],
            "sharpness": [round(float(s), 4) for s in search.fine[-1].sharpness],
        },
    )


def read_identity(stage: Stage, camera: Camera, config: Instrument) -> dict[str, str]:
    """Return what binds a profile to this instrument: its parts and its optics."""
    seen = camera.capabilities
    return {
        "instrument": config.name,
        "stage": stage.capabilities.identity,
        "camera": seen.identity,
        "image": f"{seen.width_px}x{seen.height_px} px of {config.optics.pixel_um} um",
        "objective": f"{config.optics.objective}, NA {config.optics.na}",
    }


def _find_first_tile(
    stage: Stage, camera: Camera, config: Instrument, region_um: Region
) -> FocusSearch:
    failures: list[str] = []
    n_blank = 0
    for x_um, y_um in _places(region_um):
        try:
            return find_focus(
                stage,
                camera,
                config.optics,
                config.calibration,
                x_um=x_um,
                y_um=y_um,
            )
        except (BlankSlideError, CalibrationError) as error:
            logger.info("%s; trying the next place", error)
            failures.append(str(error))
            n_blank += isinstance(error, BlankSlideError)
    if n_blank == len(failures):
        msg = (
            f"no tissue at {n_blank} places of the region "
            f"{tuple(round(v, 1) for v in region_um)} um; check the slide, the light "
            "and the region"
        )
        raise BlankSlideError(msg)
    msg = (
        f"no focus at {len(failures)} places of the region, {n_blank} of them clear "
        f"glass; the last: {failures[-1]}. Set calibration.z_start_um to within "
        "some um of the focus"
    )
    raise CalibrationError(msg)


def _check_region(stage: Stage, region_um: Region) -> None:
    """Refuse a region whose places the stage cannot all reach."""
    z_um = stage.position().z_um
    places = (*_places(region_um), *_glass_places(region_um))
    check_targets(
        stage, [StagePosition(x_um=x_um, y_um=y_um, z_um=z_um) for x_um, y_um in places]
    )


def _places(region_um: Region) -> Iterator[tuple[float, float]]:
    x_um, y_um, width_um, height_um = region_um
    for across, down in _PLACES:
        yield x_um + across * width_um, y_um + down * height_um


def _measure_flat_field(
    stage: Stage,
    camera: Camera,
    config: Instrument,
    region_um: Region,
    focus_um: float,
) -> FlatField | None:
    frames: list[FloatImage] = []
    for x_um, y_um in _glass_places(region_um):
        target = StagePosition(x_um=x_um, y_um=y_um, z_um=focus_um)
        frame = camera.grab(after=stage.move_to(target))
        frames.append(decode(frame.pixels, config.optics.tone_curve))
    fit = fit_flat_field(frames)
    if fit is None:
        logger.warning("too little clear glass in the region: no flat field measured")
    else:
        logger.info("flat field from %.0f %% glass", 100 * fit.glass_fraction)
    return fit


def _glass_places(region_um: Region) -> Iterator[tuple[float, float]]:
    """Yield places on a grid over the region, in a serpentine."""
    x_um, y_um, width_um, height_um = region_um
    steps = [(number + 0.5) / _GLASS_PLACES for number in range(_GLASS_PLACES)]
    for number, down in enumerate(steps):
        for across in steps if number % 2 == 0 else steps[::-1]:
            yield x_um + across * width_um, y_um + down * height_um


def _half_spacing(config: Instrument, search: FocusSearch) -> Measured:
    """Take dD from the instrument file; its scatter is that of one Z move's return."""
    return Measured(
        value=config.scan.half_spacing_um,
        standard_uncertainty=search.focus_um.standard_uncertainty,
        method="set in the instrument file; scatter from the repeated stacks",
    )
