"""The bench of the conformance kit: open devices, and the small room they may use.

Every target of every check comes from `Bench.at`, so nothing ever goes further from
the place where the stage stood than the envelope says.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Generic, TypeVar

from bifocus.clock import Clock, VirtualClock
from bifocus.errors import BifocusError, ConfigError
from bifocus.hal.conformance_devices import (
    AXES,
    DevicesUnderTest,
    Envelope,
    OpenDevices,
)
from bifocus.hal.devices import Stage
from bifocus.records import StagePosition

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

logger = logging.getLogger(__name__)

_LEAST_STEPS = 20  # an axis with less room than this many steps shows nothing

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended(Generic[ResultT]):
    """How a call ended: with a value, with an error, or not at all (`is_hung`)."""

    value: ResultT | None
    error: BaseException | None
    is_hung: bool
    seconds: float


class Bench:
    """Open devices under test; a context manager. One thread uses it.

    Parameters
    ----------
    open_devices
        Opens the devices; called again by `reopen`.
    envelope
        The room to move in, around where the stage stands when first opened.
    patience_s
        Real seconds that a call may take before it is held to hang.

    Attributes
    ----------
    forgets
        Set by the first check: whether the board counts from zero whenever it is
        opened. Then `reopen` goes back to the middle first.
    is_adrift
        Whether such a board was opened anew away from the middle, so that nobody knows
        any more where the middle is.

    Raises
    ------
    ConfigError
        If the stage stands so near its limits that there is no room.
    """

    def __init__(
        self,
        open_devices: OpenDevices,
        *,
        envelope: Envelope | None = None,
        patience_s: float = 60.0,
    ) -> None:
        self._open_devices = open_devices
        self._envelope = envelope or Envelope()
        self.patience_s = patience_s
        self._session: AbstractContextManager[DevicesUnderTest] | None = None
        self._hung: list[threading.Thread] = []
        self.forgets = False
        self.is_adrift = False

    def __enter__(self) -> "Bench":
        """Open the devices and lay out the room around where the stage stands."""
        self.open()
        try:
            self.centre, self.room = self._lay_out()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the devices."""
        self.close()

    @property
    def stage(self) -> Stage:
        """The open stage."""
        return self.devices.stage

    @property
    def clock(self) -> Clock:
        """The clock that the devices live on."""
        return self.devices.clock

    @property
    def is_virtual_time(self) -> bool:
        """Whether waiting costs no real time."""
        return isinstance(self.clock, VirtualClock)

    @property
    def is_open(self) -> bool:
        """Whether there are devices on the bench."""
        return self._session is not None

    def reopen(self) -> None:
        """Close the devices and open them again."""
        if self.forgets and not self._is_in_the_middle():
            self.is_adrift = True
        self.close()
        self.open()

    def close(self) -> None:
        """Close the devices; may be called twice. Their complaints are only logged."""
        session, self._session = self._session, None
        if session is None:
            return
        try:
            session.__exit__(None, None, None)
        except Exception as error:
            logger.warning("closing the devices raised %r", error)
        while self._hung:
            self._hung.pop().join(self.patience_s)

    def at(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> StagePosition:
        """Return a target inside the room; -1..1 is from one side to the other."""
        shares = (x, y, z)
        if any(abs(share) > 1 for share in shares):
            msg = f"a target outside the envelope was asked for: {shares}"
            raise ValueError(msg)
        places = {
            axis: getattr(self.centre, axis) + share * getattr(self.room, axis)
            for axis, share in zip(AXES, shares, strict=True)
        }
        return StagePosition(**places)

    def where(self) -> StagePosition:
        """Return where the stage is: what the witness says, else the driver."""
        witness = self.devices.witness
        return self.stage.position() if witness is None else witness()

    def slack_um(self, axis: str) -> float:
        """Return how far a sound position may be off: a step, and the witness."""
        step_um = float(getattr(self.stage.capabilities.resolution_um, axis))
        return step_um + self.devices.witness_um + 1e-6

    def miss_um(self, target: StagePosition) -> tuple[str, float]:
        """Return the axis that is furthest from `target`, and by how much too far."""
        here = self.where()
        misses = {
            axis: abs(getattr(here, axis) - getattr(target, axis)) for axis in AXES
        }
        worst = max(AXES, key=lambda axis: misses[axis] - self.slack_um(axis))
        return worst, misses[worst] - self.slack_um(worst)

    def within(
        self, call: Callable[[], ResultT], limit_s: float | None = None
    ) -> Ended[ResultT]:
        """Run a call in a thread of its own and say how it ended.

        The thread of a call that hangs is left behind; `close` waits for it, since
        closing the stage may free it.
        """
        values: list[ResultT] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                values.append(call())
            except BaseException as error:
                errors.append(error)

        clock = self.clock  # the call may open the devices anew, with another
        start_s = clock.monotonic_s()
        thread = threading.Thread(target=run, name="hal-check", daemon=True)
        thread.start()
        thread.join(self.patience_s if limit_s is None else limit_s)
        if thread.is_alive():
            self._hung.append(thread)
        return Ended(
            value=values[0] if values else None,
            error=errors[0] if errors else None,
            is_hung=thread.is_alive(),
            seconds=clock.monotonic_s() - start_s,
        )

    def _is_in_the_middle(self) -> bool:
        """Go back to where the board's zero shall be; tell whether that went well."""
        try:
            self.stage.move_to(self.at())
        except BifocusError as error:
            logger.warning("the stage cannot go back to the middle: %s", error)
            return False
        return True

    def open(self) -> None:
        """Open the devices, which must be closed."""
        session = self._open_devices()
        self.devices = session.__enter__()
        self._session = session

    def _lay_out(self) -> tuple[StagePosition, Envelope]:
        """Return the middle of the room and its half-widths, inside the limits."""
        here, limits = self.stage.position(), self.stage.limits
        centre: dict[str, float] = {}
        room: dict[str, float] = {}
        for axis in AXES:
            low_um, high_um = getattr(limits, axis)
            wanted_um = getattr(self._envelope, axis)
            low_um = max(low_um, getattr(here, axis) - wanted_um)
            high_um = min(high_um, getattr(here, axis) + wanted_um)
            step_um = getattr(self.stage.capabilities.resolution_um, axis)
            if high_um - low_um < _LEAST_STEPS * step_um:
                msg = (
                    f"no room on {axis[0]}: the stage stands at "
                    f"{getattr(here, axis):g} um and may use {low_um:g}..{high_um:g} "
                    f"um; move it away from the end of its travel, or widen "
                    "the envelope"
                )
                raise ConfigError(msg)
            centre[axis], room[axis] = (low_um + high_um) / 2, (high_um - low_um) / 2
        return StagePosition(**centre), Envelope(**room)
