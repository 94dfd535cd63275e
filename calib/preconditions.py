"""What must hold before and between the steps: light, motion, optics as the file says.

Each refusal says what was measured and what was expected, and what to do. None of them
changes anything: the procedure ends, and an older profile stays.
"""

import logging
from dataclasses import dataclass, replace

import cv2
import numpy as np

from bifocus.calib.step_result import Bench, Region, StepResult
from bifocus.calib.zstack import check_targets
from bifocus.config import Optics
from bifocus.errors import CalibrationError
from bifocus.optics import Objective, depth_of_field_um
from bifocus.records import FloatImage, Frame, StagePosition
from bifocus.sharpness import brenner, to_gray

logger = logging.getLogger(__name__)

# Levels of 255. A closed shutter gives read noise only; the thickest section under a
# dim lamp still has some clear pixels well above this.
_DARK_LEVEL = 12.0
# Share of pixels at the upper end; glints and hot pixels stay far below.
_MOST_SATURATED = 0.05
# A commanded move has changed the picture when it differs by so many times what two
# pictures of one place do. They are compared at an eighth of their size: a stage that
# comes back within a micrometre is told from one that stands still.
_LEAST_CHANGE = 1.5
_COMPARED_SHARE = 1 / 8
# Or, along z, when sharpness has changed by this factor: scatter across leaves it.
_LEAST_SHARPNESS_CHANGE = 1.5
# Field shift and defocus that must show: a quarter field, 6 depths of field.
_SHIFT_SHARE = 0.25
_DEFOCUS_DOF = 6.0
# Shares by which the measured scale of the picture and NA may differ from the file's
# before it is another objective: stages err by up to 5 %, labelled NA by up to 5 %.
_MOST_SCALE_ERROR = 0.12
_MOST_NA_ERROR = 0.15
# A turned camera: what the stitching's overlap can still take.
_MOST_ROTATION_MRAD = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Motion:
    """By how much pictures differ, in levels: of one place, and after moves.

    `sharpness_change` is a factor, 1 or more, of sharpness after the move along z, over
    that of the same place; `light_level` is that of the place itself.
    """

    noise: float
    x: float
    y: float
    z: float
    sharpness_change: float
    light_level: float

    def stands_still(self, axis: str) -> bool:
        """Return whether a commanded move of an axis left the picture as it was."""
        if axis == "z" and self.sharpness_change > _LEAST_SHARPNESS_CHANGE:
            return False
        return float(getattr(self, axis)) <= _LEAST_CHANGE * self.noise


def check_region(bench: Bench) -> None:
    """Refuse a region whose corners the stage cannot reach; nothing has moved.

    Raises
    ------
    OutOfTravelError
        Naming the axis, the place and the travel.
    """
    x_um, y_um, width_um, height_um = bench.region_um
    low_um, high_um = bench.stage.limits.z_um
    # Wherever the power came on: below what approaches need, a board may well start.
    z_um = min(max(bench.stage.position().z_um, low_um), high_um)
    corners = [(x_um, y_um), (x_um + width_um, y_um + height_um)]
    check_targets(
        bench.stage, [StagePosition(x_um=x, y_um=y, z_um=z_um) for x, y in corners]
    )


def check_light(bench: Bench, place: tuple[float, float, float] | None = None) -> float:
    """Look at a place, x, y, z: refuse a dark frame and a saturated one.

    Without a place, the middle of the region is looked at.

    Returns
    -------
    float
        The place's `light_level`.

    Raises
    ------
    CalibrationError
        With the level, or the share of saturated pixels.
    """
    x_um, y_um, z_um = place or (*_middle(bench.region_um), _start_z_um(bench))
    frame = _grab(bench, x_um, y_um, z_um)
    where = f"camera at x {x_um:.1f}, y {y_um:.1f} um"
    brightest = float(np.percentile(frame.pixels, 99))
    if brightest < _DARK_LEVEL:
        msg = (
            f"{where}: a dark frame: 99 % of the pixels are below level "
            f"{brightest:.0f} of 255, at least {_DARK_LEVEL:.0f} is expected in bright "
            "field; switch the lamp on, open the shutter, take off the cap, or "
            "lengthen camera.exposure_s"
        )
        raise CalibrationError(msg)
    full = frame.pixels >= 255
    share = float((full.any(axis=2) if full.ndim == 3 else full).mean())
    if share > _MOST_SATURATED:
        msg = (
            f"{where}: the light saturates: {100 * share:.0f} % of the pixels are at "
            f"the upper end, at most {100 * _MOST_SATURATED:.0f} % may be; dim the "
            f"lamp, or shorten camera.exposure_s ({bench.config.camera.exposure_s:g} s)"
        )
        raise CalibrationError(msg)
    return light_level(frame)


