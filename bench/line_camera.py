"""A quick camera over a target of crossed lines, drawn from their equation.

The stage is the virtual one, with all its faults; only the picture is made without
optics, so that hundreds of calibrations take seconds.
"""

import numpy as np

from bifocus.clock import VirtualClock
from bifocus.config import Instrument
from bifocus.hal.devices import CameraCapabilities
from bifocus.hal.virtual_stage import VirtualStage
from bifocus.records import Frame, MoveReceipt, StagePosition

_NOISE_LEVELS = 2.0
_SOFT_UM = 0.2  # of the lines' edges: about what NA 0.75 leaves
_EXPOSURE_S = 0.01


class LineCamera:
    """Delivers at once; a frame shows the moment at which its exposure begins."""

    def __init__(
        self,
        stage: VirtualStage,
        config: Instrument,
        *,
        clock: VirtualClock,
        pitch_um: float,
        seed: int,
    ) -> None:
        self._stage = stage
        self._clock = clock
        self._pitch_um = pitch_um
        self._rng = np.random.default_rng(seed)
        hidden = config.virtual_optics
        pixel_um = hidden.pixel_um or config.optics.pixel_um
        side = config.camera.width_px
        angle = 1e-3 * hidden.rotation_mrad
        across = (np.arange(side) - side / 2) * pixel_um
        right, down = np.meshgrid(across, across)
        # The camera is turned from x towards y: its right is (cos, sin) of the stage.
        self._x_um = np.cos(angle) * right - np.sin(angle) * down
        self._y_um = np.sin(angle) * right + np.cos(angle) * down
        self._number = 0
        self.capabilities = CameraCapabilities(
            kind="virtual",
            identity="lines",
            simulated=True,
            width_px=side,
            height_px=side,
        )

    def configure(self, *, exposure_s: float) -> None:
        """Do nothing: lines are as bright as they are."""

    def close(self) -> None:
        """Do nothing."""

    def grab(self, after: MoveReceipt | None = None) -> Frame:
        """Return the picture (rows, columns) after a move has settled."""
        if after is not None:
            self._clock.sleep(after.settled_s - self._clock.monotonic_s())
        start_s = self._clock.monotonic_s()
        self._clock.sleep(_EXPOSURE_S)
        pose = self._stage.true_pose_at(start_s)
        light = self._clear(self._x_um + pose.x_um) * self._clear(
            self._y_um + pose.y_um
        )
        levels = 220 * light + self._rng.normal(0, _NOISE_LEVELS, light.shape)
        self._number += 1
        return Frame(
            pixels=np.clip(np.round(levels), 0, 255).astype(np.uint8),
            exposure_start_s=start_s,
            exposure_end_s=start_s + _EXPOSURE_S,
            pose=StagePosition(x_um=pose.x_um, y_um=pose.y_um, z_um=pose.z_um),
            sequence_number=self._number,
        )

    def _clear(
        self, place_um: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        """Return the light that one set of lines lets through; a fifth is chromium."""
        turn = place_um / self._pitch_um
        distance_um = np.abs(turn - np.round(turn)) * self._pitch_um
        edge = (distance_um - 0.1 * self._pitch_um) / _SOFT_UM
        return np.asarray(1 - 0.9 / (1 + np.exp(np.minimum(edge, 50))), np.float64)
