"""Visit targets along an axis again and again, from both sides, by image shifts.

The first upward run looks every fraction of a field, so that successive pictures
overlap and every place is known against the first. The pictures at the targets are
kept: all later arrivals are compared with these, and errors do not add up.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bifocus.calib.axis_report import RUNS
from bifocus.calib.image_shift import check_shift, measure_shift
from bifocus.calib.sight import AXES, Axis, Sight, Sighting
from bifocus.errors import CalibrationError

Float64 = npt.NDArray[np.float64]

_TARGETS = 5  # the fewest that the standard allows
# A random part of the distance between targets, kept off its ends.
_RANDOM_PART = (0.1, 0.9)
# Overlap of successive pictures, and places per motor turn.
_STEP_SHARE = 0.3
_PER_TURN = 10
_SEARCH_SHARE = 0.12


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisPlan:
    """Commanded places of one axis, ascending; `targets` are indices into `places_um`.

    `cross_um` is where the other axis stands.
    """

    axis: Axis
    places_um: Float64
    targets: tuple[int, ...]
    cross_um: float

    def at(self, place_um: float) -> tuple[float, float]:
        """Return x and y of a place."""
        if self.axis == "x":
            return place_um, self.cross_um
        return self.cross_um, place_um


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisSurvey:
    """Deviations, actual less reported place, in true um.

    `places_um` and `deviations_um` are of the first upward run, (n,); `up_um` and
    `down_um` are those of the targets, (targets, runs).
    """

    plan: AxisPlan
    places_um: Float64
    deviations_um: Float64
    targets_um: Float64
    up_um: Float64
    down_um: Float64


def plan_survey(
    sight: Sight,
    axis: Axis,
    *,
    ends_um: tuple[float, float],
    run_um: tuple[float, float],
    cross_um: float,
    turn_um: float | None,
) -> AxisPlan:
    """Return targets P_i = (i - 1) p + r over a stretch, and places of the first run.

    Parameters
    ----------
    ends_um
        Between these the targets lie.
    run_um
        Ends of the first run, no narrower: it may go on to a whole motor turn.

    Raises
    ------
    CalibrationError
        If the stretch is shorter than a quarter field.
    """
    low_um, high_um = ends_um
    length_um = high_um - low_um
    field_um = sight.field_px * sight.bench.config.optics.pixel_um
    if length_um < field_um / 4:
        msg = (
            f"axis {axis}: a stretch of {max(length_um, 0):.1f} um is left to survey, "
            f"at least {field_um / 4:.1f} um are needed; choose a wider region"
        )
        raise CalibrationError(msg)
    rng = np.random.default_rng([sight.bench.config.seed, AXES.index(axis), 0xA7E5])
    pitch_um = length_um / _TARGETS
    random = rng.uniform(*_RANDOM_PART, _TARGETS)
    targets_um = low_um + pitch_um * (np.arange(_TARGETS) + random)
    step_um = _STEP_SHARE * field_um
    if turn_um is not None:
        step_um = min(step_um, turn_um / _PER_TURN)
    count = int(np.ceil((run_um[1] - run_um[0]) / step_um)) + 1
    between = np.linspace(*run_um, count)
    places_um = np.unique(np.concatenate([between, targets_um]))
    found = np.searchsorted(places_um, targets_um)
    return AxisPlan(
        axis=axis,
        places_um=np.asarray(places_um, np.float64),
        targets=tuple(int(index) for index in found),
        cross_um=cross_um,
    )


def survey_axis(
    sight: Sight,
    plan: AxisPlan,
    *,
    matrix: Float64,
    pixel_um: float,
    gap_um: float,
    over_um: float,
) -> AxisSurvey:
    """Make the runs of a plan.

    Parameters
    ----------
    matrix
        True um of the field in the picture per commanded um, columns x and y.
    pixel_um
        Of step xy.
    gap_um
        Play of the axis, and `over_um` how far to overshoot to close it.

    Raises
    ------
    BlankSlideError
        If the pictures do not show where the field is.
    """
    column = matrix[:, AXES.index(plan.axis)]
    unit = column / np.linalg.norm(column)
    search_px = _SEARCH_SHARE * sight.field_px
    first = _first_run(sight, plan, column / pixel_um, over_um, search_px)
    seen = [sighting for sighting, _ in first]
    field_um = np.array([position @ unit for _, position in first]) * pixel_um
    places_um = np.array([sighting.along(plan.axis) for sighting in seen])
    deviations_um = field_um - (places_um - places_um[0])
    up = {number: [float(deviations_um[number])] for number in plan.targets}
    down: dict[int, list[float]] = {number: [] for number in plan.targets}
    for run in range(2 * RUNS - 1):
        side = 1 if run % 2 == 0 else -1  # the first run has gone up
        order = plan.targets[::-1] if side > 0 else plan.targets
        edge_um = plan.places_um[order[0]] + side * over_um
        sight.go(*plan.at(float(edge_um)))
        for number in order:
            here = sight.look(*plan.at(float(plan.places_um[number])))
            expected = column / pixel_um * (gap_um if side > 0 else 0.0)
            shift = measure_shift(
                seen[number].picture,
                here.picture,
                expected_px=expected,
                search_px=search_px,
            )
            check_shift(shift, _where(plan, number))
            moved_um = float(shift.vector_px @ unit) * pixel_um
            told_um = here.along(plan.axis) - float(places_um[number])
            found = down if side > 0 else up
            found[number].append(float(deviations_um[number]) + moved_um - told_um)
    return AxisSurvey(
        plan=plan,
        places_um=places_um,
        deviations_um=deviations_um,
        targets_um=places_um[list(plan.targets)],
        up_um=np.array([up[number] for number in plan.targets]),
        down_um=np.array([down[number] for number in plan.targets]),
    )


def _first_run(
    sight: Sight,
    plan: AxisPlan,
    column_px: Float64,
    over_um: float,
    search_px: float,
) -> list[tuple[Sighting, Float64]]:
    """Go up through all places; return each picture and where the field was, in px."""
    first_um = float(plan.places_um[0])
    sight.go(*plan.at(first_um - over_um))
    last = sight.look(*plan.at(first_um))
    position: Float64 = np.zeros(2)
    found = [(last, position)]
    for number in range(1, plan.places_um.size):
        here = sight.look(*plan.at(float(plan.places_um[number])))
        way_um = here.along(plan.axis) - last.along(plan.axis)
        shift = measure_shift(
            last.picture,
            here.picture,
            expected_px=column_px * way_um,
            search_px=search_px,
        )
        check_shift(shift, _where(plan, number))
        position = position + shift.vector_px
        found.append((here, position))
        last = here
    return found


def _where(plan: AxisPlan, number: int) -> str:
    x_um, y_um = plan.at(float(plan.places_um[number]))
    return f"x {x_um:.1f}, y {y_um:.1f} um"
