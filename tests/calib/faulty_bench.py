"""Stages and cameras with the faults that calibration must name."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from bifocus.hal.devices import Camera, Stage
from bifocus.records import Frame, MoveReceipt, StagePosition
from tests.scanner import RecordingCamera, RecordingStage

Picture = npt.NDArray[np.uint8]


class StuckStage(RecordingStage):
    """Reports every move as done, but one axis never leaves its place."""

    def __init__(self, stage: Stage, axis: str) -> None:
        super().__init__(stage)
        self._key = f"{axis}_um"
        self._at_um = getattr(stage.position(), self._key)

    def move_to(self, position: StagePosition, wait: bool = True) -> MoveReceipt:
        truly = replace(position, **{self._key: self._at_um})
        receipt = super().move_to(truly, wait)
        return replace(receipt, commanded=position, reported=position)


class ChangedCamera(RecordingCamera):
    """Delivers other pictures than the camera sees."""

    def __init__(self, camera: Camera, change: Callable[[Picture], Picture]) -> None:
        super().__init__(camera)
        self._change = change

    def grab(self, after: MoveReceipt | None = None) -> Frame:
        frame = super().grab(after)
        return replace(frame, pixels=self._change(frame.pixels))


def lamp_off(pixels: Picture) -> Picture:
    """Read noise alone."""
    rng = np.random.default_rng(int(pixels.sum()))
    return np.asarray(rng.integers(0, 4, pixels.shape), dtype=np.uint8)


def too_bright(pixels: Picture) -> Picture:
    """Twice the light: glass and thin tissue are at the upper end."""
    return np.asarray(np.minimum(pixels.astype(np.uint16) * 2, 255), dtype=np.uint8)


class Frozen:
    """The first picture, for ever."""

    def __init__(self) -> None:
        self._first: Picture | None = None

    def __call__(self, pixels: Picture) -> Picture:
        if self._first is None:
            self._first = pixels
        return self._first
