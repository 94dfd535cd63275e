"""Calibration step `optics`: NA, aberration, light and colour shift from a z-stack.

A stack of its own, through the focus found before; `optics_fit` finds the optics under
which it is most likely, `offset_readout` how well pairs read their focal offset then.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from bifocus.calib.focus_search import optics_dof_um
from bifocus.calib.offset_readout import ReadoutFit, fit_readout
from bifocus.calib.optics_fit import OpticsFit, fit_optics
from bifocus.calib.optics_focus import measure_shift
from bifocus.calib.optics_report import (
    optics_pictures,
    optics_plots,
    optics_values,
    optics_warnings,
    readout_plot,
)
from bifocus.calib.optics_stack import OpticsStack, take_optics_stack
from bifocus.calib.stack_evidence import (
    StackLayout,
    gather_evidence,
    plan_blocks,
)
from bifocus.calib.step_result import Bench, StepResult
from bifocus.calibrated_optics import CalibratedOptics
from bifocus.errors import CalibrationError
from bifocus.focal_offset import PairOptics

Float64 = npt.NDArray[np.float64]

# A fitted NA further off the file's is another objective's.
_NA_REFUSED = 0.25
# A stage, or a pixel size, further off than the range of real ones.
_SCALE_REFUSED = 0.2


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
    stack = take_optics_stack(bench, before["focus"])
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
