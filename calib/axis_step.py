"""Step `axes`: accuracy, repeatability, periodic error of x and y over the region."""

import logging
from collections.abc import Iterator, Mapping

import numpy as np

from bifocus.calib.axis_report import CAVEAT, FORMULAS, AxisReport, report_axis
from bifocus.calib.axis_survey import AxisSurvey, plan_survey, survey_axis
from bifocus.calib.harmonic import PeriodicError, fit_periodic
from bifocus.calib.sight import AXES, Axis, Sight, focus_place
from bifocus.calib.step_result import Bench, Plot, Series, StepResult
from bifocus.calib.uncertainty import root_sum_square
from bifocus.errors import BlankSlideError, CalibrationError
from bifocus.records import Measured

logger = logging.getLogger(__name__)

# Stretches tried: share of the region along the axis, and where across it; a slide has
# gaps, and a shorter stretch through tissue is better than none.
_STRETCHES = (
    *((1.0, None), (1.0, 0.5), (1.0, 0.3), (1.0, 0.7)),
    *((0.5, None), (0.5, 0.5), (0.25, None)),
)
# Beyond the play, as far as it is known, so that it does not stay open.
_OVER_FACTOR, _OVER_U = 1.25, 3
_OVER_STEPS = 10
# A little over one turn, which is what the harmonic needs.
_TURNS = 1.05

_Ends_um = tuple[float, float]


def measure_axes(bench: Bench, before: Mapping[str, StepResult]) -> StepResult:
    """Survey x and y, and report on each in the style of ISO 230-2.

    Raises
    ------
    CalibrationError
        If step `xy` is missing, or the region leaves no room.
    BlankSlideError
        If no stretch shows texture all along.
    """
    xy = before.get("xy")
    if xy is None:
        msg = "step axes needs step xy, which was left out; run it first"
        raise CalibrationError(msg)
    *place, z_um = focus_place(before, "axes")
    sight = Sight(bench, z_um)
    sight.arrive(place[0], place[1])
    surveys = {axis: _survey(sight, axis, (place[0], place[1]), xy) for axis in AXES}
    reports = {
        axis: report_axis(survey.targets_um, survey.up_um, survey.down_um)
        for axis, survey in surveys.items()
    }
    periodic, warnings = _find_periodic(bench, surveys, xy)
    values: dict[str, Measured] = {}
    for axis in AXES:
        values |= _axis_values(axis, reports[axis], surveys[axis], xy)
        if axis in periodic:
            values[f"periodic_{axis}_um"] = _periodic_value(periodic[axis])
    return StepResult(
        name="axes",
        values=values,
        facts={
            "caveat": CAVEAT,
            "formulas": list(FORMULAS),
            **{axis: _facts(surveys[axis], reports[axis]) for axis in AXES},
            **{
                f"periodic_{axis}": {
                    "turn_um": found.turn_um,
                    "turns": found.turns,
                    "phase_rad": found.phase_rad,
                    "residual_um": found.residual_um,
                }
                for axis, found in periodic.items()
            },
        },
        plots=tuple(_plot(surveys[axis]) for axis in AXES),
        warnings=tuple(warnings),
        raw_sha256=sight.raw_sha256,
    )


def _survey(
    sight: Sight, axis: Axis, place: tuple[float, float], xy: StepResult
) -> AxisSurvey:
    number = AXES.index(axis)
    gap = xy.values[f"backlash_{axis}_um"]
    gap_um = gap.value
    over_um = _OVER_FACTOR * max(gap_um + _OVER_U * gap.standard_uncertainty, 0.0)
    over_um += _OVER_STEPS * sight.bench.config.stage.step_um[number]
    turns_um = sight.bench.config.calibration.motor_turn_um
    turn_um = turns_um[number] if turns_um else None
    failures: list[str] = []
    for ends_um, run_um, cross_um in _stretches(
        sight.bench, axis, place, over_um, _TURNS * (turn_um or 0.0)
    ):
        plan = plan_survey(
            sight,
            axis,
            ends_um=ends_um,
            run_um=run_um,
            cross_um=cross_um,
            turn_um=turn_um,
        )
        try:
            return survey_axis(
                sight,
                plan,
                matrix=np.array(xy.facts["matrix"], np.float64),
                pixel_um=xy.values["pixel_um"].value,
                gap_um=gap_um,
                over_um=over_um,
            )
        except BlankSlideError as error:
            logger.info("%s; trying another stretch", error)
            failures.append(str(error))
    msg = (
        f"axis {axis}: no stretch full of tissue, {len(failures)} tried; {failures[-1]}"
    )
    raise BlankSlideError(msg)


