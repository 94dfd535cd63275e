"""The first form of three steps: focus, illumination, spacing; from one search."""

import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict

from bifocus.calib.flat_field import fit_flat_field
from bifocus.calib.focus_search import FocusSearch, find_focus
from bifocus.calib.step_result import Bench, Region, StepResult
from bifocus.errors import BlankSlideError, CalibrationError
from bifocus.records import FloatImage, Measured, StagePosition
from bifocus.tone import decode

logger = logging.getLogger(__name__)

# Places tried for the first tile, as fractions of the region: its middle, then around.
_PLACES = (
    *((0.5, 0.5), (0.35, 0.35), (0.65, 0.65), (0.65, 0.35), (0.35, 0.65)),
    *((0.2, 0.5), (0.8, 0.5), (0.5, 0.2), (0.5, 0.8)),
)
# Glass is looked for on a grid of so many places over the region.
_GLASS_PLACES = 4


def measure_focus(bench: Bench, before: Mapping[str, StepResult]) -> StepResult:
    """Find a place with texture, and its focus."""
    search = _find_first_tile(bench)
    digest = hashlib.sha256()
    for stack in (search.coarse, *search.fine):
        digest.update(bytes.fromhex(stack.digest))
    return StepResult(
        name="focus",
        values={"focus_um": search.focus_um},
        facts={
            "x_um": search.coarse.x_um,
            "y_um": search.coarse.y_um,
            "curve": {
                "z_um": [round(float(z), 4) for z in search.fine[-1].z_um],
                "sharpness": [round(float(s), 4) for s in search.fine[-1].sharpness],
            },
        },
        raw_sha256=digest.hexdigest(),
    )


def measure_illumination(bench: Bench, before: Mapping[str, StepResult]) -> StepResult:
    """Look at places over the region for clear glass; fit the lamp's falloff to it."""
    focus_um = before["focus"].values["focus_um"].value
    frames: list[FloatImage] = []
    digest = hashlib.sha256()
    for x_um, y_um in _glass_places(bench.region_um):
        target = StagePosition(x_um=x_um, y_um=y_um, z_um=focus_um)
        frame = bench.camera.grab(after=bench.stage.move_to(target))
        digest.update(frame.pixels.tobytes())
        frames.append(decode(frame.pixels, bench.config.optics.tone_curve))
    fit = fit_flat_field(frames)
    warnings: tuple[str, ...] = ()
    if fit is None:
        warnings = ("too little clear glass in the region: no flat field measured",)
        logger.warning(warnings[0])
    else:
        logger.info("flat field from %.0f %% glass", 100 * fit.glass_fraction)
    return StepResult(
        name="illumination",
        values={},
        facts={"flat_field": asdict(fit) if fit is not None else None},
        warnings=warnings,
        raw_sha256=digest.hexdigest(),
    )


def measure_spacing(bench: Bench, before: Mapping[str, StepResult]) -> StepResult:
    """Take dD from the instrument file; its scatter is that of one Z move's return."""
    half_spacing_um = Measured(
        value=bench.config.scan.half_spacing_um,
        standard_uncertainty=before["focus"].values["focus_um"].standard_uncertainty,
        method="set in the instrument file; scatter from the repeated stacks",
    )
    return StepResult(name="spacing", values={"half_spacing_um": half_spacing_um})


def _find_first_tile(bench: Bench) -> FocusSearch:
    failures: list[str] = []
    n_blank = 0
    for x_um, y_um in _places(bench.region_um):
        try:
            return find_focus(
                bench.stage,
                bench.camera,
                bench.config.optics,
                bench.config.calibration,
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
            f"{tuple(round(v, 1) for v in bench.region_um)} um; check the slide, the "
            "light and the region"
        )
        raise BlankSlideError(msg)
    msg = (
        f"no focus at {len(failures)} places of the region, {n_blank} of them clear "
        f"glass; the last: {failures[-1]}. Set calibration.z_start_um to within "
        "some um of the focus"
    )
    raise CalibrationError(msg)


def _places(region_um: Region) -> Iterator[tuple[float, float]]:
    x_um, y_um, width_um, height_um = region_um
    for across, down in _PLACES:
        yield x_um + across * width_um, y_um + down * height_um


def _glass_places(region_um: Region) -> Iterator[tuple[float, float]]:
    """Yield places on a grid over the region, in a serpentine."""
    x_um, y_um, width_um, height_um = region_um
    steps = [(number + 0.5) / _GLASS_PLACES for number in range(_GLASS_PLACES)]
    for number, down in enumerate(steps):
        for across in steps if number % 2 == 0 else steps[::-1]:
            yield x_um + across * width_um, y_um + down * height_um