def light_level(frame: Frame) -> float:
    """Return the level that the brightest twentieth of a picture's green reaches."""
    return float(np.quantile(to_gray(frame.pixels), 0.95))


def check_motion(bench: Bench, step: StepResult) -> dict[str, float]:
    """Refuse a stage that does not move, at the place where the focus was found.

    Returns
    -------
    dict
        What was seen there: facts that belong to the step.

    Raises
    ------
    CalibrationError
        Naming the axes that stand still.
    """
    place = (float(step.facts["x_um"]), float(step.facts["y_um"]))
    motion = observe_motion(bench, place, step.values["focus_um"].value)
    still = [axis for axis in ("x", "y", "z") if motion.stands_still(axis)]
    if still:
        raise CalibrationError(_standing(still, motion))
    return {"light_level": motion.light_level}


def explain_no_focus(bench: Bench) -> None:
    """Say why no focus was found, if it is the stage or the camera, not the slide.

    Raises
    ------
    CalibrationError
        If a move along z, and no other, leaves the picture as it was; or as
        `observe_motion`.
    """
    motion = observe_motion(bench, _middle(bench.region_um), _start_z_um(bench))
    moved = [axis for axis in ("x", "y", "z") if not motion.stands_still(axis)]
    if moved and motion.stands_still("z"):
        raise CalibrationError(_standing(["z"], motion))


def check_orientation(bench: Bench, step: StepResult) -> None:
    """Refuse a camera that is mirrored, upside down, or turned too far.

    Raises
    ------
    CalibrationError
        With the angle, and what to turn.
    """
    angle_mrad = step.values["rotation_mrad"].value
    if step.facts.get("mirrored"):
        msg = (
            "the picture is mirrored: the image moves as in a mirror when the stage "
            "moves in x and y; expected x to the right and y down. Flip the camera's "
            "picture, or set stage.invert for one of the axes"
        )
        raise CalibrationError(msg)
    if abs(angle_mrad) > _MOST_ROTATION_MRAD:
        degrees = np.degrees(angle_mrad / 1000)
        msg = (
            f"the camera is turned by {degrees:.1f} degrees against the stage, at most "
            f"{np.degrees(_MOST_ROTATION_MRAD / 1000):.1f} is expected"
            f"{': it stands upside down' if abs(degrees) > 150 else ''}; turn the "
            "camera, or set stage.invert, so that x is to the right and y down"
        )
        raise CalibrationError(msg)


def check_scale(bench: Bench, step: StepResult) -> None:
    """Refuse a picture whose scale is grossly not the file's: another objective.

    Raises
    ------
    CalibrationError
        With the pixel that the stage's own length would give.
    """
    scales = [step.values[name].value for name in ("scale_x", "scale_y")]
    nominal_um, pixel_um = bench.config.optics.pixel_um, step.values["pixel_um"].value
    shares = (*scales, pixel_um / nominal_um)
    if max(abs(share - 1) for share in shares) > _MOST_SCALE_ERROR:
        seen_um = pixel_um / float(np.mean(scales))
        msg = (
            f"wrong objective or stage scale: the picture moves by {scales[0]:.3f} (x) "
            f"and {scales[1]:.3f} (y) of the commanded way where a pixel is "
            f"{pixel_um:.4f} um, expected within {_MOST_SCALE_ERROR:.0%} of 1: by the "
            f"stage's length a pixel is {seen_um:.4f} um, the file says "
            f"{nominal_um:g} um. Mount {bench.config.optics.objective}, or correct "
            "optics.pixel_um and na"
        )
        raise CalibrationError(msg)


def check_objective(bench: Bench, step: StepResult) -> None:
    """Refuse a measured NA that is grossly not the file's: another objective.

    Raises
    ------
    CalibrationError
        With both NA.
    """
    measured, nominal = step.values["na"], bench.config.optics.na
    error = abs(measured.value / nominal - 1)
    sure = abs(measured.value - nominal) > 3 * measured.standard_uncertainty
    if sure and error > _MOST_NA_ERROR:
        msg = (
            f"wrong objective: NA {measured.value:.3f} was measured (u "
            f"{measured.standard_uncertainty:.3f}), the file says {nominal:g}; at most "
            f"{_MOST_NA_ERROR:.0%} apart are expected. Mount "
            f"{bench.config.optics.objective}, or correct optics.na and pixel_um"
        )
        raise CalibrationError(msg)


def check_after(bench: Bench, step: StepResult) -> StepResult:
    """Check a step's result before it counts; return it with what was seen on the way.

    Raises
    ------
    CalibrationError
        If the instrument is not what its file says.
    """
    if step.name == "focus":
        seen = check_motion(bench, step)
        return replace(step, facts={**step.facts, **seen})
    if step.name == "xy":
        check_orientation(bench, step)
        check_scale(bench, step)
    if step.name == "optics":
        check_objective(bench, step)
    return step


