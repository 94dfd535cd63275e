"""What a tile's line in the journal says beside plain numbers: light, poses, trace."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from bifocus.edge.shots import Attempt
from bifocus.records import StagePosition
from bifocus.transfer import Light


def write_light(light: Light | None) -> str | None:
    """Return light as JSON; None for none."""
    return None if light is None else json.dumps(asdict(light))


def read_light(text: str | None) -> Light | None:
    """Return the light that `write_light` wrote.

    Examples
    --------
    >>> read_light(write_light(Light(condenser=0.1)))
    Light(condenser=0.1, phase_ratio=0.0, spherical_waves=0.0, pupil='paraxial')
    """
    return None if text is None else Light(**json.loads(text))


def write_poses(poses: Sequence[StagePosition]) -> str | None:
    """Return true poses, one for each shot, as JSON; None for none."""
    return json.dumps([asdict(pose) for pose in poses]) if poses else None


def read_poses(text: str | None) -> tuple[StagePosition, ...]:
    """Return the poses that `write_poses` wrote."""
    found: list[dict[str, Any]] = json.loads(text) if text else []
    return tuple(StagePosition(**pose) for pose in found)


def write_trace(trace: Sequence[Attempt]) -> str:
    """Return the trace of decisions as JSON."""
    return json.dumps([asdict(attempt) for attempt in trace])


def read_trace(text: str) -> tuple[Attempt, ...]:
    """Return the trace that `write_trace` wrote."""
    return tuple(Attempt(**attempt) for attempt in json.loads(text))
