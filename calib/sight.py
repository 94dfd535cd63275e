"""Go to a place and look: what the steps that compare pictures have in common."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from bifocus.calib.image_shift import prepare_picture
from bifocus.calib.step_result import Bench, StepResult
from bifocus.calib.zstack import check_targets
from bifocus.errors import CalibrationError
from bifocus.hal.devices import DirectStage
from bifocus.records import FloatImage, Frame, MoveReceipt, StagePosition, UInt8Image

GREEN = 1  # Haematoxylin and eosin both absorb it, and a Bayer sensor has most of it.

Axis = Literal["x", "y"]
AXES: tuple[Axis, Axis] = ("x", "y")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """One picture and the place that the stage reports for it.

    `green` is (rows, columns) uint8, `picture` what is compared of it.
    """

    x_um: float
    y_um: float
    green: UInt8Image
    picture: FloatImage
    frame: Frame

    def along(self, axis: Axis) -> float:
        """Return the reported place on one axis."""
        return self.x_um if axis == "x" else self.y_um


class Sight:
    """Moves at one height, straight and without take-up, and keeps the pixels' digest.

    Raises
    ------
    CalibrationError
        If the stage cannot move straight: its backlash cannot be measured.
    """

    def __init__(self, bench: Bench, z_um: float) -> None:
        stage = bench.stage
        if not isinstance(stage, DirectStage):
            msg = (
                f"stage '{stage.capabilities.identity}' always takes up backlash on "
                "its way; measuring it needs a driver with `move_direct`"
            )
            raise CalibrationError(msg)
        self.bench = bench
        self.z_um = z_um
        self._stage: DirectStage = stage
        self._digest = hashlib.sha256()
        self.n_frames = 0

    @property
    def field_px(self) -> int:
        """The shorter side of the picture."""
        seen = self.bench.camera.capabilities
        return min(seen.width_px, seen.height_px)

    @property
    def raw_sha256(self) -> str:
        """Digest of all pixels seen so far."""
        return self._digest.hexdigest()

    def at(self, x_um: float, y_um: float) -> StagePosition:
        """Return the target at a place."""
        return StagePosition(x_um=x_um, y_um=y_um, z_um=self.z_um)

    def check(self, places: list[tuple[float, float]]) -> None:
        """Refuse places out of reach, before the stage goes to the first of them."""
        check_targets(self.bench.stage, [self.at(*place) for place in places])

    def arrive(self, x_um: float, y_um: float) -> MoveReceipt:
        """Go there as a scan does, taking up backlash, also in z."""
        return self._stage.move_to(self.at(x_um, y_um))

    def go(self, x_um: float, y_um: float) -> MoveReceipt:
        """Go there straight, without looking."""
        return self._stage.move_direct(self.at(x_um, y_um))

    def look(self, x_um: float, y_um: float) -> Sighting:
        """Go there straight, and look."""
        return self.see(self.go(x_um, y_um))

    def see(self, receipt: MoveReceipt, *, delay_s: float | None = None) -> Sighting:
        """Take the first picture begun after a move; `delay_s` replaces its settling.

        The delay counts from the end of the motion.
        """
        if delay_s is not None:
            receipt = replace(receipt, settled_s=receipt.end_s + delay_s)
        frame = self.bench.camera.grab(after=receipt)
        self._digest.update(np.ascontiguousarray(frame.pixels).tobytes())
        self.n_frames += 1
        pixels = frame.pixels
        green = pixels if pixels.ndim == 2 else pixels[..., GREEN]
        return Sighting(
            x_um=receipt.reported.x_um,
            y_um=receipt.reported.y_um,
            green=np.ascontiguousarray(green),
            picture=prepare_picture(green),
            frame=frame,
        )


def focus_place(
    before: Mapping[str, StepResult], step: str
) -> tuple[float, float, float]:
    """Return x, y and z of the place in focus that calibration has found.

    Raises
    ------
    CalibrationError
        If there is no such result.
    """
    focus = before.get("focus")
    if focus is None:
        msg = f"step {step} needs step focus, which was left out; run it first"
        raise CalibrationError(msg)
    return (
        float(focus.facts["x_um"]),
        float(focus.facts["y_um"]),
        focus.values["focus_um"].value,
    )
