"""What a scan needs of the instrument, and whether measured values prove it. Pure.

Decision rule (ISO 14253-1): conformity is proven when the whole interval value +- U
(k = 2) lies inside the limits, and non-conformity when all of it lies outside; in
between, nothing is proven. Each limit says what a scan would suffer beyond it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bifocus.config import Instrument
from bifocus.optics import Objective, depth_of_field_um
from bifocus.records import Measured

Verdict = Literal["pass", "fail", "not proven", "not measured"]

COVERAGE_FACTOR = 2.0

# Between the two shots of a pair lie some seconds; in this time the glass may creep by
# a fiftieth of a depth of field at NA 0.75.
_PAIR_S = 4.0
_CREEP_UM = 0.02
# Keys of the axes step's facts.
_ONE_WAY = ("repeatability_up", "u_repeatability")


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One limit: of a value, or of its expanded uncertainty.

    `low` and `high` are in the value's own unit; None is no limit on that side.
    """

    key: str
    reason: str
    low: float | None = None
    high: float | None = None
    of: Literal["value", "uncertainty"] = "value"

    def judge(self, measured: Measured | None) -> Verdict:
        """Return what the measured value proves.

        Examples
        --------
        >>> most = Requirement(key="backlash_z_um", high=10.0, reason="")
        >>> [most.judge(Measured(value=v, standard_uncertainty=0.2, method=""))
        ...  for v in (9.5, 9.8, 10.5)]
        ['pass', 'not proven', 'fail']
        """
        if measured is None:
            return "not measured"
        expanded = COVERAGE_FACTOR * measured.standard_uncertainty
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        if self.of == "uncertainty":
            return "pass" if low <= expanded <= high else "fail"
        if low <= measured.value - expanded and measured.value + expanded <= high:
            return "pass"
        if measured.value + expanded < low or measured.value - expanded > high:
            return "fail"
        return "not proven"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A requirement, and what was found about it."""

    requirement: Requirement
    verdict: Verdict


def judge_all(
    values: Mapping[str, Measured], facts: Mapping[str, Any], config: Instrument
) -> tuple[Finding, ...]:
    """Return what is proven about each requirement of a scan.

    Parameters
    ----------
    values
        Measured values under their public keys.
    facts
        By step, what else it found out.
    config
        The instrument file: take-up, settling time, overlap, optics.
    """
    known = {**_one_way(facts), **values}
    findings = [
        Finding(requirement=needed, verdict=needed.judge(known.get(needed.key)))
        for needed in list_requirements(config)
    ]
    trained = facts.get("spacing", {}).get("inside_trained_range")
    if isinstance(trained, bool):
        needed = Requirement(
            key="half_spacing_um",
            reason="the default network was trained for a range of dD; outside it the "
            "scan falls back to physics",
        )
        findings.append(
            Finding(requirement=needed, verdict="pass" if trained else "fail")
        )
    return tuple(findings)


def list_requirements(config: Instrument) -> tuple[Requirement, ...]:
    """Return the limits that follow from the instrument file."""
    return (
        *_focus_limits(config),
        *_motion_limits(config),
        *_geometry_limits(config),
        *_light_limits(),
    )


def _focus_limits(config: Instrument) -> tuple[Requirement, ...]:
    optics, half_um = config.optics, config.scan.half_spacing_um
    field_um = optics.pixel_um * max(config.camera.width_px, config.camera.height_px)
    objective = Objective(
        na=optics.na,
        wavelength_um=optics.wavelengths_um[1],
        refractive_index=optics.refractive_index,
    )
    dof_um = depth_of_field_um(objective, optics.pixel_um)
    return (
        Requirement(
            key="focus_um",
            high=0.2,
            of="uncertainty",
            reason="the first pair starts from F; 0.2 µm is what a pair corrects "
            "without a visible loss",
        ),
        Requirement(
            key="half_spacing_um",
            high=0.05,
            of="uncertainty",
            reason="fusion deconvolves with dD; 0.05 µm is the accuracy asked of it",
        ),
        Requirement(
            key="repeatability_z_um",
            high=half_um / 5,
            reason="both shots scatter by this; a fifth of dD leaves the spacing of a "
            "pair known to 30 %",
        ),
        Requirement(
            key="drift_z_um_per_hour",
            low=-_CREEP_UM / _PAIR_S * 3600,
            high=_CREEP_UM / _PAIR_S * 3600,
            reason=f"in the {_PAIR_S:g} s of a pair, focus may creep by {_CREEP_UM} µm",
        ),
        Requirement(
            key="tilt_mrad",
            high=1e3 * dof_um / field_um,
            reason=f"over one field ({field_um:.0f} µm) the slide may lean by one "
            f"depth of field ({dof_um:.2f} µm)",
        ),
        Requirement(
            key="na",
            low=0.9 * optics.na,
            high=1.1 * optics.na,
            reason="another NA than the instrument file's is another objective",
        ),
    )


def _motion_limits(config: Instrument) -> tuple[Requirement, ...]:
    stage = config.stage
    take_up = tuple(
        Requirement(
            key=f"backlash_{axis}_um",
            high=taken_um,
            reason=f"moves take up {taken_um:g} µm of {axis} (stage.take_up_um); "
            "more play than that stays in the position",
        )
        for axis, taken_um in zip("zxy", _z_first(stage.take_up_um), strict=True)
    )
    settle = tuple(
        Requirement(
            key=f"settle_{axes}_s",
            high=stage.settle_s,
            reason=f"frames wait {stage.settle_s:g} s after a move "
            "(stage.settle_s); what still rings is blurred",
        )
        for axes in ("xy", "z")
    )
    return (*take_up, *settle)


def _geometry_limits(config: Instrument) -> tuple[Requirement, ...]:
    optics, overlap = config.optics, config.scan.overlap
    pixels = min(config.camera.width_px, config.camera.height_px)
    overlap_um = overlap * pixels * optics.pixel_um
    spare = overlap / (1 - overlap) / 4  # a quarter of the overlap, per step
    scales = tuple(
        Requirement(
            key=f"scale_{axis}",
            low=1 - spare,
            high=1 + spare,
            reason="a step that is too long or too short may cost a quarter of the "
            "overlap",
        )
        for axis in "xy"
    )
    places = tuple(
        Requirement(
            key=f"repeatability_{axis}_one_way_um",
            high=overlap_um / 2,  # R is the whole width of +- 2 s
            reason="tiles, always reached from below, may lie a quarter of the "
            f"overlap ({overlap_um:.1f} µm) to either side of their places",
        )
        for axis in "xy"
    )
    return (
        Requirement(
            key="pixel_um",
            low=0.98 * optics.pixel_um,
            high=1.02 * optics.pixel_um,
            reason="fusion and scale bar take the instrument file's pixel size; 2 % "
            "is less than any change of objective",
        ),
        *scales,
        Requirement(
            key="rotation_mrad",
            low=-1e3 * spare,
            high=1e3 * spare,
            reason="a turned camera moves the next tile sideways, by a quarter of the "
            "overlap at most",
        ),
        *places,
    )


def _light_limits() -> tuple[Requirement, ...]:
    whites = tuple(
        Requirement(
            key=f"white_{colour}",
            low=128.0,
            high=250.0,
            reason="glass must use at least half of the range, and not reach its end",
        )
        for colour in "rgb"
    )
    shifts = tuple(
        Requirement(
            key=f"chromatic_shift_{colour}_px",
            high=1.0,
            reason="a colour more than a pixel aside shows as a fringe, which fusion "
            "takes for structure",
        )
        for colour in "rb"
    )
    return (
        *whites,
        Requirement(
            key="dark_level",
            low=-1.0,
            high=16.0,
            reason="dark levels are lost to the signal; more than 16 of 255 is a leak "
            "of light or a wrong black level",
        ),
        Requirement(
            key="saturated_share",
            high=1e-3,
            reason="clipped pixels carry no focus; one in a thousand may be defects",
        ),
        *shifts,
    )


def _one_way(facts: Mapping[str, Any]) -> dict[str, Measured]:
    """Return the repeatability of each axis from below, which is how a scan arrives.

    The axes step gives that of both ways as its value; it holds the play as well.
    """
    found = {}
    for axis in "xy":
        table = facts.get("axes", {}).get(axis, {})
        one_way, u = (table.get(f"{kind}_um") for kind in _ONE_WAY)
        if isinstance(one_way, float) and isinstance(u, float):
            found[f"repeatability_{axis}_one_way_um"] = Measured(
                value=one_way, standard_uncertainty=u, method="axes step, upward runs"
            )
    return found


def _z_first(margins_um: tuple[float, float, float]) -> tuple[float, float, float]:
    return margins_um[2], margins_um[0], margins_um[1]
