"""Take a z-stack through the device Protocols, always upward."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bifocus.blank_field import is_blank_field
from bifocus.errors import OutOfTravelError
from bifocus.hal.devices import Camera, Stage
from bifocus.records import StagePosition
from bifocus.sharpness import measure_sharpness

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ZStack:
    """The measured curve of one stack at one place.

    `sharpness` is Brenner's gradient with its noise bias removed, `noise_floor` what
    noise alone would give. `is_blank` says that no plane shows anything but glass, in
    focus or not. Planes are not kept: `digest` is the SHA-256 of all pixels.
    """

    x_um: float
    y_um: float
    z_um: Float64
    sharpness: Float64
    noise_floor: float
    is_blank: bool
    digest: str

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
    stage: Stage, camera: Camera, x_um: float, y_um: float, z_um: Float64
) -> ZStack:
    """Visit the planes in ascending order and measure the sharpness of each.

    Raises
    ------
    OutOfTravelError
        Before anything moves, if a plane lies outside the limits.
    DeviceError
        If stage or camera fail.
    """
    check_targets(
        stage,
        [StagePosition(x_um=x_um, y_um=y_um, z_um=float(plane)) for plane in z_um],
    )
    sharpness, floors, blanks, digest = [], [], [], hashlib.sha256()
    for plane_um in z_um:
        target = StagePosition(x_um=x_um, y_um=y_um, z_um=float(plane_um))
        frame = camera.grab(after=stage.move_to(target))
        value, floor = measure_sharpness(frame.pixels)
        sharpness.append(value)
        floors.append(floor)
        blanks.append(is_blank_field(frame.pixels))
        digest.update(np.ascontiguousarray(frame.pixels).tobytes())
    return ZStack(
        x_um=x_um,
        y_um=y_um,
        z_um=z_um,
        sharpness=np.asarray(sharpness),
        noise_floor=float(np.median(floors)),
        is_blank=all(blanks),
        digest=digest.hexdigest(),
    )
