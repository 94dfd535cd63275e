"""What a stage and a camera must do, and the rules that every driver keeps.

The rules, each from a failure seen on real scanners: connecting never moves; a target
outside the limits raises `OutOfTravelError` before anything is sent; every wait ends;
a relative move is never blindly retried; `grab(after=receipt)` returns only a frame
whose exposure began after motion and settling had ended.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from bifocus.records import Frame, MoveReceipt, StagePosition, UInt8Image


@dataclass(frozen=True, slots=True, kw_only=True)
class StageLimits:
    """Safe travel of each axis in micrometres, ends included."""

    x_um: tuple[float, float]
    y_um: tuple[float, float]
    z_um: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCapabilities:
    """What this stage can promise, so that nobody has to guess.

    `needs_home` says that moves are refused until `home` was called since opening.
    """

    kind: str
    identity: str
    simulated: bool
    can_stop: bool
    reports_actual_position: bool
    resolution_um: StagePosition
    may_move_on_open: bool = False
    needs_home: bool = False


class Stage(Protocol):
    """A motorised XYZ stage; positions in micrometres, one thread owns its motion."""

    @property
    def limits(self) -> StageLimits:
        """Safe travel; constant while the stage is open."""
        ...

    @property
    def capabilities(self) -> StageCapabilities:
        """What the stage can do; constant while the stage is open."""
        ...

    def position(self) -> StagePosition:
        """Return the position that the controller reports now."""
        ...

    def move_to(self, position: StagePosition, wait: bool = True) -> MoveReceipt:
        """Move to an absolute position, taking up backlash; return when settled.

        With `wait=False` the call returns when the move has begun and the receipt's
        `end_s` and `settled_s` are the predicted times.

        Raises
        ------
        OutOfTravelError
            If the target is outside `limits`; nothing has moved.
        DeviceTimeoutError
            If the move did not end by its deadline; the stage was told to stop.
        """
        ...

    def stop(self) -> None:
        """Stop all motion now; safe from any thread, and when nothing moves."""
        ...

    def home(self) -> MoveReceipt:
        """Find the reference, Z away from the glass first."""
        ...

    def close(self) -> None:
        """Release the device; may be called twice, never moves."""
        ...


@runtime_checkable
class DirectStage(Stage, Protocol):
    """A stage that can also move without taking up backlash, so that it be measured.

    All stages of this package can; `isinstance(stage, DirectStage)` tells for others.
    """

    def move_direct(self, position: StagePosition, wait: bool = True) -> MoveReceipt:
        """Move straight to an absolute position, whatever gap that leaves open.

        Everything else is as with `move_to`: same limits, same receipt, same errors.
        The next `move_to` knows that the axes that moved are no longer engaged.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraCapabilities:
    """The camera's fixed facts."""

    kind: str
    identity: str
    simulated: bool
    width_px: int
    height_px: int


class Camera(Protocol):
    """A colour camera whose exposure and white balance are locked."""

    @property
    def capabilities(self) -> CameraCapabilities:
        """Size and identity; constant while the camera is open."""
        ...

    def configure(self, *, exposure_s: float) -> None:
        """Lock the exposure time.

        Raises
        ------
        ConfigError
            If `exposure_s` is not positive or longer than the camera allows.
        """
        ...

    def grab(self, after: MoveReceipt | None = None) -> Frame:
        """Return one frame.

        With a receipt, only a frame whose exposure began at or after `settled_s`
        is returned; older frames in the camera's queue are thrown away and counted.

        Raises
        ------
        DeviceTimeoutError
            If no such frame came before the deadline.
        """
        ...

    def close(self) -> None:
        """Release the camera; may be called twice."""
        ...


Lend = Callable[[], UInt8Image]
"""Gives an array of the camera's frame shape, (rows, columns, 3), and never waits."""


@runtime_checkable
class BorrowingCamera(Protocol):
    """A camera that develops its frames into memory that somebody lends it.

    So a frame is written where a GPU fetches it, and no frame allocates. A lent array
    is the receiver's as any other frame is; one thrown away needs no word.
    """

    def borrow_from(self, lend: Lend | None) -> None:
        """Take the memory of each frame from `lend` from now on; None: make it."""
        ...


class PendingFrame(Protocol):
    """A frame that is exposed, and still on its way."""

    @property
    def exposure_end_s(self) -> float:
        """When its exposure ends: from then on the stage may move."""
        ...

    def get(self) -> Frame:
        """Wait for the frame; call it once, and in the order of the exposures.

        Raises
        ------
        DeviceError
            If the camera was closed meanwhile.
        """
        ...


@runtime_checkable
class EarlyCamera(Protocol):
    """A camera that can promise when an exposure ends, before the frame is there.

    What reads out slowly then does so while the stage moves on. Only for cameras that
    know the end for certain: a frame that was exposed in motion must not pass.
    """

    def begin(self, after: MoveReceipt) -> PendingFrame:
        """Choose the first exposure at or after `settled_s`, and return at once.

        Raises
        ------
        DeviceTimeoutError
            As `Camera.grab`.
        """
        ...