def observe_motion(bench: Bench, place: tuple[float, float], z_um: float) -> Motion:
    """Take pictures of one place, after a move along each axis, and back again.

    Raises
    ------
    CalibrationError
        If all pictures are the same to the last bit, which noise does not allow.
    """
    optics = bench.config.optics
    camera = bench.camera.capabilities
    shift_um = _SHIFT_SHARE * optics.pixel_um * min(camera.width_px, camera.height_px)
    (x_um, y_um), (left_um, top_um, width_um, height_um) = place, bench.region_um
    beside_x_um = beside(x_um, shift_um, (left_um, left_um + width_um))
    beside_y_um = beside(y_um, shift_um, (top_um, top_um + height_um))
    beside_z_um = beside(z_um, _defocus_um(optics), bench.stage.limits.z_um)
    frames = [
        _grab(bench, *target)
        for target in (
            (x_um, y_um, z_um),
            (x_um, y_um, z_um),
            (beside_x_um, y_um, z_um),
            (x_um, beside_y_um, z_um),
            (x_um, y_um, beside_z_um),
            (x_um, y_um, z_um),
        )
    ]
    first, again, along_x, along_y, along_z, back = map(_averaged, frames)
    motion = Motion(
        noise=max(_difference(first, again), _difference(first, back)),
        x=_difference(first, along_x),
        y=_difference(first, along_y),
        z=_difference(first, along_z),
        sharpness_change=_sharpness_change(frames),
        light_level=light_level(frames[0]),
    )
    if motion.noise == motion.x == motion.y == motion.z == 0:
        msg = (
            "the camera delivers the same picture again and again, although the stage "
            "was sent elsewhere and light is noisy; restart the camera"
        )
        raise CalibrationError(msg)
    return motion


def _standing(axes: list[str], motion: Motion) -> str:
    seen = ", ".join(f"{axis} {getattr(motion, axis):.2f}" for axis in ("x", "y", "z"))
    return (
        f"the stage does not move in {' and '.join(axes)}: after a commanded move the "
        f"picture differs by {seen} levels, two pictures of one place by "
        f"{motion.noise:.2f}, at least {_LEAST_CHANGE:g} times that is expected; check "
        "motor, coupling and cable, and step_um in the instrument file"
    )


def _defocus_um(optics: Optics) -> float:
    objective = Objective(
        na=optics.na,
        wavelength_um=optics.wavelengths_um[1],
        refractive_index=optics.refractive_index,
    )
    return _DEFOCUS_DOF * depth_of_field_um(objective, optics.pixel_um)


def _averaged(frame: Frame) -> FloatImage:
    """Return the picture made small: less noise, and structure stays."""
    pixels = frame.pixels.astype(np.float32)
    small = cv2.resize(
        pixels,
        None,
        fx=_COMPARED_SHARE,
        fy=_COMPARED_SHARE,
        interpolation=cv2.INTER_AREA,
    )
    return np.asarray(small, dtype=np.float32)


def _sharpness_change(frames: list[Frame]) -> float:
    """Return the factor of sharpness after the move along z over what repeats differ.

    Sharpness counts the sensor's noise as well, which makes the factor smaller.
    """
    first, again, _, _, along_z, back = (
        float(np.log(brenner(to_gray(frame.pixels)) + 1e-9)) for frame in frames
    )
    repeats = max(abs(again - first), abs(back - first))
    return float(np.exp(max(abs(along_z - first) - repeats, 0.0)))


def _difference(one: FloatImage, other: FloatImage) -> float:
    return float(np.sqrt(np.mean((one - other) ** 2)))


def beside(at_um: float, by_um: float, ends_um: tuple[float, float]) -> float:
    """Return a place beside another, towards the middle and no further than that."""
    middle_um = (ends_um[0] + ends_um[1]) / 2
    room_um = max(abs(at_um - middle_um), (ends_um[1] - ends_um[0]) / 2)
    return at_um + min(by_um, room_um) * (1 if at_um < middle_um else -1)


def _grab(bench: Bench, x_um: float, y_um: float, z_um: float) -> Frame:
    target = StagePosition(x_um=x_um, y_um=y_um, z_um=z_um)
    return bench.camera.grab(after=bench.stage.move_to(target))


def _middle(region_um: Region) -> tuple[float, float]:
    x_um, y_um, width_um, height_um = region_um
    return x_um + width_um / 2, y_um + height_um / 2


def _start_z_um(bench: Bench) -> float:
    start_um = bench.config.calibration.z_start_um
    return bench.stage.position().z_um if start_um is None else start_um
