"""Calibration step `optics`: NA, aberration, light and colour shift from a z-stack.

A stack of its own, through the focus found before; `optics_fit` finds the optics under
which it is most likely, `offset_readout` how well pairs read their focal offset then.
"""

import hashlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from bifocus.blank_field import is_blank_field
from bifocus.calib.focus_search import optics_dof_um
from bifocus.calib.offset_readout import LEAST_PAIRS, ReadoutFit, fit_readout
from bifocus.calib.optics_fit import OpticsFit, fit_optics
from bifocus.calib.optics_focus import measure_shift
from bifocus.calib.optics_report import (
    OpticsStack,
    optics_pictures,
    optics_plots,
    optics_values,
    optics_warnings,
    readout_plot,
)
from bifocus.calib.stack_evidence import (
    LEAST_SIDE_PX,
    StackLayout,
    gather_evidence,
    plan_blocks,
)
from bifocus.calib.step_result import Bench, StepResult
from bifocus.calib.zstack import check_targets
from bifocus.calibrated_optics import CalibratedOptics
from bifocus.errors import BlankSlideError, CalibrationError
from bifocus.focal_offset import PairOptics
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
# A fitted NA further off the file's is another objective's.
_NA_REFUSED = 0.25
# A stage, or a pixel size, further off than the range of real ones.
_SCALE_REFUSED = 0.2
_CROP_PX = 512


def measure_optics(bench: Bench, before: Mapping[str, StepResult]) -> StepResult:
    """Measure the instrument's optics; see `step_result.Step`.

    Raises
    ------
    BlankSlideError
        If the place shows no texture.
    CalibrationError
        If the stack cannot reach both sides of focus, or no optics near the file's
        explain it.
    """
    if "focus" not in before:
        msg = "the optics are measured at the focus: run the step `focus` first"
        raise CalibrationError(msg)
    stack = _take_stack(bench, before["focus"])
    optics = bench.config.optics
    layout = plan_blocks(stack.planes[int(np.argmax(stack.sharpness))])
    evidence = gather_evidence(
        stack.planes,
        stack.z_um,
        tone_curve=optics.tone_curve,
        shifts_px=stack.shifts_px,
        layout=layout,
    )
    fit = fit_optics(evidence, optics)
    _check_fit(bench, fit, stack)
    pair_optics = PairOptics(
        na=fit.values["na"],
        pixel_um=optics.pixel_um,
        half_spacing_um=float(stack.z_um[stack.apart] - stack.z_um[0]) / 2,
        wavelengths_um=optics.wavelengths_um,
        refractive_index=optics.refractive_index,
        light=fit.light,
        chromatic_um=fit.chromatic_um,
        z_scale=fit.values["z_scale"],
        is_measured=True,
    )
    readout = fit_readout(
        stack.planes,
        fit.plane_um,
        fit.focus_um,
        # Pairs weight the blocks otherwise than the fit does: relief is doubt of F.
        fit.focus_spread_um,
        apart=stack.apart,
        optics=pair_optics,
        tone_curve=optics.tone_curve,
    )
    return _describe(bench, before["focus"], stack, layout, fit, readout)


def _take_stack(bench: Bench, focus: StepResult) -> OpticsStack:
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


def _check_fit(bench: Bench, fit: OpticsFit, stack: OpticsStack) -> None:
    """Refuse optics that are not the file's, and a stack that has lost the focus."""
    nominal, na = bench.config.optics.na, fit.values["na"]
    scale = fit.values["z_scale"]
    if abs(na / nominal - 1) > _NA_REFUSED or abs(scale - 1) > _SCALE_REFUSED:
        msg = (
            f"wrong objective? The stack fits NA {na:.3f} with {scale:.2f} um of focus "
            f"for each um of the stage, the file says NA {nominal} and pixel_um "
            f"{bench.config.optics.pixel_um}; check optics.objective, na, pixel_um "
            "and wavelengths_um, and the stage's steps per micrometre"
        )
        raise CalibrationError(msg)
    inside = stack.z_um[0] < fit.focus_um < stack.z_um[-1]
    if not inside:
        msg = (
            f"the stack from {stack.z_um[0]:.1f} to {stack.z_um[-1]:.1f} um does not "
            "hold the focus any more: drift, or backlash over take_up_um? Run the "
            "step `focus` again"
        )
        raise CalibrationError(msg)


def _describe(
    bench: Bench,
    focus: StepResult,
    stack: OpticsStack,
    layout: StackLayout,
    fit: OpticsFit,
    readout: ReadoutFit,
) -> StepResult:
    calibrated = CalibratedOptics(
        na=fit.values["na"],
        light=fit.light,
        chromatic_um=fit.chromatic_um,
        z_scale=fit.values["z_scale"],
        readout=readout.readout,
    )
    dof_um = optics_dof_um(bench.config.optics)
    return StepResult(
        name="optics",
        values={
            **optics_values(bench.config.optics, stack, fit, readout),
            "focus_shift_um": measure_shift(
                stack.planes[int(np.argmax(stack.sharpness))],
                fit,
                bench.config.optics.pixel_um,
            ),
        },
        facts={
            "calibrated_optics": calibrated.to_dict(),
            "light": calibrated.to_dict()["light"],
            "by_channel": {
                name: {"na": round(float(na), 4), "spherical_waves": round(float(w), 4)}
                for name, (na, w) in zip("rgb", fit.by_colour, strict=True)
            },
            "focus_um": fit.focus_um,
            "focus_um_of_sharpness": focus.values["focus_um"].value,
            "plane_scatter_um": round(fit.scatter_um, 4),
            "partially_coherent_gain_nats": round(fit.gain_nats, 1),
            "offset_sd_ratio": round(readout.sd_ratio, 3),
            "offset_range_um": round(readout.readout.range_um, 3),
            "planes": len(stack.planes),
            "blocks": len(layout.corners_px),
        },
        plots=(
            *optics_plots(bench.config.optics, stack, fit),
            readout_plot(readout),
        ),
        pictures=optics_pictures(stack, fit.focus_um, dof_um),
        warnings=tuple(optics_warnings(bench.config.optics, fit, readout)),
        raw_sha256=stack.digest,
    )
