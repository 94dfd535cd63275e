"""Fault plans: what goes wrong, and when, on the wire, in the mechanics, in the camera.

A plan is a YAML file; the same plan and seed give the same run::

    version: 1
    faults:
      - {fault: drop_reply, at: 12}          # the 13th line that the board sends
      - {fault: truncate_command, at: 3}     # the 4th write of the host
      - {fault: reset, at: 5, progress: 0.4} # in the 6th move, 40 % of its time gone
      - {fault: unplug, at: 6, back_after_s: 2.0}
      - {fault: lost_steps, at: 8, axis: z, steps: 12}
      - {fault: black_frame, at: 2}          # the 3rd frame that the camera delivers
"""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import yaml
from pydantic import Field

from bifocus.config_model import Model, parse_model
from bifocus.errors import ConfigError

LineFaultKind = Literal[
    "drop_reply",
    "truncate_reply",
    "duplicate_reply",
    "corrupt_reply",
    "drop_command",
    "truncate_command",
    "corrupt_command",
]
FrameFaultKind = Literal["stale_frame", "torn_frame", "black_frame", "missing_frame"]
Count = Annotated[int, Field(ge=0, le=1_000_000)]
Progress = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, le=3600)]


class LineFault(Model):
    """One line of either direction is lost, cut, doubled, or has one byte changed."""

    fault: LineFaultKind
    at: Count


class LateReply(Model):
    """One line of the board, and all behind it, come late."""

    fault: Literal["late_reply"] = "late_reply"
    at: Count
    delay_s: Seconds = 0.5


class Reset(Model):
    """The board restarts in the middle of a move."""

    fault: Literal["reset"] = "reset"
    at: Count
    progress: Progress = 0.5


class Unplug(Model):
    """The cable comes off in a move, which goes on; it may come back."""

    fault: Literal["unplug"] = "unplug"
    at: Count
    progress: Progress = 0.5
    back_after_s: Seconds | None = 1.0


class StuckBusy(Model):
    """The board takes its motors to be busy long after the move; None: for ever."""

    fault: Literal["stuck_busy"] = "stuck_busy"
    at: Count
    duration_s: Seconds | None = None


class LimitAlarm(Model):
    """A limit switch closes in the middle of a move."""

    fault: Literal["limit_alarm"] = "limit_alarm"
    at: Count
    progress: Progress = 0.5


class LostSteps(Model):
    """The motor of one axis falls short of its move by some steps."""

    fault: Literal["lost_steps"] = "lost_steps"
    at: Count
    axis: Literal["x", "y", "z"] = "z"
    steps: Annotated[int, Field(ge=1, le=1_000_000)] = 10


class FrameFault(Model):
    """One frame is old, torn, black, or does not come at all."""

    fault: FrameFaultKind
    at: Count


class CameraDeath(Model):
    """The camera is gone from this frame on."""

    fault: Literal["camera_death"] = "camera_death"
    at: Count


BoardFault = LineFault | LateReply | Reset | Unplug | StuckBusy | LimitAlarm | LostSteps
CameraFault = FrameFault | CameraDeath
Fault = Annotated[BoardFault | CameraFault, Field(discriminator="fault")]


class FaultPlan(Model):
    """Everything that is to go wrong in one run."""

    version: Literal[1] = 1
    faults: tuple[Fault, ...] = ()

    def board_faults(self) -> tuple[BoardFault, ...]:
        """Return the faults of wire and mechanics."""
        return tuple(f for f in self.faults if not isinstance(f, CameraFault))

    def camera_faults(self) -> tuple[CameraFault, ...]:
        """Return the faults of the camera."""
        return tuple(f for f in self.faults if isinstance(f, CameraFault))


def load_fault_plan(path: Path) -> FaultPlan:
    """Read and check a fault plan.

    Raises
    ------
    ConfigError
        If the file cannot be read, is no YAML, or names an unknown fault or key.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        msg = f"{path}: cannot read the fault plan: {error}"
        raise ConfigError(msg) from error
    return parse_model(FaultPlan, document, source=str(path))


def random_fault_plan(rng: np.random.Generator, *, most: int = 3) -> FaultPlan:
    """Draw a plan of one to `most` faults of any kind, early enough for a short run.

    Half of the drawn plans have a single fault, so that its effect can be told.
    """
    count = 1 if rng.random() < 0.5 else int(rng.integers(1, most + 1))
    return FaultPlan(faults=tuple(_random_fault(rng) for _ in range(count)))


def _random_fault(rng: np.random.Generator) -> BoardFault | CameraFault:
    kind = str(rng.choice(FAULT_KINDS))
    line, move, frame = (int(n) for n in rng.integers((60, 12, 24)))
    progress = float(rng.random())
    seconds = float(rng.choice([0.05, 0.5, 3.0, 30.0]))
    values: dict[str, object] = {"fault": kind, "at": line}
    if kind == "late_reply":
        values |= {"delay_s": seconds}
    elif kind in ("reset", "limit_alarm"):
        values |= {"at": move, "progress": progress}
    elif kind == "unplug":
        back = None if rng.random() < 0.3 else seconds
        values |= {"at": move, "progress": progress, "back_after_s": back}
    elif kind == "stuck_busy":
        values |= {"at": move, "duration_s": None if rng.random() < 0.5 else seconds}
    elif kind == "lost_steps":
        axis = str(rng.choice(["x", "y", "z"]))
        values |= {"at": move, "axis": axis, "steps": int(rng.integers(1, 200))}
    elif kind.endswith("_frame") or kind == "camera_death":
        values |= {"at": frame}
    return FaultPlan.model_validate({"faults": (values,)}).faults[0]


FAULT_KINDS: tuple[str, ...] = (
    "drop_reply",
    "late_reply",
    "truncate_reply",
    "duplicate_reply",
    "corrupt_reply",
    "drop_command",
    "truncate_command",
    "corrupt_command",
    "reset",
    "unplug",
    "stuck_busy",
    "limit_alarm",
    "lost_steps",
    "stale_frame",
    "torn_frame",
    "black_frame",
    "missing_frame",
    "camera_death",
)
