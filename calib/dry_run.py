"""What a calibration would take, without any device: pictures, moves and time.

The moves are driven through a virtual stage of the same pace, so that approach and
settling count; how many there are, each step's entry says.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bifocus.calib.focus_search import optics_dof_um
from bifocus.calib.step_table import STEPS, StepEntry, choose_steps
from bifocus.clock import VirtualClock
from bifocus.config import Instrument
from bifocus.hal.virtual_stage import VirtualStage
from bifocus.records import StagePosition

# A stack goes up by a third of the depth of field a plane, and then back to its start.
_PLANE_DOF = 1 / 3
_PLANES = 24
# Across, the field is mostly shifted by a quarter, and nothing is taken up.
_SHIFT_SHARE = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEstimate:
    """Expected cost of one step."""

    step: str
    what: str
    pictures: int
    seconds: float


def estimate_steps(
    config: Instrument,
    only: Sequence[str] = (),
    entries: Sequence[StepEntry] = STEPS,
) -> tuple[StepEstimate, ...]:
    """Return about what each step takes; nothing moves.

    Raises
    ------
    ConfigError
        If a step of `only` is unknown.
    """
    chosen = choose_steps(entries, only) if only else entries
    z_s, xy_s = _seconds_a_picture(config)
    return tuple(
        StepEstimate(
            step=entry.name,
            what=entry.what,
            pictures=entry.z_frames + entry.xy_frames,
            seconds=entry.z_frames * z_s + entry.xy_frames * xy_s,
        )
        for entry in chosen
    )


def _seconds_a_picture(config: Instrument) -> tuple[float, float]:
    """Return the time of a picture after a move along z, and after one across."""
    clock = VirtualClock()
    stage = VirtualStage(config.stage.virtual_twin(), clock=clock, seed=0)
    camera, here = config.camera, stage.position()
    period_s = max(1 / camera.frame_rate_hz, camera.exposure_s)
    frame_s = period_s / 2 + camera.exposure_s + camera.transfer_s
    plane_um = _PLANE_DOF * optics_dof_um(config.optics)
    field_um = config.optics.pixel_um * min(camera.width_px, camera.height_px)
    start_s = clock.monotonic_s()
    for number in range(_PLANES):
        stage.move_to(_moved(here, z_um=number * plane_um))
    z_s = (clock.monotonic_s() - start_s) / _PLANES
    start_s = clock.monotonic_s()
    for number in range(_PLANES):
        stage.move_direct(_moved(here, x_um=(number % 2) * _SHIFT_SHARE * field_um))
    xy_s = (clock.monotonic_s() - start_s) / _PLANES
    return z_s + frame_s, xy_s + frame_s


def _moved(
    here: StagePosition, *, x_um: float = 0.0, z_um: float = 0.0
) -> StagePosition:
    return replace(here, x_um=here.x_um + x_um, z_um=here.z_um + z_um)
