"""The daily minute: what a profile says is measured again, briefly, at its own place.

Four short stacks, from below and from above, give focus, play and the width of the
focus curve, which tells NA; shifts of the field along both axes give scale and rotation
of the camera. What cannot be measured is told with its reason, never left out.
"""

import itertools
import logging
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bifocus.calib.focus_search import optics_dof_um
from bifocus.calib.image_shift import check_shift, measure_shift
from bifocus.calib.preconditions import beside, check_light
from bifocus.calib.reversal import abba
from bifocus.calib.sight import AXES, Axis, Sight
from bifocus.calib.step_result import Bench
from bifocus.calib.uncertainty import root_sum_square, uniform_u
from bifocus.calib.zstack import ZStack, plan_planes, take_stack
from bifocus.errors import BlankSlideError, CalibrationError, OutOfTravelError
from bifocus.focus_curve import LEAST_TEXTURE, fit_focus, fit_gaussian_top
from bifocus.hal.devices import DirectStage
from bifocus.records import InstrumentProfile, Measured, StagePosition

logger = logging.getLogger(__name__)

Float64 = npt.NDArray[np.float64]

_STEP_DOF = 1 / 3
_HALF_RANGE_DOF = 2.0
_BLOCKS = 1
# What the approach from above goes beyond the play, so that the gap surely closes.
_BEYOND_SHARE, _BEYOND_DOF = 0.25, 1.0
# Error of the interpolation between planes, as a share of their distance, and of the
# curve's width from short stacks.
_INTERPOLATION = 0.05
_WIDTH_U = 0.02
# Of the light: a lamp that is warm.
_LEVEL_U = 0.01
# Shift of the field, there and back so often, and uncertainty of one in pixels.
_SHIFT_SHARE = 0.3
_SHIFTS = 2
_SHIFT_U_PX = 0.02
_Unmeasurable = (CalibrationError, BlankSlideError, OutOfTravelError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """What was measured again, by key; and why the rest could not be."""

    values: dict[str, Measured]
    refused: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scene:
    """The profile's place, and how stacks are taken there."""

    bench: Bench
    x_um: float
    y_um: float
    focus_um: float
    play_um: float
    engaged_from_um: float
    dof_um: float
    step_um: float

    @property
    def half_um(self) -> float:
        """Half the range of a stack."""
        return _HALF_RANGE_DOF * self.dof_um

    def at(self, z_um: float) -> StagePosition:
        """Return the place at a height within the travel."""
        low_um, high_um = self.bench.stage.limits.z_um
        z_um = min(max(z_um, low_um), high_um)
        return StagePosition(x_um=self.x_um, y_um=self.y_um, z_um=z_um)


def measure_again(bench: Bench, profile: InstrumentProfile) -> Readings:
    """Measure the essentials of a profile at the place of its focus.

    Values that the profile does not have are not measured again.

    Raises
    ------
    CalibrationError
        If the light is off or saturated.
    DeviceError
        If stage or camera fail.
    """
    values: dict[str, Measured] = {}
    refused: dict[str, str] = {}
    scene = _scene(bench, profile)
    level = check_light(bench, (scene.x_um, scene.y_um, scene.focus_um))
    values["light_level"] = Measured(
        value=level,
        standard_uncertainty=_LEVEL_U * level,
        method="level of the brightest twentieth of the profile's place, green",
        unit="levels",
    )
    try:
        values |= _measure_stacks(scene, profile)
    except _Unmeasurable as error:
        keys = ("focus_um", "focus_width_um", "backlash_z_um")
        refused |= dict.fromkeys(keys, str(error))
    focus = values.get("focus_um", profile.focus_um)
    try:
        values |= _measure_field(scene, profile, focus.value)
    except _Unmeasurable as error:
        keys = ("scale_x", "scale_y", "rotation_mrad")
        refused |= dict.fromkeys(keys, str(error))
    return Readings(values=values, refused=refused)


def _scene(bench: Bench, profile: InstrumentProfile) -> _Scene:
    focus_um = profile.focus_um.value
    dof_um = optics_dof_um(bench.config.optics)
    motor_um = bench.stage.capabilities.resolution_um.z_um
    play = profile.values.get("backlash_z_um")
    half_um = _HALF_RANGE_DOF * dof_um
    from_um = profile.facts.get("focus", {}).get("engaged_from_um", focus_um)
    return _Scene(
        bench=bench,
        x_um=profile.focus_x_um,
        y_um=profile.focus_y_um,
        focus_um=focus_um,
        play_um=play.value if play else 0.0,
        engaged_from_um=min(float(from_um), focus_um - half_um),
        dof_um=dof_um,
        step_um=max(round(_STEP_DOF * dof_um / motor_um), 1) * motor_um,
    )


def _measure_stacks(scene: _Scene, profile: InstrumentProfile) -> dict[str, Measured]:
    """Return focus, width, light and, where the profile has it, play."""
    stage = scene.bench.stage
    both = isinstance(stage, DirectStage) and "backlash_z_um" in profile.values
    order = [is_down for is_down in abba(_BLOCKS) if both or not is_down]
    stacks = [
        _take(scene, number / len(order), is_down=is_down)
        for number, is_down in enumerate(order)
    ]
    peaks_um = np.array([_peak_um(stack) for stack in stacks])
    down = np.array(order)
    ups, downs = peaks_um[~down], peaks_um[down]
    sd_um = max(_known_sd_um(scene, profile), _scatter_um(ups, downs))
    # Motor steps and interpolation err alike for each stack, but not by the same.
    sd_um = root_sum_square(
        [
            sd_um,
            _INTERPOLATION * scene.step_um,
            uniform_u(stage.capabilities.resolution_um.z_um),
        ]
    )
    widths_um = [fit_gaussian_top(s.z_um, s.sharpness).sigma_um for s in stacks]
    width_um = float(np.mean(widths_um))
    # F may lie beside the sharpest plane by what calibration found (step optics).
    known = profile.values.get("focus_sharpest_um", profile.focus_um)
    beside_um = profile.focus_um.value - known.value
    values = {
        "focus_um": Measured(
            value=float(ups.mean()) + beside_um,
            standard_uncertainty=sd_um / ups.size**0.5,
            method=f"{ups.size} short upward stacks at the profile's place",
        ),
        "focus_width_um": Measured(
            value=width_um,
            standard_uncertainty=_WIDTH_U * width_um,
            method="standard width of the focus curve, which follows 1 / NA squared",
        ),
    }
    if both:
        values["backlash_z_um"] = Measured(
            value=float(ups.mean() - downs.mean()),
            standard_uncertainty=sd_um * (1 / ups.size + 1 / downs.size) ** 0.5,
            method="reversal value, short stacks from below and from above in turn",
        )
    return values


def _take(scene: _Scene, phase: float, *, is_down: bool) -> ZStack:
    """Take one short stack; its planes are moved by a share of their distance."""
    bench, stage = scene.bench, scene.bench.stage
    shift_um = (phase - 0.5) * scene.step_um
    centre_um = scene.focus_um - scene.play_um * is_down + shift_um
    low_um, high_um = stage.limits.z_um
    planes = plan_planes(
        centre_um - scene.half_um, centre_um + scene.half_um, scene.step_um
    )
    planes = planes[(planes >= low_um) & (planes <= high_um)]
    if is_down and isinstance(stage, DirectStage):
        beyond_um = _BEYOND_SHARE * scene.play_um + _BEYOND_DOF * scene.dof_um
        top_um = float(planes[-1]) + scene.play_um + beyond_um
        stage.move_direct(scene.at(top_um))
        planes, move = planes[::-1], stage.move_direct
    else:
        stage.move_to(scene.at(scene.engaged_from_um))
        move = stage.move_to
    return take_stack(stage, bench.camera, scene.x_um, scene.y_um, planes, move=move)


def _peak_um(stack: ZStack) -> float:
    """Return the focus of one stack.

    Raises
    ------
    CalibrationError
        If there is no texture, or no focus within the planes.
    """
    first_um, last_um = float(stack.z_um[0]), float(stack.z_um[-1])
    if stack.texture < LEAST_TEXTURE:
        msg = (
            "no texture at the profile's place: the sharpest plane has "
            f"{stack.texture:.2f} times the noise's own sharpness, at least "
            f"{LEAST_TEXTURE} is needed; put the same slide back to the same place"
        )
        raise CalibrationError(msg)
    fit = fit_focus(stack.z_um, stack.sharpness)
    if not fit.is_peak_inside:
        msg = (
            f"the focus is not between {first_um:.2f} and {last_um:.2f} um, where the "
            "profile expects it: another slide or place, or it has moved by more"
        )
        raise CalibrationError(msg)
    return fit.focus_um


def _known_sd_um(scene: _Scene, profile: InstrumentProfile) -> float:
    """Return how one stack's peak scatters, as the calibration saw it."""
    budget = profile.facts.get("focus", {}).get("budget_um", {})
    of_mean_um = float(budget.get("scatter of the repeats", 0.0))
    of_one_um = of_mean_um * math.sqrt(scene.bench.config.calibration.repeats)
    return max(of_one_um, float(profile.facts.get("z", {}).get("scatter_um", 0.0)))


def _scatter_um(*groups: Float64) -> float:
    """Return the pooled standard deviation of groups about their own means."""
    centred = np.concatenate([group - group.mean() for group in groups if group.size])
    degrees = centred.size - sum(group.size > 0 for group in groups)
    if degrees <= 0:
        return 0.0
    return float(np.linalg.norm(centred)) / math.sqrt(degrees)


def _measure_field(
    scene: _Scene, profile: InstrumentProfile, focus_um: float
) -> dict[str, Measured]:
    """Return scale and rotation from one shift there and back along each axis."""
    xy = profile.facts.get("xy")
    if xy is None or "pixel_um" not in profile.values:
        return {}
    sight = Sight(scene.bench, focus_um)
    pixel_um = profile.values["pixel_um"].value
    matrix = np.array(xy["matrix"], dtype=np.float64)
    values, turns, turn_us = {}, [], []
    for number, axis in enumerate(AXES):
        step_um, shift_px = _shift(sight, scene, axis)
        column = matrix[:, number]
        column_px = shift_px / step_um
        spread_um = float(xy["residual_um"][axis])
        u = root_sum_square([_SHIFT_U_PX * pixel_um, spread_um]) / abs(step_um)
        values[f"scale_{axis}"] = Measured(
            value=float(np.hypot(*column_px)) * pixel_um,
            standard_uncertainty=u,
            method=f"shifts of the field by {abs(step_um):.1f} um and back",
            unit="",
        )
        across = column[0] * column_px[1] - column[1] * column_px[0]
        turns.append(float(np.arctan2(across, column @ column_px)) * 1000)
        turn_us.append(u * 1000)
    known = profile.values["rotation_mrad"]
    sign = 1 if xy.get("mirrored") else -1  # x towards y, as the stage sees it
    values["rotation_mrad"] = Measured(
        value=known.value + sign * float(np.mean(turns)),
        standard_uncertainty=root_sum_square(turn_us) / len(turn_us),
        method="turn of both shifts against those of the profile",
        unit="mrad",
    )
    return values


def _shift(sight: Sight, scene: _Scene, axis: Axis) -> tuple[float, Float64]:
    """Return a commanded step, and by how many pixels (x, y) the field then moved."""
    bench = scene.bench
    number = AXES.index(axis)
    here = (scene.x_um, scene.y_um)
    low_um = bench.region_um[number]
    ends_um = (low_um, low_um + bench.region_um[number + 2])
    step_um = _SHIFT_SHARE * sight.field_px * bench.config.optics.pixel_um
    there_um = beside(here[number], step_um, ends_um)
    there = (there_um, here[1]) if axis == "x" else (here[0], there_um)
    sight.check([here, there])
    way = [here, *[there, here] * _SHIFTS]
    seen = [sight.see(sight.arrive(*place)) for place in way]
    shifts: list[Float64] = []
    for first, second in itertools.pairwise(seen):
        shift = measure_shift(
            first.picture, second.picture, search_px=0.45 * sight.field_px
        )
        check_shift(shift, f"axis {axis}")
        shifts.append(shift.vector_px)
    commanded_um = seen[1].along(axis) - seen[0].along(axis)
    signs = np.array([1.0, -1.0] * _SHIFTS)
    return commanded_um, np.asarray(signs @ np.array(shifts) / signs.size)
