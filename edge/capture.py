"""One visit: move, settle, shoot; the frames carry their own times and pose."""

from dataclasses import dataclass

from bifocus.clock import Clock
from bifocus.hal.devices import Camera, Stage
from bifocus.records import FocusPair, Frame, MoveReceipt, StagePosition


@dataclass(slots=True, kw_only=True)
class Waits:
    """Where the time of a scan went, in seconds; grows while the scan runs."""

    approach_s: float = 0.0
    stage_s: float = 0.0
    camera_s: float = 0.0
    fuse_s: float = 0.0


class Microscope:
    """Stage and camera together: shoots at a place and keeps the account of waits."""

    def __init__(self, stage: Stage, camera: Camera, clock: Clock) -> None:
        self.stage = stage
        self.camera = camera
        self.clock = clock
        self.waits = Waits()
        self.shots = 0

    def approach(self, x_um: float, y_um: float, z_um: float) -> None:
        """Go where the scan begins; its time is the way there, not the scan's pace."""
        start_s = self.clock.monotonic_s()
        self.stage.move_to(StagePosition(x_um=x_um, y_um=y_um, z_um=z_um))
        self.waits.approach_s += self.clock.monotonic_s() - start_s

    def shoot(self, x_um: float, y_um: float, z_um: float) -> Frame:
        """Return a frame whose exposure began after the stage had settled there."""
        receipt = self._move(StagePosition(x_um=x_um, y_um=y_um, z_um=z_um))
        start_s = self.clock.monotonic_s()
        frame = self.camera.grab(after=receipt)
        self.waits.camera_s += self.clock.monotonic_s() - start_s
        self.shots += 1
        return frame

    def shoot_pair(
        self, x_um: float, y_um: float, focus_um: float, half_spacing_um: float
    ) -> FocusPair:
        """Shoot at F-dD and then at F+dD: upward, so the second needs no take-up."""
        minus = self.shoot(x_um, y_um, focus_um - half_spacing_um)
        plus = self.shoot(x_um, y_um, focus_um + half_spacing_um)
        return FocusPair(
            minus=minus,
            plus=plus,
            focus_um=focus_um,
            half_spacing_um=half_spacing_um,
        )

    def _move(self, target: StagePosition) -> MoveReceipt:
        start_s = self.clock.monotonic_s()
        receipt = self.stage.move_to(target)
        self.waits.stage_s += self.clock.monotonic_s() - start_s
        return receipt
