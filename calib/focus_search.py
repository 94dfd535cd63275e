"""Find the focus of one place: coarse stack, then repeated fine stacks.

Procedure (the paper's first step): away from the sample first; coarse planes over the
search range, two depths of field apart; an edge peak extends the range, twice at most;
then fine planes, a third of a depth of field apart, over four depths of field to both
sides of the peak, repeated. All stacks run upward and begin where the coarse one did,
so that any play that it closed is closed again.
"""

import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bifocus.calib.focus_estimate import FocusEstimate, estimate_focus
from bifocus.calib.zstack import (
    ZStack,
    check_light,
    check_targets,
    plan_planes,
    take_stack,
)
from bifocus.config import Calibration, Optics
from bifocus.errors import BlankSlideError, CalibrationError
from bifocus.focus_curve import check_stack, fit_focus, fit_gaussian_top
from bifocus.hal.devices import Camera, Stage
from bifocus.optics import Objective, depth_of_field_um
from bifocus.records import Measured, StagePosition

logger = logging.getLogger(__name__)

Float64 = npt.NDArray[np.float64]
Place = tuple[float, float]

_EXTENSIONS = 2
_COARSE_STEP_DOF = 2.0
_LEAST_COARSE_PLANES = 9
_FINE_STEP_DOF = 1 / 3
_FINE_HALF_RANGE_DOF = 4.0
# A curve whose peak stands out less than this of its low end shows no change with z.
_EVEN = 1.1
_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """Where one stack is sharpest by both estimators, and when it passed there."""

    focus_um: float
    gaussian_um: float
    sigma_um: float
    time_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FocusSearch:
    """The focus of one place, with every stack that led to it."""

    focus_um: Measured
    estimate: FocusEstimate
    coarse: ZStack
    fine: tuple[ZStack, ...]
    peaks: tuple[Peak, ...]
    step_um: float
    dof_um: float


