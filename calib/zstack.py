"""Take a z-stack through the device Protocols, and measure each of its planes."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from bifocus.blank_field import is_blank_field
from bifocus.errors import CalibrationError, OutOfTravelError
from bifocus.hal.devices import Camera, Stage
from bifocus.records import MoveReceipt, StagePosition, UInt8Image
from bifocus.sharpness import brenner, noise_sd, to_gray

Float64 = npt.NDArray[np.float64]
Move = Callable[[StagePosition], MoveReceipt]

_THUMBNAIL_PX = 160
# Mean levels of the planes of one field change slowly with z, as blur brings in light
# from beside the field; automatic exposure and an unsteady lamp make them jump.
_MOST_FLICKER = 0.03
# Share of pixels at the upper end of the scale, where light is no longer counted.
MOST_SATURATED = 0.02
# Share of full scale that the brightest pixels of a lit field reach at least.
_LEAST_LEVEL = 0.06


@dataclass(frozen=True, slots=True, kw_only=True)
class ZStack:
    """The measured curve of one stack at one place, by ascending z.

    Attributes
    ----------
    z_um
        Where the stage reported to be, in whole steps.
    time_s
        Middle of each plane's exposure, on the camera's clock.
    sharpness
        Brenner's gradient, the noise bias of the stack removed.
    noise_floor
        That bias: what noise alone would give.
    saturated
        Largest share of saturated pixels of any plane.
    level
        Level, of 255, that the brightest twentieth of the pixels reach.
    flicker
        Largest deviation of a plane's mean level from a smooth course, relative.
    is_blank
        Whether no plane shows anything but glass, in focus or not.
    digest
        SHA-256 of all pixels; planes themselves are not kept.
    thumbnails
        Small pictures of all planes, where they were asked for.
    """

    x_um: float
    y_um: float
    z_um: Float64
    time_s: Float64
    sharpness: Float64
    noise_floor: float
    saturated: float
    level: float
    flicker: float
    is_blank: bool
    digest: str
    thumbnails: tuple[UInt8Image, ...] = ()

    @property
    def texture(self) -> float:
        """Peak sharpness in units of the noise's own."""
        return float(self.sharpness.max()) / max(self.noise_floor, 1e-9)


def plan_planes(low_um: float, high_um: float, step_um: float) -> Float64:
    """Return ascending planes from `low_um` to at least `high_um`.

    Examples
    --------
    >>> plan_planes(0.0, 1.0, 0.4).tolist()
    [0.0, 0.4, 0.8, 1.2000000000000002]
    """
    count = int(np.ceil((high_um - low_um) / step_um - 1e-9)) + 1
    return low_um + step_um * np.arange(max(count, 1), dtype=np.float64)


def check_targets(stage: Stage, targets: Sequence[StagePosition]) -> None:
    """Refuse places that the stage cannot reach, before it goes to the first of them.

    Raises
    ------
    OutOfTravelError
        Naming the axis, the place and the travel.
    """
    for target in targets:
        for axis in ("x", "y", "z"):
            place_um = getattr(target, f"{axis}_um")
            low_um, high_um = getattr(stage.limits, f"{axis}_um")
            if not low_um <= place_um <= high_um:
                msg = (
                    f"calibration needs {axis} = {place_um:.1f} um, the stage's travel "
                    f"is {low_um:.1f} to {high_um:.1f} um; nothing has moved; choose "
                    "another region, or correct the limits in the instrument file"
                )
                raise OutOfTravelError(msg)


