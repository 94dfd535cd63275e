"""The z-stack of the step `optics`: planned, taken and registered."""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bifocus.blank_field import is_blank_field
from bifocus.calib.focus_search import optics_dof_um
from bifocus.calib.offset_readout import LEAST_PAIRS
from bifocus.calib.stack_evidence import LEAST_SIDE_PX
from bifocus.calib.step_result import Bench, StepResult
from bifocus.calib.zstack import check_targets
from bifocus.errors import BlankSlideError, CalibrationError
from bifocus.pair_alignment import estimate_shift_px
from bifocus.records import StagePosition, UInt8Image
from bifocus.sharpness import measure_sharpness
from bifocus.tone import decode

Float64 = npt.NDArray[np.float64]

# The stack reaches so many depths of field to both sides, in steps of about a third.
_REACH_DOF = 3.0
_STEP_DOF = 1 / 3
# Less than this to either side cannot tell aberration from a shifted focus.
_LEAST_REACH_DOF = 1.5
_CROP_PX = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class OpticsStack:
    """The planes of the step's stack, cut to the part that is looked at."""

    z_um: Float64
    planes: tuple[UInt8Image, ...]
    sharpness: Float64
    shifts_px: Float64
    apart: int
    digest: str


def take_optics_stack(bench: Bench, focus: StepResult) -> OpticsStack:
    """Take the stack at the place of the focus.

    Raises
    ------
    BlankSlideError
        If the place shows no texture.
    CalibrationError
        If the stack cannot reach both sides of focus, or the picture is too small.
    """
    z_um, apart = _plan_planes(bench, focus.values["focus_um"].value)
    x_um, y_um = float(focus.facts["x_um"]), float(focus.facts["y_um"])
    targets = [StagePosition(x_um=x_um, y_um=y_um, z_um=float(z)) for z in z_um]
    check_targets(bench.stage, targets)
    digest = hashlib.sha256()
    frames, heights_um = [], []
    for target in targets:
        frame = bench.camera.grab(after=bench.stage.move_to(target))
        digest.update(np.ascontiguousarray(frame.pixels).tobytes())
        frames.append(_middle(frame.pixels))
        heights_um.append(frame.pose.z_um)
    sharpness = np.array([measure_sharpness(pixels)[0] for pixels in frames])
    _check_picture(frames, x_um, y_um)
    return OpticsStack(
        z_um=np.array(heights_um),
        planes=tuple(frames),
        sharpness=sharpness,
        shifts_px=_chain_shifts(bench, frames, int(np.argmax(sharpness))),
        apart=apart,
        digest=digest.hexdigest(),
    )


def _plan_planes(bench: Bench, focus_um: float) -> tuple[Float64, int]:
    """Return heights to both sides of focus, and how many steps make 2 dD."""
    dof_um = optics_dof_um(bench.config.optics)
    spacing_um = 2 * bench.config.scan.half_spacing_um
    apart = max(1, round(spacing_um / (_STEP_DOF * dof_um)))
    step_um = spacing_um / apart
    bottom_um, top_um = bench.stage.limits.z_um
    reach_um = _REACH_DOF * dof_um
    low_um = max(focus_um - reach_um, bottom_um)
    high_um = min(focus_um + reach_um, top_um)
    below = int((focus_um - low_um) / step_um + 1e-6)
    above = int((high_um - focus_um) / step_um + 1e-6)
    least_um = _LEAST_REACH_DOF * dof_um
    if below * step_um < least_um or above * step_um < least_um:
        msg = (
            f"the stack reaches {below * step_um:.1f} um below the focus and "
            f"{above * step_um:.1f} um above, at least {least_um:.1f} um are needed on "
            f"both sides; the stage's z_um is {bottom_um:.1f} to {top_um:.1f} um: move "
            "the slide, or correct the limits in the instrument file"
        )
        raise CalibrationError(msg)
    planes = below + above + 1
    if planes - apart < LEAST_PAIRS:
        msg = (
            f"{planes} planes {step_um:.2f} um apart hold {max(planes - apart, 0)} "
            f"pairs of 2 dD = {spacing_um:.2f} um, {LEAST_PAIRS} are needed: lower "
            "scan.half_spacing_um, or widen the stage's z_um"
        )
        raise CalibrationError(msg)
    return focus_um + step_um * np.arange(-below, above + 1, dtype=np.float64), apart


def _middle(pixels: UInt8Image) -> UInt8Image:
    """Return a copy of the field's middle: enough for the fit."""
    rows, columns = (min(side, _CROP_PX) for side in pixels.shape[:2])
    top, left = (pixels.shape[0] - rows) // 2, (pixels.shape[1] - columns) // 2
    return np.array(pixels[top : top + rows, left : left + columns])


def _check_picture(frames: list[UInt8Image], x_um: float, y_um: float) -> None:
    where = f"optics stack at x {x_um:.1f}, y {y_um:.1f} um"
    if min(frames[0].shape[:2]) < LEAST_SIDE_PX:
        msg = (
            f"{where}: the picture is {frames[0].shape[1]}x{frames[0].shape[0]} px, "
            f"the optics need {LEAST_SIDE_PX} px on both sides; use more of the sensor"
        )
        raise CalibrationError(msg)
    if all(is_blank_field(pixels) for pixels in frames):
        msg = f"{where}: clear glass; choose a region with tissue (--region)"
        raise BlankSlideError(msg)


def _chain_shifts(bench: Bench, frames: list[UInt8Image], best: int) -> Float64:
    """Return by how much each plane must move to fit the sharpest, (planes, 2).

    Neighbours are compared, since planes far apart have contrasts turned over.
    """
    tone_curve = bench.config.optics.tone_curve
    shifts = np.zeros((len(frames), 2))
    for side in (range(best + 1, len(frames)), range(best - 1, -1, -1)):
        known = best
        near = decode(frames[best], tone_curve)
        for number in side:
            far = decode(frames[number], tone_curve)
            shifts[number] = shifts[known] + estimate_shift_px(near, far)
            near, known = far, number
    return shifts