def optics_dof_um(optics: Optics) -> float:
    """Return the depth of field of the instrument's green light."""
    objective = Objective(
        na=optics.na,
        wavelength_um=optics.wavelengths_um[1],
        refractive_index=optics.refractive_index,
    )
    return depth_of_field_um(objective, optics.pixel_um)


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
        If the light is off, saturated or unsteady, if the curve is flat or has two
        peaks, or if no peak lies within the range.
    """
    dof_um = optics_dof_um(optics)
    place = (x_um, y_um)
    # Wherever the power came on: below what approaches need, a board may well start.
    z_um = _clamped(stage.position().z_um, stage.limits.z_um)
    check_targets(stage, [StagePosition(x_um=x_um, y_um=y_um, z_um=z_um)])
    start_um = settings.z_start_um
    if start_um is None:
        start_um = stage.position().z_um
    coarse = _search_coarse(stage, camera, settings, dof_um, place, start_um)
    centre_um = fit_focus(coarse.z_um, coarse.sharpness).focus_um
    motor_um = stage.capabilities.resolution_um.z_um
    step_um = settings.fine_step_um or _FINE_STEP_DOF * dof_um
    step_um = max(round(step_um / motor_um), 1) * motor_um
    fine, peaks = [], []
    for number in range(settings.repeats):
        shift_um = round(plane_phase(number) * step_um / motor_um) * motor_um
        stack = take_fine(
            stage,
            camera,
            place,
            (centre_um + shift_um, _FINE_HALF_RANGE_DOF * dof_um, step_um),
            start_um=float(coarse.z_um[0]),
            keep_thumbnails=number == settings.repeats - 1,
        )
        peak = measure_peak(stack)
        centre_um = peak.focus_um
        fine.append(stack)
        peaks.append(peak)
    estimate = estimate_focus(
        np.array([peak.focus_um for peak in peaks]),
        np.array([peak.time_s for peak in peaks]),
        np.array([peak.gaussian_um for peak in peaks]),
        plane_um=step_um,
        motor_step_um=motor_um,
    )
    return FocusSearch(
        focus_um=_as_measured(estimate, step_um, len(peaks)),
        estimate=estimate,
        coarse=coarse,
        fine=tuple(fine),
        peaks=tuple(peaks),
        step_um=step_um,
        dof_um=dof_um,
    )


def plane_phase(number: int) -> float:
    """Return by which share of their distance the planes of a stack are shifted.

    Another one for each stack, so that the error of interpolation scatters, and in no
    order (the golden ratio), so that it is not taken for a drift.
    """
    return number * _GOLDEN % 1


def measure_peak(stack: ZStack) -> Peak:
    """Return the peak of a fine stack by both estimators.

    Raises
    ------
    CalibrationError
        If the light cannot be trusted, or the stack does not show one focus inside.
    """
    where = _where(stack.x_um, stack.y_um)
    check_light(stack, where)
    fit = fit_focus(stack.z_um, stack.sharpness)
    check_stack(fit, stack.texture, where)
    if not fit.is_peak_inside:
        msg = (
            f"{where}: the fine stack peaks at its edge, {fit.focus_um:.2f} um: either "
            "the coarse peak was a false one far from focus (set "
            "calibration.z_start_um nearer to it), or the stage does not return to "
            "where the coarse stack was (slipping, or a hand on the knob?)"
        )
        raise CalibrationError(msg)
    top = fit_gaussian_top(stack.z_um, stack.sharpness)
    return Peak(
        focus_um=fit.focus_um,
        gaussian_um=top.focus_um,
        sigma_um=top.sigma_um,
        time_s=float(np.interp(fit.focus_um, stack.z_um, stack.time_s)),
    )


def _search_coarse(
    stage: Stage,
    camera: Camera,
    settings: Calibration,
    dof_um: float,
    place: Place,
    centre_um: float,
) -> ZStack:
    half_um = max(settings.coarse_range_um / 2, _COARSE_STEP_DOF * dof_um)
    step_um = settings.coarse_step_um or min(
        _COARSE_STEP_DOF * dof_um, 2 * half_um / (_LEAST_COARSE_PLANES - 1)
    )
    where, is_flat = _where(*place), False
    _go_away(stage, place, centre_um + half_um)
    for _ in range(_EXTENSIONS + 1):
        planes = _planes_about(stage, centre_um, half_um, step_um)
        if planes.size < 5:
            break
        stack = take_stack(stage, camera, *place, planes)
        check_light(stack, where)
        if stack.is_blank:
            msg = f"{where}: clear glass from {planes[0]:.1f} to {planes[-1]:.1f} um"
            raise BlankSlideError(msg)
        fit = fit_focus(stack.z_um, stack.sharpness)
        if fit.is_peak_inside:
            check_stack(fit, stack.texture, where)
            return stack
        is_flat = fit.prominence < _EVEN
        logger.info("%s: the peak lies at the edge, %.1f um", where, fit.focus_um)
        # Two planes stay on the far side of the edge, lest the next one be an edge too.
        beyond_um = half_um - 2 * step_um
        centre_um = fit.focus_um + (beyond_um if fit.best_index else -beyond_um)
    if is_flat:
        msg = (
            f"{where}: the focus curve is flat: the picture hardly changes from "
            f"{planes[0]:.1f} to {planes[-1]:.1f} um; does the z axis move, and is its "
            "play smaller than calibration.coarse_range_um? Else widen the range"
        )
        raise CalibrationError(msg)
    msg = (
        f"{where}: no focus between {planes[0]:.1f} and {planes[-1]:.1f} um after "
        f"{_EXTENSIONS} extensions; set calibration.z_start_um nearer to the focus, or "
        "widen calibration.coarse_range_um"
    )
    raise CalibrationError(msg)


def _go_away(stage: Stage, place: Place, top_um: float) -> None:
    """Go up and away from the sample, then across, before anything comes near it."""
    here = stage.position()
    limits = stage.limits
    away_um = max(_clamped(top_um, limits.z_um), _clamped(here.z_um, limits.z_um))
    across = _clamped(here.x_um, limits.x_um), _clamped(here.y_um, limits.y_um)
    for x_um, y_um in (across, place):
        stage.move_to(StagePosition(x_um=x_um, y_um=y_um, z_um=away_um))


def take_fine(
    stage: Stage,
    camera: Camera,
    place: Place,
    planes: tuple[float, float, float],
    *,
    start_um: float,
    keep_thumbnails: bool = False,
) -> ZStack:
    """Take an upward stack, coming up from `start_um` or lower.

    `planes` are their centre, half their range, and their distance.
    """
    z_um = _planes_about(stage, *planes)
    start_um = min(start_um, float(z_um[0]))
    x_um, y_um = place
    stage.move_to(StagePosition(x_um=x_um, y_um=y_um, z_um=start_um))
    return take_stack(stage, camera, x_um, y_um, z_um, keep_thumbnails=keep_thumbnails)


def _planes_about(
    stage: Stage, centre_um: float, half_um: float, step_um: float
) -> Float64:
    """Return ascending planes about a centre, as far as the travel goes."""
    low_um, high_um = (
        _clamped(end_um, stage.limits.z_um)
        for end_um in (centre_um - half_um, centre_um + half_um)
    )
    planes = plan_planes(low_um, high_um, step_um)
    return planes[planes <= stage.limits.z_um[1]]


def _clamped(value_um: float, ends_um: tuple[float, float]) -> float:
    return min(max(value_um, ends_um[0]), ends_um[1])


def _as_measured(estimate: FocusEstimate, step_um: float, count: int) -> Measured:
    return Measured(
        value=estimate.focus_um,
        standard_uncertainty=estimate.u_um,
        method=(
            f"sharpest plane of green (Brenner), 3-point log-parabola, {count} upward "
            f"stacks of {step_um:.3f} um steps, drift taken off"
        ),
    )


def _where(x_um: float, y_um: float) -> str:
    return f"z-stack at x {x_um:.1f}, y {y_um:.1f} um"
