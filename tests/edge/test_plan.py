"""Plans: every point covered, neighbours overlap, and nothing beyond the travel."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bifocus.edge.plan import ScanPlan, check_travel, plan_scan
from bifocus.errors import ConfigError, OutOfTravelError
from bifocus.hal.devices import StageLimits

PIXEL_UM = 0.25
LIMITS = StageLimits(x_um=(0.0, 1000.0), y_um=(0.0, 800.0), z_um=(-50.0, 50.0))

lengths_um = st.floats(1.0, 900.0)
corners_um = st.floats(-2000.0, 2000.0)
fields_px = st.integers(64, 800)
overlaps = st.floats(0.02, 0.5)


def plan(
    region_um: tuple[float, float, float, float],
    field_px: tuple[int, int] = (400, 320),
    overlap: float = 0.1,
    focus_um: float = 0.0,
) -> ScanPlan:
    return plan_scan(
        region_um,
        field_px=field_px,
        pixel_um=PIXEL_UM,
        overlap=overlap,
        focus_um=focus_um,
    )


def spans(centres_um: set[float], field_um: float) -> list[tuple[float, float]]:
    return [(c - field_um / 2, c + field_um / 2) for c in sorted(centres_um)]


@given(
    x_um=corners_um,
    y_um=corners_um,
    width_um=lengths_um,
    height_um=lengths_um,
    field_px=st.tuples(fields_px, fields_px),
    overlap=overlaps,
)
def test_the_fields_cover_the_region_and_overlap(
    x_um: float,
    y_um: float,
    width_um: float,
    height_um: float,
    field_px: tuple[int, int],
    overlap: float,
) -> None:
    made = plan((x_um, y_um, width_um, height_um), field_px, overlap)
    targets = [visit.target for visit in made.visits]
    # All pairs of one column and one row are visited, each once.
    cells = {(visit.row, visit.column) for visit in made.visits}
    assert len(made.visits) == len(cells) == made.rows * made.columns
    for centres_um, start_um, length_um, side_px in (
        ({t.x_um for t in targets}, x_um, width_um, field_px[0]),
        ({t.y_um for t in targets}, y_um, height_um, field_px[1]),
    ):
        covered = spans(centres_um, side_px * PIXEL_UM)
        assert covered[0][0] <= start_um + 1e-6
        assert covered[-1][1] >= start_um + length_um - 1e-6
        for (_, end_um), (begin_um, _) in itertools.pairwise(covered):
            assert end_um - begin_um >= overlap * side_px * PIXEL_UM - 1e-6
    for overlap_px, side_px in zip(made.overlap_px, field_px, strict=True):
        assert overlap_px >= overlap * side_px - 1e-6


@given(width_um=lengths_um, height_um=lengths_um)
def test_successive_tiles_are_neighbours(width_um: float, height_um: float) -> None:
    visits = plan((0.0, 0.0, width_um, height_um)).visits
    for one, other in itertools.pairwise(visits):
        assert abs(one.row - other.row) + abs(one.column - other.column) == 1


def test_no_more_tiles_than_needed() -> None:
    """100 um fields that share 10 um: ten span exactly 910 um."""
    assert plan((0, 0, 910.0, 80.0)).columns == 10
    assert plan((0, 0, 910.1, 80.0)).columns == 11


def test_a_small_region_is_one_tile_in_its_middle() -> None:
    made = plan((100.0, 200.0, 30.0, 20.0), focus_um=7.5)
    (visit,) = made.visits
    where = visit.target
    assert (where.x_um, where.y_um, where.z_um) == (115.0, 210.0, 7.5)
    assert visit.name == "r000_c000"
    # The step still tells focus tracking what "near" is.
    assert made.step_um == pytest.approx((90.0, 72.0))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", range(4))
def test_numbers_that_are_no_place_are_refused(bad: float, place: int) -> None:
    region = [0.0, 0.0, 100.0, 100.0]
    region[place] = bad
    with pytest.raises(ConfigError, match="X Y WIDTH HEIGHT"):
        plan((region[0], region[1], region[2], region[3]))


@pytest.mark.parametrize("size", [(0.0, 10.0), (10.0, 0.0), (-10.0, 10.0)])
def test_an_empty_region_is_refused(size: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="positive width and height"):
        plan((0.0, 0.0, *size))


@pytest.mark.parametrize("side_um", [1e6, 1e300])
def test_a_region_in_the_wrong_unit_is_refused(side_um: float) -> None:
    with pytest.raises(ConfigError, match="micrometres"):
        plan((0.0, 0.0, side_um, side_um))


@pytest.mark.parametrize(
    ("region_um", "focus_um", "axis"),
    [
        ((-60.0, 300.0, 200.0, 100.0), 0.0, "x"),
        ((300.0, 700.0, 100.0, 300.0), 0.0, "y"),
        ((300.0, 300.0, 100.0, 100.0), 49.5, "z"),
        ((300.0, 300.0, 100.0, 100.0), -49.5, "z"),
    ],
)
def test_a_plan_beyond_the_travel_names_the_axis(
    region_um: tuple[float, float, float, float], focus_um: float, axis: str
) -> None:
    visits = plan(region_um, focus_um=focus_um).visits
    with pytest.raises(OutOfTravelError, match=f"needs {axis} from .* travel is"):
        check_travel(visits, LIMITS, z_reach_um=0.75)


def test_a_plan_may_touch_the_limits() -> None:
    visits = plan((-50.0, 0.0, 1100.0, 100.0), focus_um=49.25).visits
    assert min(visit.target.x_um for visit in visits) == 0.0
    check_travel(visits, LIMITS, z_reach_um=0.75)
