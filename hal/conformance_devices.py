"""What the conformance kit needs to be given: open devices, room to move, a cable.

A real stage is opened with its limits narrowed to the room, so that a driver that
ignores its limits cannot go further (`conformance_instrument`).
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from bifocus.clock import Clock
from bifocus.errors import ConfigError
from bifocus.hal.devices import Camera, Stage
from bifocus.records import StagePosition

AXES = ("x_um", "y_um", "z_um")


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """How far from its place the stage may go, to both sides of each axis, in um."""

    x_um: float = 100.0
    y_um: float = 100.0
    z_um: float = 20.0

    def __post_init__(self) -> None:
        """Refuse what is no distance."""
        for axis in AXES:
            value_um = getattr(self, axis)
            if not (math.isfinite(value_um) and value_um > 0):
                msg = f"envelope {axis} must be over 0 um, got {value_um:g}"
                raise ConfigError(msg)


class WireFaults(Protocol):
    """A hand on the cable between driver and board; `mend` takes every fault away."""

    def sent(self) -> Sequence[bytes]:
        """Return the commands that the driver has sent so far."""
        ...

    def lose_reply(self, nth: int) -> None:
        """Let the board act on the nth command from now, and lose what it answers."""
        ...

    def refuse(self, nth: int) -> None:
        """Keep the nth command from the board; answer with the board's own error."""
        ...

    def silence(self, nth: int = 1) -> None:
        """From the nth command from now let nothing through in either direction."""
        ...

    def unplug(self) -> None:
        """Pull the cable: reading and writing fail."""
        ...

    def mend(self) -> None:
        """Make the cable whole again."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicesUnderTest:
    """What stands on the bench.

    `witness` is a second opinion on where the stage is (an encoder, or a simulation's
    truth), good to `witness_um`; without one the driver's own `position` is believed.
    `pixel_um` is the size of a camera pixel on the glass.
    """

    stage: Stage
    clock: Clock
    camera: Camera | None = None
    pixel_um: float | None = None
    witness: Callable[[], StagePosition] | None = None
    witness_um: float = 0.0
    wire: WireFaults | None = None


OpenDevices = Callable[[], AbstractContextManager[DevicesUnderTest]]