def take_stack(
    stage: Stage,
    camera: Camera,
    x_um: float,
    y_um: float,
    z_um: Float64,
    *,
    move: Move | None = None,
    keep_thumbnails: bool = False,
) -> ZStack:
    """Visit the planes in the order given and measure the sharpness of each.

    Parameters
    ----------
    z_um
        Planes; ascending, unless `move` is made for another order.
    move
        How to go from plane to plane; by default `stage.move_to`, which takes up
        backlash.

    Raises
    ------
    OutOfTravelError
        Before anything moves, if a plane lies outside the limits.
    DeviceError
        If stage or camera fail.
    """
    go = move or stage.move_to
    targets = [StagePosition(x_um=x_um, y_um=y_um, z_um=float(z)) for z in z_um]
    check_targets(stage, targets)
    planes, digest, is_blank = [], hashlib.sha256(), True
    for target in targets:
        receipt = go(target)
        frame = camera.grab(after=receipt)
        digest.update(np.ascontiguousarray(frame.pixels).tobytes())
        is_blank = is_blank and is_blank_field(frame.pixels)
        time_s = (frame.exposure_start_s + frame.exposure_end_s) / 2
        planes.append(
            _measure(frame.pixels, receipt.reported.z_um, time_s, keep_thumbnails)
        )
    planes.sort(key=lambda plane: plane.z_um)
    # One noise for all planes: an own one for each would take texture for noise.
    floor = 2 * float(np.quantile([plane.noise_sd for plane in planes], 0.1)) ** 2
    raw = np.array([plane.brenner for plane in planes])
    return ZStack(
        x_um=x_um,
        y_um=y_um,
        z_um=np.array([plane.z_um for plane in planes]),
        time_s=np.array([plane.time_s for plane in planes]),
        sharpness=np.maximum(raw - floor, 0.0),
        noise_floor=floor,
        saturated=max(plane.saturated for plane in planes),
        level=float(np.median([plane.level for plane in planes])),
        flicker=_flicker(np.array([plane.mean for plane in planes])),
        is_blank=is_blank,
        digest=digest.hexdigest(),
        thumbnails=tuple(p.thumbnail for p in planes if p.thumbnail is not None),
    )


def check_light(stack: ZStack, where: str) -> None:
    """Refuse a stack whose light cannot be trusted.

    Raises
    ------
    CalibrationError
        If the field is dark or saturated, or its brightness changes.
    """
    if stack.level < _LEAST_LEVEL * 255:
        msg = (
            f"{where}: no light: the brightest pixels reach level {stack.level:.0f} of "
            f"255, at least {_LEAST_LEVEL * 255:.0f} is expected; is the lamp off, or "
            "the exposure too short?"
        )
        raise CalibrationError(msg)
    if stack.saturated > MOST_SATURATED:
        msg = (
            f"{where}: {stack.saturated:.1%} of the pixels are saturated, at most "
            f"{MOST_SATURATED:.0%} may be; shorten the exposure or dim the lamp"
        )
        raise CalibrationError(msg)
    if stack.flicker > _MOST_FLICKER:
        msg = (
            f"{where}: the brightness changes by {stack.flicker:.1%} from plane to "
            f"plane, at most {_MOST_FLICKER:.0%} is expected; lock exposure, gain and "
            "white balance, and let the lamp warm up"
        )
        raise CalibrationError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plane:
    z_um: float
    time_s: float
    brenner: float
    noise_sd: float
    mean: float
    level: float
    saturated: float
    thumbnail: UInt8Image | None


def _measure(
    pixels: UInt8Image, z_um: float, time_s: float, keep_thumbnail: bool
) -> _Plane:
    gray = to_gray(pixels)
    some = np.sort(gray[::4, ::4], axis=None)
    return _Plane(
        z_um=z_um,
        time_s=time_s,
        brenner=brenner(gray),
        noise_sd=noise_sd(gray),
        mean=float(gray.mean(dtype=np.float64)),
        level=float(some[int(0.95 * some.size)]),
        saturated=float((gray >= 255).mean()),
        thumbnail=_thumbnail(pixels) if keep_thumbnail else None,
    )


def _flicker(means: Float64) -> float:
    """Return the largest deviation from a cubic through the planes, relative."""
    if means.size < 6:
        return 0.0
    number = np.linspace(-1, 1, means.size)
    smooth = np.polyval(np.polyfit(number, means, 3), number)
    return float(np.abs(means - smooth).max()) / max(float(means.mean()), 1.0)


def _thumbnail(pixels: UInt8Image) -> UInt8Image:
    colour = pixels if pixels.ndim == 3 else cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    scale = min(1.0, _THUMBNAIL_PX / max(colour.shape[:2]))
    small = cv2.resize(colour, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8)
