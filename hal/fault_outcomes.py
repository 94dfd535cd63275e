"""What has to come of each fault on each board: one table, held by the tests.

`recovered`: no error reaches the caller, and every position told is true. `stopped`:
the call raises one of the errors named, the motion ends, and no later call tells a
place that the board cannot vouch for. Where both are allowed, it depends on the moment
at which the fault strikes. `unknowable`: the protocol cannot tell, so that counts and
motors part in silence; only the picture shows it.

A damaged line while the stage is being opened may also make opening fail, by any error
of ours; then nothing has moved.
"""

from dataclasses import dataclass
from typing import Literal

Family = Literal["sangaboard", "grbl", "marlin", "asi"]
FAMILIES: tuple[Family, ...] = ("sangaboard", "grbl", "marlin", "asi")


@dataclass(frozen=True, slots=True, kw_only=True)
class Required:
    """The outcomes allowed for one fault on one board."""

    may_recover: bool = False
    may_stop_with: tuple[str, ...] = ()
    is_unknowable: bool = False

    @property
    def text(self) -> str:
        """What the printed table says."""
        words = ["recovered"] if self.may_recover else []
        if self.may_stop_with:
            words.append(f"stopped ({', '.join(self.may_stop_with)})")
        if self.is_unknowable:
            words = ["unknowable"]
        return " or ".join(words)


def _stopped(*errors: str) -> Required:
    return Required(may_stop_with=errors)


def _either(*errors: str) -> Required:
    return Required(may_recover=True, may_stop_with=errors)


def _everywhere(required: Required) -> dict[Family, Required]:
    return dict.fromkeys(FAMILIES, required)


_RECOVERED = Required(may_recover=True)
# Only steps without an encoder are lost unseen; the move itself ends as usual.
_UNKNOWABLE = Required(may_recover=True, is_unknowable=True)
_MISSED = "DeviceTimeoutError"
_LOST = "ReferenceLostError"
_GONE = "LinkLostError"
_WRONG = "ProtocolError"
_REFUSED = "DeviceError"

# A command that is damaged may be executed as another one, or swallow the next. Then
# the stage is where nobody sent it, which is found when its place is read.
_DAMAGED_COMMAND: dict[Family, Required] = {
    "sangaboard": _either(_LOST, _MISSED, _REFUSED),
    "grbl": _either(_LOST, _MISSED, _REFUSED),
    # Numbers and checksums find nearly all of it.
    "marlin": _either(_LOST, _MISSED, _WRONG, _REFUSED),
    "asi": _either(_LOST, _MISSED, _REFUSED),
}

REQUIRED: dict[str, dict[Family, Required]] = {
    "drop_reply": _everywhere(_RECOVERED),
    # Under the deadline it is waited for, beyond it the move counts as failed.
    "late_reply": _everywhere(_either(_MISSED, _LOST)),
    "truncate_reply": _everywhere(_RECOVERED),
    "duplicate_reply": _everywhere(_RECOVERED),
    "corrupt_reply": _everywhere(_RECOVERED),
    # A numbered line that is missing is asked for again.
    "drop_command": _DAMAGED_COMMAND | {"marlin": _RECOVERED},
    "truncate_command": _DAMAGED_COMMAND,
    "corrupt_command": _DAMAGED_COMMAND,
    "reset": _everywhere(_stopped(_LOST)),
    "unplug": _everywhere(_stopped(_GONE, _LOST)),
    # For a while it is waited out; for ever it is a deadline missed.
    "stuck_busy": _everywhere(_either(_MISSED)),
    "limit_alarm": {
        "sangaboard": _UNKNOWABLE,  # no switch: the motor stalls
        "grbl": _stopped(_LOST),
        # Both keep their count, and the rest of the way is sent again.
        "marlin": _either(_REFUSED),
        "asi": _either(_REFUSED),
    },
    "lost_steps": {
        "sangaboard": _UNKNOWABLE,
        "grbl": _UNKNOWABLE,
        "marlin": _UNKNOWABLE,
        "asi": _RECOVERED,  # the encoder sees it
    },
    "stale_frame": _everywhere(_RECOVERED),
    "torn_frame": _everywhere(_RECOVERED),
    "black_frame": _everywhere(_RECOVERED),
    "missing_frame": _everywhere(_RECOVERED),
    "camera_death": _everywhere(_stopped(_REFUSED)),
}
