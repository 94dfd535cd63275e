"""The steps of calibration in their order, and what each needs to have been done."""

from collections.abc import Sequence
from dataclasses import dataclass

from bifocus.calib.axis_step import measure_axes
from bifocus.calib.focus_step import measure_focus
from bifocus.calib.illumination_step import measure_illumination
from bifocus.calib.optics_step import measure_optics
from bifocus.calib.settling_step import measure_settling
from bifocus.calib.spacing_step import measure_spacing
from bifocus.calib.step_result import Step
from bifocus.calib.tilt_step import measure_tilt
from bifocus.calib.xy_step import measure_xy
from bifocus.calib.z_mechanics import measure_z_mechanics
from bifocus.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEntry:
    """One step of the procedure.

    Attributes
    ----------
    needs
        Steps without whose result this one is left out.
    uses
        Steps whose result it takes where there is one.
    is_essential
        Without it there is no profile.
    z_frames, xy_frames
        About how many pictures it takes after moves along z, and across the slide:
        for the estimate of a dry run.
    what
        What it finds out, for people.
    """

    name: str
    run: Step
    what: str
    z_frames: int
    xy_frames: int
    needs: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    is_essential: bool = False


STEPS: tuple[StepEntry, ...] = (
    StepEntry(
        name="focus",
        run=measure_focus,
        what="best focus of a place with texture",
        z_frames=130,
        xy_frames=2,
        is_essential=True,
    ),
    StepEntry(
        name="z",
        run=measure_z_mechanics,
        what="play, repeatability and drift of the focus drive",
        z_frames=230,
        xy_frames=0,
        needs=("focus",),
    ),
    StepEntry(
        name="xy",
        run=measure_xy,
        what="pixel, scale, rotation and play across the slide",
        z_frames=0,
        xy_frames=82,
        needs=("focus",),
    ),
    StepEntry(
        name="axes",
        run=measure_axes,
        what="accuracy of x and y over the region, ISO 230-2 style",
        z_frames=0,
        xy_frames=135,
        needs=("focus", "xy"),
    ),
    StepEntry(
        name="settling",
        run=measure_settling,
        what="how long the picture moves after a move",
        z_frames=70,
        xy_frames=70,
        needs=("focus",),
    ),
    StepEntry(
        name="tilt",
        run=measure_tilt,
        what="focus surface of the loaded slide",
        z_frames=162,
        xy_frames=10,
        needs=("focus",),
        uses=("z", "xy"),
    ),
    StepEntry(
        name="illumination",
        run=measure_illumination,
        what="the lamp's falloff and colour, dark level, noise",
        z_frames=0,
        xy_frames=36,
        needs=("focus",),
    ),
    StepEntry(
        name="optics",
        run=measure_optics,
        what="NA, aberration, light and colour shift; the offset read-out",
        z_frames=22,
        xy_frames=0,
        needs=("focus",),
        uses=("illumination",),
    ),
    StepEntry(
        name="spacing",
        run=measure_spacing,
        what="half-spacing dD of the two shots",
        z_frames=105,
        xy_frames=0,
        needs=("focus",),
        uses=("z", "optics"),
        is_essential=True,
    ),
)

BRIEF = ("focus", "illumination", "spacing")
"""What a scan without a profile measures first, and the demo."""


def choose_steps(
    entries: Sequence[StepEntry], names: Sequence[str]
) -> tuple[StepEntry, ...]:
    """Return the named steps in the order of the procedure.

    Raises
    ------
    ConfigError
        If a name is unknown.
    """
    known = [entry.name for entry in entries]
    unknown = [name for name in names if name not in known]
    if unknown:
        msg = f"no calibration step '{unknown[0]}'; choose from {', '.join(known)}"
        raise ConfigError(msg)
    return tuple(entry for entry in entries if entry.name in names)