def _stretches(
    bench: Bench,
    axis: Axis,
    place: tuple[float, float],
    over_um: float,
    least_run_um: float,
) -> Iterator[tuple[_Ends_um, _Ends_um, float]]:
    """Yield ends of the targets and of the first run, and the place across, best first.

    Targets stay in the region. The first run, which only looks, goes on to
    `least_run_um` where the travel allows; if no such run shows tissue, it does not.
    """
    number = AXES.index(axis)
    region, limits = bench.region_um, bench.stage.limits
    travel_um = limits.x_um if axis == "x" else limits.y_um
    reach_um = (travel_um[0] + over_um, travel_um[1] - over_um)
    low_um = max(region[number], reach_um[0])
    high_um = min(region[number] + region[number + 2], reach_um[1])
    for run_length_um in dict.fromkeys((least_run_um, 0.0)):
        for share, across in _STRETCHES:
            length_um = share * (high_um - low_um)
            if run_length_um == 0 and length_um > least_run_um > 0:
                continue  # was tried in the first round
            ends_um = _about(place[number], length_um, (low_um, high_um))
            middle_um = sum(ends_um) / 2
            run_um = _about(middle_um, max(length_um, run_length_um), reach_um)
            cross_um = place[1 - number]
            if across is not None:
                cross_um = region[1 - number] + across * region[3 - number]
            yield ends_um, run_um, cross_um


def _about(middle_um: float, length_um: float, within_um: _Ends_um) -> _Ends_um:
    """Return the ends of a stretch about a place, moved to lie within others."""
    low_um, high_um = within_um
    half_um = min(length_um, high_um - low_um) / 2
    middle_um = min(max(middle_um, low_um + half_um), high_um - half_um)
    return middle_um - half_um, middle_um + half_um


def _axis_values(
    axis: Axis, report: AxisReport, survey: AxisSurvey, xy: StepResult
) -> dict[str, Measured]:
    pixel = xy.values["pixel_um"]
    length_u = pixel.standard_uncertainty / pixel.value
    length_um = float(np.ptp(survey.targets_um))
    how = f"ISO 230-2-style, image-based, {survey.targets_um.size} targets over"
    return {
        f"accuracy_{axis}_um": Measured(
            value=report.accuracy_um,
            standard_uncertainty=root_sum_square(
                [report.u_accuracy_um, length_u * length_um]
            ),
            method=f"A (bidirectional): {how} {length_um:.0f} um",
        ),
        f"repeatability_{axis}_um": Measured(
            value=report.repeatability_um,
            standard_uncertainty=root_sum_square(
                [report.u_repeatability_um, length_u * report.repeatability_um]
            ),
            method=f"R (bidirectional, with the reversal): {how} {length_um:.0f} um",
        ),
    }


def _find_periodic(
    bench: Bench, surveys: Mapping[Axis, AxisSurvey], xy: StepResult
) -> tuple[dict[Axis, PeriodicError], list[str]]:
    turns_um = bench.config.calibration.motor_turn_um
    if turns_um is None:
        text = (
            "no periodic error was looked for: calibration.motor_turn_um is not given"
        )
        return {}, [text]
    link_um = float(xy.facts["noise_px"]) * xy.values["pixel_um"].value
    found, warnings = {}, []
    for axis, turn_um in zip(AXES, turns_um, strict=True):
        survey = surveys[axis]
        try:
            found[axis] = fit_periodic(
                survey.places_um,
                survey.deviations_um,
                turn_um=turn_um,
                link_um=link_um,
            )
        except CalibrationError as error:
            warnings.append(f"{axis}: {error}")
    return found, warnings


def _periodic_value(found: PeriodicError) -> Measured:
    return Measured(
        value=found.amplitude_um,
        standard_uncertainty=found.u_um,
        method=(
            f"amplitude of the harmonic of one motor turn ({found.turn_um:g} um), over "
            f"{found.turns:.1f} turns upward; bias of noise taken off"
        ),
    )


def _facts(survey: AxisSurvey, report: AxisReport) -> dict[str, object]:
    return {
        "from_um": float(survey.places_um[0]),
        "to_um": float(survey.places_um[-1]),
        "across_at_um": survey.plan.cross_um,
        **report.as_facts(),
    }


def _plot(survey: AxisSurvey) -> Plot:
    targets = survey.targets_um
    series = [
        Series(
            name="first run",
            x=tuple(survey.places_um.tolist()),
            y=tuple(survey.deviations_um.tolist()),
            style="line",
        )
    ]
    for name, values in (("upward", survey.up_um), ("downward", survey.down_um)):
        series.append(
            Series(
                name=name,
                x=tuple(np.repeat(targets, values.shape[1]).tolist()),
                y=tuple(values.ravel().tolist()),
            )
        )
    return Plot(
        title=f"Deviations of axis {survey.plan.axis}",
        x_label="commanded place (um)",
        y_label="actual less commanded (um)",
        series=tuple(series),
    )
