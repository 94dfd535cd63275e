"""Calibration step `z`: play, repeatability and drift of the focus drive.

Play: the focus is found from below and from above in turn, by stacks in ABBA order
whose moves take up nothing (`DirectStage`). A first descent finds out how large the
play is; it ends as soon as the focus is passed, so that the glass never goes far below.
Repeatability: the stage returns again and again to the flank of the focus curve, where
sharpness tells the height.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bifocus.calib.focus_search import (
    Peak,
    measure_peak,
    optics_dof_um,
    plane_phase,
)
from bifocus.calib.reversal import Reversal, abba, estimate_reversal, estimate_spread
from bifocus.calib.step_result import Bench, Plot, Series, StepResult
from bifocus.calib.zstack import ZStack, plan_planes, take_stack
from bifocus.errors import CalibrationError
from bifocus.hal.devices import DirectStage, Stage
from bifocus.records import Measured, StagePosition
from bifocus.sharpness import measure_sharpness

logger = logging.getLogger(__name__)

Float64 = npt.NDArray[np.float64]

_HALF_RANGE_DOF = 2.5
_FINE_STEP_DOF = 1 / 3
# Descent: planes so far apart, from so far above the focus; the focus is passed when
# sharpness has reached and then lost these shares of what it was on the way up.
_DESCENT_STEP_DOF = 0.8
_DESCENT_START_DOF = 3.0
_REACHED, _LOST = 0.5, 0.5
# What the approach goes beyond the play found at first, so that the gap surely closes.
_BEYOND_SHARE, _BEYOND_DOF = 0.2, 1.0
_RETURNS = 12
_FLANK_SHARE = 0.6  # of the width: planes that tell the slope of the flank


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scene:
    """Where and how the stacks of this step are taken."""

    stage: DirectStage
    x_um: float
    y_um: float
    focus_um: float
    engaged_from_um: float  # coming up from here closes the play, as focus has shown
    dof_um: float
    motor_um: float

    def at(self, z_um: float) -> StagePosition:
        """Return the place of the tile at a height."""
        return StagePosition(x_um=self.x_um, y_um=self.y_um, z_um=z_um)

    @property
    def half_um(self) -> float:
        """Half the range of a fine stack."""
        return _HALF_RANGE_DOF * self.dof_um


def require_direct(stage: Stage) -> DirectStage:
    """Return the stage as one that can move without taking up backlash.

    Raises
    ------
    CalibrationError
        If its driver cannot.
    """
    if not isinstance(stage, DirectStage):
        msg = (
            f"the stage '{stage.capabilities.identity}' cannot move without taking up "
            "backlash, so that its play cannot be measured; its driver needs "
            "`move_direct` (bifocus.hal.devices.DirectStage)"
        )
        raise CalibrationError(msg)
    return stage


def measure_z_mechanics(bench: Bench, before: Mapping[str, StepResult]) -> StepResult:
    """Measure play, repeatability and drift of z; see `step_result.Step`.

    Raises
    ------
    CalibrationError
        If the stage cannot move directly, does not pass the focus on its way down, or
        has no room to do so.
    """
    focus = before["focus"]
    scene = _Scene(
        stage=require_direct(bench.stage),
        x_um=float(focus.facts["x_um"]),
        y_um=float(focus.facts["y_um"]),
        focus_um=focus.values["focus_um"].value,
        engaged_from_um=float(focus.facts["engaged_from_um"]),
        dof_um=optics_dof_um(bench.config.optics),
        motor_um=bench.stage.capabilities.resolution_um.z_um,
    )
    guess_um = _descend(bench, scene)
    stacks, peaks, is_down = _take_both_ways(bench, scene, guess_um)
    reversal = estimate_reversal(
        np.array([peak.focus_um for peak in peaks]),
        np.array([peak.time_s for peak in peaks]),
        np.array(is_down),
        motor_step_um=scene.motor_um,
    )
    upward = [number for number, came_down in enumerate(is_down) if not came_down]
    flank = find_flank(
        [stacks[number] for number in upward], [peaks[number] for number in upward]
    )
    later_s = bench.clock.monotonic_s() - reversal.reference_s
    here_um = reversal.up_um + reversal.drift_um_per_hour * later_s / 3600
    spread_um, spread_u_um, digest = _measure_returns(
        bench, scene, here_um + flank.above_um, flank
    )
    logger.info("backlash of z %.3f um, u %.3f um", reversal.backlash_um, reversal.u_um)
    needed_um = (
        reversal.backlash_um + 2 * reversal.u_um + 3 * spread_um + 2 * scene.motor_um
    )
    for stack in stacks:
        digest.update(bytes.fromhex(stack.digest))
    return StepResult(
        name="z",
        values=_values(reversal, spread_um, spread_u_um, len(peaks)),
        facts={
            "take_up_needed_um": needed_um,
            "take_up_um": bench.config.stage.take_up_um[2],
            "up_um": reversal.up_um,
            "reference_s": reversal.reference_s,
            "scatter_um": reversal.scatter_um,
            "convention": "reversal value: mean(up) - mean(down), the whole gap",
        },
        plots=(_plot(peaks, is_down, reversal),),
        warnings=tuple(_warnings(needed_um, bench.config.stage.take_up_um[2])),
        raw_sha256=digest.hexdigest(),
    )


def _descend(bench: Bench, scene: _Scene) -> float:
    """Come down from above the focus until it has been passed; return the play."""
    stage, step_um = scene.stage, _DESCENT_STEP_DOF * scene.dof_um
    low_um, high_um = stage.limits.z_um
    top_um = min(scene.focus_um + _DESCENT_START_DOF * scene.dof_um, high_um)
    stage.move_to(scene.at(scene.engaged_from_um))
    best_up = max(
        _look(bench, scene, float(z_um))
        for z_um in np.arange(scene.focus_um - scene.half_um / 2, top_um, step_um / 2)
        if low_um <= z_um
    )
    stage.move_direct(scene.at(top_um))
    seen: list[tuple[float, float]] = []
    z_um = top_um
    while z_um >= low_um:
        seen.append((_look(bench, scene, z_um), z_um))
        best, best_um = max(seen)
        if best >= _REACHED * best_up and seen[-1][0] < _LOST * best and best_um > z_um:
            return scene.focus_um - best_um
        z_um -= step_um
    msg = (
        f"z comes down from {top_um:.1f} to {seen[-1][1]:.1f} um, the end of its safe "
        f"travel, and does not pass the focus at {scene.focus_um:.1f} um again: the "
        f"sharpest plane has {max(seen)[0] / max(best_up, 1e-9):.2f} of what it had on "
        "the way up. Is the play larger than that, does z not come down, or has "
        "something moved?"
    )
    raise CalibrationError(msg)


def _look(bench: Bench, scene: _Scene, z_um: float) -> float:
    """Return the sharpness at a height, approached directly."""
    frame = bench.camera.grab(after=scene.stage.move_direct(scene.at(z_um)))
    return measure_sharpness(frame.pixels)[0]


def _take_both_ways(
    bench: Bench, scene: _Scene, guess_um: float
) -> tuple[list[ZStack], list[Peak], list[bool]]:
    """Take fine stacks upward and downward in ABBA order."""
    blocks = -(-bench.config.calibration.repeats // 2)
    step_um = bench.config.calibration.fine_step_um or _FINE_STEP_DOF * scene.dof_um
    step_um = max(round(step_um / scene.motor_um), 1) * scene.motor_um
    gap_um = max(guess_um, 0.0)
    beyond_um = gap_um * (1 + _BEYOND_SHARE) + _BEYOND_DOF * scene.dof_um
    centres_um = [scene.focus_um, scene.focus_um - guess_um]
    stacks, peaks, order = [], [], abba(blocks)
    for number, is_down in enumerate(order):
        centre_um = centres_um[is_down] + plane_phase(number // 2) * step_um
        sign = 1 if is_down else -1
        start_um = centre_um + sign * (scene.half_um + beyond_um)
        planes = plan_planes(
            centre_um - scene.half_um, centre_um + scene.half_um, step_um
        )
        _check_room(scene, start_um, planes, gap_um)
        scene.stage.move_direct(scene.at(_inside(start_um, scene.stage)))
        stack = take_stack(
            scene.stage,
            bench.camera,
            scene.x_um,
            scene.y_um,
            planes[::-1] if is_down else planes,
            move=scene.stage.move_direct,
        )
        peak = measure_peak(stack)
        centres_um[is_down] = peak.focus_um
        stacks.append(stack)
        peaks.append(peak)
    return stacks, peaks, list(order)


def _inside(z_um: float, stage: Stage) -> float:
    low_um, high_um = stage.limits.z_um
    return min(max(z_um, low_um), high_um)


def _check_room(scene: _Scene, start_um: float, planes: Float64, gap_um: float) -> None:
    """Refuse a run that the travel is too short for."""
    low_um, high_um = scene.stage.limits.z_um
    ends_um = [_inside(start_um, scene.stage), float(planes[0]), float(planes[-1])]
    run_um = max(abs(ends_um[0] - end_um) for end_um in ends_um[1:])
    run_um -= float(planes[-1] - planes[0])
    if planes[0] < low_um or planes[-1] > high_um or run_um < gap_um:
        msg = (
            f"no room to measure the play of z ({gap_um:.1f} um): planes from "
            f"{planes[0]:.1f} to {planes[-1]:.1f} um, coming from {start_um:.1f} um, "
            f"leave the safe travel {low_um:.1f} to {high_um:.1f} um; widen "
            "stage.z_um, or mount the slide so that its focus lies nearer to the middle"
        )
        raise CalibrationError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flank:
    """A height above the focus where sharpness falls steadily, and how fast."""

    above_um: float
    log_slope_per_um: float


def find_flank(stacks: Sequence[ZStack], peaks: Sequence[Peak]) -> Flank:
    """Return the upper flank of the focus curve, one width above the peak.

    The slope of the logarithm is that of a parabola through all planes near there.

    Raises
    ------
    CalibrationError
        If sharpness does not fall there.
    """
    width_um = float(np.mean([peak.sigma_um for peak in peaks]))
    heights, logs = [], []
    for stack, peak in zip(stacks, peaks, strict=True):
        above_um = stack.z_um - peak.focus_um - width_um
        near = np.abs(above_um) <= _FLANK_SHARE * width_um
        heights.append(above_um[near])
        logs.append(np.log(np.maximum(stack.sharpness[near], 1e-9)))
    height_um, log_s = np.concatenate(heights), np.concatenate(logs)
    slope = float(np.polyfit(height_um, log_s, 2)[1]) if height_um.size > 3 else 0.0
    if slope >= 0:
        msg = (
            f"sharpness does not fall {width_um:.2f} um above the focus "
            f"({height_um.size} planes, slope {slope:.3g} per um): the curve is no peak"
        )
        raise CalibrationError(msg)
    return Flank(above_um=width_um, log_slope_per_um=slope)


def _measure_returns(
    bench: Bench, scene: _Scene, flank_um: float, flank: Flank
) -> tuple[float, float, "hashlib._Hash"]:
    """Return to the upper flank again and again; height from the sharpness there."""
    digest = hashlib.sha256()
    place = scene.at(_inside(flank_um, scene.stage))
    logs, times_s = [], []
    for _ in range(_RETURNS):
        scene.stage.move_to(scene.at(scene.engaged_from_um))
        receipt = scene.stage.move_to(place)
        looks = []
        for _ in range(2):
            frame = bench.camera.grab(after=receipt)
            digest.update(np.ascontiguousarray(frame.pixels).tobytes())
            looks.append(np.log(max(measure_sharpness(frame.pixels)[0], 1e-9)))
        times_s.append(frame.exposure_start_s)
        logs.append(looks)
    heights_um = (np.array(logs) - np.mean(logs)) / flank.log_slope_per_um
    spread_um, u_um = estimate_spread(heights_um, np.array(times_s))
    return spread_um, u_um, digest


def _values(
    reversal: Reversal, spread_um: float, spread_u_um: float, count: int
) -> dict[str, Measured]:
    return {
        "backlash_z_um": Measured(
            value=reversal.backlash_um,
            standard_uncertainty=reversal.u_um,
            method=(
                f"reversal value mean(up) - mean(down), {count} stacks in ABBA order, "
                "nothing taken up, drift taken off"
            ),
        ),
        "repeatability_z_um": Measured(
            value=spread_um,
            standard_uncertainty=spread_u_um,
            method=(
                f"standard deviation of {_RETURNS} returns from below to the flank of "
                "the focus curve, noise of looking taken off"
            ),
        ),
        "drift_z_um_per_hour": Measured(
            value=reversal.drift_um_per_hour,
            standard_uncertainty=reversal.drift_u_um_per_hour,
            method="slope of the commanded focus against time, both directions",
            unit="um/h",
        ),
    }


def _warnings(needed_um: float, take_up_um: float) -> Iterator[str]:
    if take_up_um < needed_um:
        yield (
            f"stage.take_up_um of z is {take_up_um:g} um, and {needed_um:.2f} um are "
            "needed to close the play surely (play, its uncertainty, scatter, two "
            "motor steps); set it in the instrument file and calibrate again"
        )


def _plot(peaks: list[Peak], is_down: list[bool], reversal: Reversal) -> Plot:
    def series(name: str, down: bool) -> Series:
        chosen = [
            peak for peak, came in zip(peaks, is_down, strict=True) if came == down
        ]
        return Series(
            name=name,
            x=tuple((peak.time_s - peaks[0].time_s) / 60 for peak in chosen),
            y=tuple(peak.focus_um - reversal.up_um for peak in chosen),
        )

    return Plot(
        title="Focus from below and from above",
        x_label="time (min)",
        y_label="commanded focus less that from below (um)",
        series=(series("from below", False), series("from above", True)),
    )
