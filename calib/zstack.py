"""Take a z-stack through the device Protocols, always upward."""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bifocus.hal.devices import Camera, Stage
from bifocus.records import StagePosition
from bifocus.sharpness import measure_sharpness

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ZStack:
    """The measured curve of one stack at one place.

    `sharpness` is Brenner's gradient with its noise bias removed, `noise_floor` what
    noise alone would give. Planes are not kept: `digest` is the SHA-256 of all pixels.
    """

    x_um: float
    y_um: float
    z_um: Float64
    sharpness: Float64
    noise_floor: float
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


def take_stack(
    stage: Stage, camera: Camera, x_um: float, y_um: float, z_um: Float64
) -> ZStack:
    """Visit the planes in ascending order and measure the sharpness of each.

    Raises
    ------
    OutOfTravelError
        Before anything moves to the first plane that lies outside the limits.
    DeviceError
        If stage or camera fail.
    """
    sharpness, floors, digest = [], [], hashlib.sha256()
    for plane_um in z_um:
        target = StagePosition(x_um=x_um, y_um=y_um, z_um=float(plane_um))
        frame = camera.grab(after=stage.move_to(target))
        value, floor = measure_sharpness(frame.pixels)
        sharpness.append(value)
        floors.append(floor)
        digest.update(np.ascontiguousarray(frame.pixels).tobytes())
    return ZStack(
        x_um=x_um,
        y_um=y_um,
        z_um=z_um,
        sharpness=np.asarray(sharpness),
        noise_floor=float(np.median(floors)),
        digest=digest.hexdigest(),
    )
