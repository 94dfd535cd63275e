"""What the stage policy asks of a board: one class for each kind of controller.

Places are in the board's own frame, in micrometres; steps, millimetres and tenths of a
micrometre stay inside the class of the board.
"""

from dataclasses import dataclass
from typing import Protocol

from bifocus.hal.take_up import Triple


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardFacts:
    """What a board told about itself when we connected.

    Attributes
    ----------
    identity
        Firmware and version, as the board prints them.
    readback_um
        How far a place read back may be from the true one by its digits alone.
    arrival_um
        How far from its target a move may end and still have arrived.
    can_stop
        Whether a move under way can be ended; else moves are sent in short pieces.
    reports_actual_position
        Whether places come from encoders rather than from counted steps.
    keeps_place_at_reset
        Whether a reset at rest leaves the counts as they were.
    has_manual_control
        Whether a knob or a joystick may move the stage behind our back.
    poll_s
        Shortest time between two questions whether the move has ended.
    """

    identity: str
    readback_um: Triple
    arrival_um: Triple
    can_stop: bool
    reports_actual_position: bool
    keeps_place_at_reset: bool
    has_manual_control: bool
    poll_s: float


class BoardDriver(Protocol):
    """One motion controller behind a `SerialPort`.

    Every method raises `DeviceTimeoutError` for silence, `ProtocolError` for an answer
    that makes no sense, `ReferenceLostError` after a reset or an alarm that loses the
    place, `LinkLostError` when the board is gone, and `DeviceError` for a refusal.
    """

    def connect(self) -> BoardFacts:
        """Identify the board and set its modes; never moves anything.

        Raises
        ------
        ConfigError
            If the board's own settings contradict the instrument file.
        """
        ...

    def duration_s(self, start_um: Triple, target_um: Triple) -> float:
        """Return how long the move takes by the physics of this board."""
        ...

    def start_move(self, start_um: Triple, target_um: Triple) -> None:
        """Send one move, once; return when the board has taken it."""
        ...

    def has_ended(self, until_s: float) -> bool:
        """Return whether all motion has ended; wait for the word until `until_s`."""
        ...

    def read_um(self) -> Triple:
        """Return the place that the board reports now."""
        ...

    def halt(self) -> None:
        """Tell the board to stop, from any thread; does nothing where it cannot."""
        ...

    def resync(self) -> None:
        """Make sure that no older reply is still to come; forget the move waited for.

        A board that answers only when motion has ended is waited for.
        """
        ...

    def home(self, deadline_s: float) -> None:
        """Find the switches, z away from the glass first; return when at rest."""
        ...
