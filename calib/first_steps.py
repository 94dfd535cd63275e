"""The first form of two steps: illumination and spacing."""

import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict

from bifocus.calib.flat_field import fit_flat_field
from bifocus.calib.step_result import Bench, Region, StepResult
from bifocus.records import FloatImage, Measured, StagePosition
from bifocus.tone import decode

logger = logging.getLogger(__name__)

# Glass is looked for on a grid of so many places over the region.
_GLASS_PLACES = 4


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


def _glass_places(region_um: Region) -> Iterator[tuple[float, float]]:
    """Yield places on a grid over the region, in a serpentine."""
    x_um, y_um, width_um, height_um = region_um
    steps = [(number + 0.5) / _GLASS_PLACES for number in range(_GLASS_PLACES)]
    for number, down in enumerate(steps):
        for across in steps if number % 2 == 0 else steps[::-1]:
            yield x_um + across * width_um, y_um + down * height_um
