"""Walk the field over the slide, picture by picture, and add up how far it has come."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bifocus.calib.image_shift import check_shift, measure_shift
from bifocus.calib.sight import Axis, Sight, Sighting
from bifocus.errors import CalibrationError

Float64 = npt.NDArray[np.float64]

# The first steps of an axis, as a share of the field; unknown play must be crossed.
_FEEL_SHARE = 0.1
_MOST_FEEL_STEPS = 16
# A step this much of the longest is a whole one: the gap is closed.
_WHOLE_STEP = 0.6
# A step that moves the field by less than this of what is expected is none: a stage's
# scatter alone moves it by a fifth of the shortest steps.
_LEAST_MOTION = 0.5
# How far a known step may be off, as a share of the field and of a period.
_SEARCH_SHARE = 0.12
_PERIOD_SHARE = 0.45
_LARGEST_FEEL = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisFeel:
    """First knowledge of an axis.

    `column_px` is how far the field moves in the picture per commanded um (x, y);
    `gap_um` roughly its play, in commanded um.
    """

    axis: Axis
    column_px: Float64
    gap_um: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisTrace:
    """Places along an axis, upward and then downward, and where the field was.

    `up_um`, `down_um` are reported places, `up_px`, `down_px` the field's, (n, 2).
    `sightings` are those of the upward run.
    """

    axis: Axis
    up_um: Float64
    up_px: Float64
    down_um: Float64
    down_px: Float64
    step_px: float
    sightings: tuple[Sighting, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisReversal:
    """Arrivals at one place of the slide, from below and from above.

    `up_px`, `down_px` are where the field was, (n, 2), and `up_um`, `down_um` which
    place the stage told, both against the first upward arrival.
    """

    axis: Axis
    up_px: Float64
    down_px: Float64
    up_um: Float64
    down_um: Float64

    def places_um(self, column_px: Float64) -> tuple[Float64, Float64]:
        """Return how far each arrival, upward and downward, lay above its command."""
        square = float(column_px @ column_px)
        return (
            self.up_px @ column_px / square - self.up_um,
            self.down_px @ column_px / square - self.down_um,
        )


class FieldWalk:
    """Chains shifts between successive pictures.

    Parameters
    ----------
    sight
        Moves and looks.
    pixel_um
        As the instrument file says it.
    period_um
        Of a periodic target, on which shifts are ambiguous; None on tissue.
    """

    def __init__(
        self, sight: Sight, *, pixel_um: float, period_um: float | None
    ) -> None:
        self.sight = sight
        self.pixel_um = pixel_um
        self._period_px = period_um / pixel_um if period_um else None
        self.position_px: Float64 = np.zeros(2)
        self._last: Sighting  # from `begin` on

    @property
    def search_px(self) -> float:
        """How far a step whose size is known may be off."""
        return self._capped(_SEARCH_SHARE * self.sight.field_px)

    @property
    def feel_um(self) -> float:
        """A step so short that it cannot be mistaken."""
        step_px = _FEEL_SHARE * self.sight.field_px
        if self._period_px is not None:
            step_px = min(step_px, self._period_px / 4)
        return step_px * self.pixel_um

    def begin(self, place: tuple[float, float]) -> Sighting:
        """Look at a place and count from there."""
        self._last = self.sight.look(*place)
        self.position_px = np.zeros(2)
        return self._last

    def step(
        self,
        place: tuple[float, float],
        expected_px: Float64,
        search_px: float | None = None,
    ) -> Sighting:
        """Go on to a place and look; the position follows.

        Raises
        ------
        BlankSlideError
            If the two pictures do not show the same.
        """
        seen = self.sight.look(*place)
        shift = measure_shift(
            self._last.picture,
            seen.picture,
            expected_px=expected_px,
            search_px=self.search_px if search_px is None else search_px,
        )
        check_shift(shift, f"x {place[0]:.1f}, y {place[1]:.1f} um")
        self.position_px = self.position_px + shift.vector_px
        self._last = seen
        return seen

    def feel(self, place: tuple[float, float], axis: Axis) -> AxisFeel:
        """Step up along an axis until whole steps show, then down again.

        Raises
        ------
        CalibrationError
            If the field does not move, or hardly.
        BlankSlideError
            If the pictures do not show where it moves.
        """
        begin = self.begin(place)
        up = self._until_whole(place, axis, begin.along(axis), 1)
        (before_um, _), (top_um, last_px) = up[-2:]
        column_px = last_px / (top_um - before_um)
        top_px = self.position_px
        down = self._until_whole(place, axis, top_um, -1)
        travel_um = top_um - down[-1][0]
        moved_um = along(column_px, top_px - self.position_px)
        return AxisFeel(
            axis=axis, column_px=column_px, gap_um=max(travel_um - moved_um, 0.0)
        )

    def reverse(
        self, place: tuple[float, float], feel: AxisFeel, *, over_um: float, cycles: int
    ) -> AxisReversal:
        """Come to one place from below and from above, in ABBA order.

        Each time the axis first goes `over_um` beyond, so that its gap is closed. From
        above it is sent lower by what the play is thought to be, so that the pictures
        show the same.
        """
        axis = feel.axis
        self.sight.go(*moved(place, axis, -over_um))
        first = self.begin(place)
        field_px: dict[int, list[Float64]] = {-1: [np.zeros(2)], 1: []}
        told_um: dict[int, list[float]] = {-1: [0.0], 1: []}
        for side in (1, 1, -1, -1) * cycles:
            self.sight.go(*moved(place, axis, side * over_um))
            lower_um = feel.gap_um if side > 0 else 0.0
            seen = self.sight.look(*moved(place, axis, -lower_um))
            shift = measure_shift(first.picture, seen.picture, search_px=self.search_px)
            check_shift(shift, f"x {place[0]:.1f}, y {place[1]:.1f} um")
            field_px[side].append(shift.vector_px)
            told_um[side].append(seen.along(axis) - first.along(axis))
        return AxisReversal(
            axis=axis,
            up_px=np.array(field_px[-1]),
            down_px=np.array(field_px[1]),
            up_um=np.array(told_um[-1]),
            down_um=np.array(told_um[1]),
        )

    def trace(
        self,
        begin: tuple[float, float],
        feel: AxisFeel,
        *,
        step_um: float,
        count: int,
        over_um: float,
    ) -> AxisTrace:
        """Look at places along an axis, going up, and again going down.

        Before each run the axis overshoots by `over_um`, so that its gap is closed; the
        downward places are lower by the play, so that the pictures show the same.
        """
        axis = feel.axis
        places = [moved(begin, axis, number * step_um) for number in range(count)]
        top = places[-1]
        self.sight.go(*moved(begin, axis, -over_um))
        seen = [self.begin(begin)]
        up_px = [self.position_px]
        for place in places[1:]:
            seen.append(self.step(place, feel.column_px * step_um))
            up_px.append(self.position_px)
        self.sight.go(*moved(top, axis, over_um))
        lower = [moved(place, axis, -feel.gap_um) for place in places]
        back = [self.step(lower[-1], np.zeros(2))]
        down_px = [self.position_px]
        for place in lower[-2::-1]:
            back.append(self.step(place, -feel.column_px * step_um))
            down_px.append(self.position_px)
        return AxisTrace(
            axis=axis,
            up_um=np.array([sighting.along(axis) for sighting in seen]),
            up_px=np.array(up_px),
            down_um=np.array([sighting.along(axis) for sighting in back]),
            down_px=np.array(down_px),
            step_px=step_um * float(np.linalg.norm(feel.column_px)),
            sightings=tuple(seen),
        )

    def _until_whole(
        self, place: tuple[float, float], axis: Axis, at_um: float, sign: int
    ) -> list[tuple[float, Float64]]:
        """Step on until two whole steps in a row; return places and shifts."""
        step_um = self.feel_um
        links: list[tuple[float, Float64]] = [(at_um, np.zeros(2))]
        expected_px = step_um / self.pixel_um
        for _ in range(_MOST_FEEL_STEPS):
            at_um += sign * step_um
            before_px = self.position_px
            target = (at_um, place[1]) if axis == "x" else (place[0], at_um)
            seen = self.step(target, np.zeros(2), self._capped(self._feel_search_px))
            at_um = seen.along(axis)
            links.append((at_um, self.position_px - before_px))
            lengths = [float(np.linalg.norm(link)) for _, link in links[1:]]
            whole = _WHOLE_STEP * max(lengths)
            is_moving = min(lengths[-2:]) > max(whole, _LEAST_MOTION * expected_px)
            goes_on = float(links[-1][1] @ links[-2][1]) > 0
            if len(lengths) > 2 and is_moving and goes_on:
                return links
        travel_um = _MOST_FEEL_STEPS * step_um
        msg = (
            f"x {place[0]:.1f}, y {place[1]:.1f} um: axis {axis} does not move: over "
            f"{travel_um:.1f} um of commanded travel no step moved the picture by "
            f"more than {max(lengths):.2f} px twice in a row, {expected_px:.1f} px "
            f"are expected; check motor, coupling and cable, and step_um; play of more "
            f"than {travel_um:.0f} um looks the same"
        )
        raise CalibrationError(msg)

    @property
    def _feel_search_px(self) -> float:
        return _LARGEST_FEEL * self.sight.field_px

    def _capped(self, search_px: float) -> float:
        if self._period_px is None:
            return search_px
        return min(search_px, _PERIOD_SHARE * self._period_px)


def along(column_px: Float64, shift_px: Float64) -> float:
    """Return the commanded um that a shift is worth along an axis.

    Examples
    --------
    >>> along(np.array([4.0, 0.0]), np.array([8.0, 1.0]))
    2.0
    """
    return float(shift_px @ column_px) / float(column_px @ column_px)


def moved(place: tuple[float, float], axis: Axis, by_um: float) -> tuple[float, float]:
    """Return a place moved along an axis."""
    x_um, y_um = place
    return (x_um + by_um, y_um) if axis == "x" else (x_um, y_um + by_um)
