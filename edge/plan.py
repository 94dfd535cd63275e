"""Plan a region into overlapping tiles, row by row in a serpentine; pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bifocus.errors import ConfigError, OutOfTravelError
from bifocus.hal.devices import StageLimits
from bifocus.records import StagePosition, TileVisit

Region = tuple[float, float, float, float]

# More tiles than any slide has; a region in the wrong unit ends here.
MAX_TILES = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanPlan:
    """The tiles of one scan in the order of their visits.

    `step_um` is the distance (x, y) between the centres of neighbours, `field_px` the
    camera's (width, height).
    """

    visits: tuple[TileVisit, ...]
    rows: int
    columns: int
    step_um: tuple[float, float]
    field_px: tuple[int, int]
    pixel_um: float

    @property
    def overlap_px(self) -> tuple[float, float]:
        """Nominal overlap with the neighbour (across, down)."""
        return (
            self.field_px[0] - self.step_um[0] / self.pixel_um,
            self.field_px[1] - self.step_um[1] / self.pixel_um,
        )


def plan_scan(
    region_um: Region,
    *,
    field_px: tuple[int, int],
    pixel_um: float,
    overlap: float,
    focus_um: float,
) -> ScanPlan:
    """Cover a region with tiles that overlap by at least `overlap` of the field.

    Parameters
    ----------
    region_um
        x, y of the top-left corner, width and height, in stage micrometres.
    field_px
        Camera (width, height).
    pixel_um
        Pixel size on the glass.
    overlap
        Fraction of the field that neighbours share, 0.02..0.5.
    focus_um
        z of every target until focus tracking knows better.

    Raises
    ------
    ConfigError
        If the region is not a finite, positive rectangle, or absurdly large.

    Examples
    --------
    >>> plan = plan_scan((0, 0, 250, 100), field_px=(400, 400), pixel_um=0.25,
    ...                  overlap=0.1, focus_um=0.0)
    >>> plan.rows, plan.columns, [visit.column for visit in plan.visits]
    (1, 3, [0, 1, 2])
    """
    if not all(map(math.isfinite, region_um)) or min(region_um[2:]) <= 0:
        msg = (
            f"region {region_um}: expected X Y WIDTH HEIGHT in um, finite, with "
            "positive width and height"
        )
        raise ConfigError(msg)
    columns, first_x_um, step_x_um = _axis(
        region_um[0], region_um[2], field_px[0] * pixel_um, overlap
    )
    rows, first_y_um, step_y_um = _axis(
        region_um[1], region_um[3], field_px[1] * pixel_um, overlap
    )
    if rows * columns > MAX_TILES:
        msg = f"region {region_um}: {rows} x {columns} tiles; is it in micrometres?"
        raise ConfigError(msg)
    visits = tuple(
        TileVisit(
            row=row,
            column=column,
            target=StagePosition(
                x_um=first_x_um + column * step_x_um,
                y_um=first_y_um + row * step_y_um,
                z_um=focus_um,
            ),
        )
        for row in range(rows)
        for column in _serpentine(row, columns)
    )
    return ScanPlan(
        visits=visits,
        rows=rows,
        columns=columns,
        step_um=(step_x_um, step_y_um),
        field_px=field_px,
        pixel_um=pixel_um,
    )


def check_travel(
    visits: Sequence[TileVisit], limits: StageLimits, z_reach_um: float
) -> None:
    """Refuse a plan that leaves the stage's travel, before anything moves.

    Parameters
    ----------
    visits
        All tiles.
    limits
        The stage's safe travel.
    z_reach_um
        How far above and below the planned focus the shots reach.

    Raises
    ------
    OutOfTravelError
        Naming the axis, the planned span and the travel.
    """
    for axis, reach_um in (("x", 0.0), ("y", 0.0), ("z", z_reach_um)):
        places = [getattr(visit.target, f"{axis}_um") for visit in visits]
        low_um, high_um = min(places) - reach_um, max(places) + reach_um
        bottom_um, top_um = getattr(limits, f"{axis}_um")
        if low_um < bottom_um or high_um > top_um:
            msg = (
                f"the plan needs {axis} from {low_um:.1f} to {high_um:.1f} um, the "
                f"stage's travel is {bottom_um:.1f} to {top_um:.1f} um; "
                "choose another region, or correct the limits in the instrument file"
            )
            raise OutOfTravelError(msg)


def _axis(
    start_um: float, length_um: float, field_um: float, overlap: float
) -> tuple[int, float, float]:
    """Return the count, the first centre and the step along one axis."""
    if length_um <= field_um:
        return 1, start_um + length_um / 2, field_um * (1 - overlap)
    count = math.ceil((length_um - field_um) / (field_um * (1 - overlap)) - 1e-9) + 1
    step_um = (length_um - field_um) / (count - 1)
    return count, start_um + field_um / 2, step_um


def _serpentine(row: int, columns: int) -> range:
    return range(columns) if row % 2 == 0 else range(columns - 1, -1, -1)
