"""Locks exposure, gain and white balance of a V4L2 camera, and reads them back.

OpenCV hands these properties to the kernel's controls unchanged, and reports success
for some that the camera then ignores; so each is read back.
"""

from typing import Protocol

import cv2

from bifocus.camera_config import OpenCvCameraConfig
from bifocus.errors import ConfigError, DeviceError

# linux/v4l2-controls.h: V4L2_EXPOSURE_MANUAL; V4L2_CID_EXPOSURE_ABSOLUTE counts 100 us.
_EXPOSURE_MANUAL = 1
_EXPOSURE_UNIT_S = 1e-4
_READ_BACK = 0.05  # all are whole numbers but the frame rate, such as 29.97


class Properties(Protocol):
    """The two calls of `cv2.VideoCapture` that are used."""

    def get(self, prop: int) -> float: ...  # noqa: D102
    def set(self, prop: int, value: float) -> bool: ...  # noqa: D102


def lock_controls(capture: Properties, config: OpenCvCameraConfig) -> None:
    """Set format, size and rate, switch every automatic off, and read all back.

    Raises
    ------
    DeviceError
        If the camera refuses or ignores one; the text names it.
    """
    fourcc = cv2.VideoWriter.fourcc(*config.pixel_format)
    wanted: list[tuple[str, int, float]] = [
        ("pixel_format", cv2.CAP_PROP_FOURCC, fourcc),
        ("width_px", cv2.CAP_PROP_FRAME_WIDTH, config.width_px),
        ("height_px", cv2.CAP_PROP_FRAME_HEIGHT, config.height_px),
        ("frame_rate_hz", cv2.CAP_PROP_FPS, config.frame_rate_hz),
        ("manual exposure", cv2.CAP_PROP_AUTO_EXPOSURE, _EXPOSURE_MANUAL),
        ("white balance off", cv2.CAP_PROP_AUTO_WB, 0),
        ("white_balance_k", cv2.CAP_PROP_WB_TEMPERATURE, config.white_balance_k),
    ]
    if config.gain is not None:
        wanted.append(("gain", cv2.CAP_PROP_GAIN, config.gain))
    for name, prop, value in wanted:
        _set(capture, name, prop, value)


def set_exposure(capture: Properties, exposure_s: float) -> float:
    """Set the exposure, in the kernel's 100 us, and return the one in force.

    Raises
    ------
    ConfigError
        If it is under half a unit.
    DeviceError
        If the camera refuses it.
    """
    units = round(exposure_s / _EXPOSURE_UNIT_S)
    if units < 1:
        msg = f"exposure_s: V4L2 counts exposure in 0.0001 s, got {exposure_s:g} s"
        raise ConfigError(msg)
    _set(capture, "exposure_s (in 100 us)", cv2.CAP_PROP_EXPOSURE, units)
    return units * _EXPOSURE_UNIT_S


def _set(capture: Properties, name: str, prop: int, value: float) -> None:
    done = capture.set(prop, value)
    found = capture.get(prop)
    if not done or abs(found - value) > _READ_BACK:
        msg = (
            f"the camera does not take {name} = {value:g} (it says {found:g}); compare "
            "with `v4l2-ctl --list-ctrls-menus --list-formats-ext`, or, if it has no "
            "such control and is locked otherwise, use `controls: fixed`"
        )
        raise DeviceError(msg)
