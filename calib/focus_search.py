"""Find the focus of one place: coarse stack, then repeated fine stacks.

Procedure (the paper's first step): coarse planes over the search range, two depths of
field apart; an edge peak extends the range, twice at most; then fine planes, a third
of a depth of field apart, around the coarse peak, repeated. All stacks run upward.
"""

import logging
from dataclasses import dataclass

import numpy as np

from bifocus.calib.zstack import ZStack, plan_planes, take_stack
from bifocus.config import Calibration, Optics
from bifocus.errors import BlankSlideError, CalibrationError
from bifocus.focus_curve import FocusFit, check_stack, fit_focus
from bifocus.hal.devices import Camera, Stage
from bifocus.optics import Objective, depth_of_field_um
from bifocus.records import Measured

logger = logging.getLogger(__name__)

_EXTENSIONS = 2
_COARSE_STEP_DOF = 2.0
_FINE_STEP_DOF = 1 / 3
_FINE_HALF_RANGE_DOF = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FocusSearch:
    """The focus of one place, with every stack that led to it."""

    focus_um: Measured
    coarse: ZStack
    fine: tuple[ZStack, ...]


def find_focus(
    stage: Stage,
    camera: Camera,
    optics: Optics,
    settings: Calibration,
    *,
    x_um: float,
    y_um: float,
) -> FocusSearch:
    """Return the best focus at one place, with its standard uncertainty.

    Raises
    ------
    BlankSlideError
        If the place shows clear glass, in and out of focus.
    CalibrationError
        If the curve is flat, or no peak lies within the range.
    """
    objective = Objective(
        na=optics.na,
        wavelength_um=optics.wavelengths_um[1],
        refractive_index=optics.refractive_index,
    )
    dof_um = depth_of_field_um(objective, optics.pixel_um)
    start_um = settings.z_start_um
    if start_um is None:
        start_um = stage.position().z_um
    coarse = _search_coarse(stage, camera, settings, dof_um, (x_um, y_um, start_um))
    peak_um = fit_focus(coarse.z_um, coarse.sharpness).focus_um
    step_um = settings.fine_step_um or _FINE_STEP_DOF * dof_um
    half_um = _FINE_HALF_RANGE_DOF * dof_um
    fine = []
    for _ in range(settings.repeats):
        low_um, high_um = _within(stage, peak_um - half_um, peak_um + half_um)
        planes = plan_planes(low_um, high_um - step_um, step_um)
        fine.append(take_stack(stage, camera, x_um, y_um, planes))
    fits = [_checked_fit(stack) for stack in fine]
    return FocusSearch(
        focus_um=_combine(fits, step_um), coarse=coarse, fine=tuple(fine)
    )


def _search_coarse(
    stage: Stage,
    camera: Camera,
    settings: Calibration,
    dof_um: float,
    start: tuple[float, float, float],
) -> ZStack:
    x_um, y_um, centre_um = start
    step_um = settings.coarse_step_um or _COARSE_STEP_DOF * dof_um
    half_um = settings.coarse_range_um / 2
    where = _where(x_um, y_um)
    for _ in range(_EXTENSIONS + 1):
        low_um, high_um = _within(stage, centre_um - half_um, centre_um + half_um)
        planes = plan_planes(low_um, high_um - step_um, step_um)
        if planes.size < 5:
            break
        stack = take_stack(stage, camera, x_um, y_um, planes)
        if stack.is_blank:
            msg = f"{where}: clear glass from {planes[0]:.1f} to {planes[-1]:.1f} um"
            raise BlankSlideError(msg)
        fit = fit_focus(stack.z_um, stack.sharpness)
        check_stack(fit, stack.texture, where)
        if fit.is_peak_inside:
            return stack
        logger.info("%s: the peak lies at the edge, %.1f um", where, fit.focus_um)
        centre_um = fit.focus_um + (half_um if fit.best_index else -half_um) * 0.8
    msg = (
        f"{where}: no focus between {planes[0]:.1f} and {planes[-1]:.1f} um after "
        f"{_EXTENSIONS} extensions; set calibration.z_start_um nearer to the focus, or "
        "widen calibration.coarse_range_um"
    )
    raise CalibrationError(msg)


def _within(stage: Stage, low_um: float, high_um: float) -> tuple[float, float]:
    bottom_um, top_um = stage.limits.z_um
    return max(low_um, bottom_um), min(high_um, top_um)


def _checked_fit(stack: ZStack) -> FocusFit:
    where = _where(stack.x_um, stack.y_um)
    fit = fit_focus(stack.z_um, stack.sharpness)
    check_stack(fit, stack.texture, where)
    if not fit.is_peak_inside:
        msg = (
            f"{where}: the fine stack peaks at its edge, {fit.focus_um:.2f} um: either "
            "the coarse peak was a false one far from focus (set "
            "calibration.z_start_um nearer to it), or the stage does not return to "
            "where the coarse stack was (backlash over take_up_um, slipping?)"
        )
        raise CalibrationError(msg)
    return fit


def _combine(fits: list[FocusFit], step_um: float) -> Measured:
    """Mean of the repeats; type-A uncertainty, never below a twentieth of a step."""
    positions = np.array([fit.focus_um for fit in fits])
    spread_um = float(positions.std(ddof=1)) if positions.size > 1 else step_um / 4
    return Measured(
        value=float(positions.mean()),
        standard_uncertainty=max(spread_um / positions.size**0.5, step_um / 20),
        method=(
            f"3-point log-parabola on Brenner's gradient, {positions.size} upward "
            f"stacks of {step_um:.3f} um steps"
        ),
    )


def _where(x_um: float, y_um: float) -> str:
    return f"z-stack at x {x_um:.1f}, y {y_um:.1f} um"
