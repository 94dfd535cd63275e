"""The slide that a plan will fill: its size is known before the first tile."""

import math
from dataclasses import dataclass

from bifocus.edge.loop_closure import Cell, Vector
from bifocus.edge.plan import ScanPlan

PAD_PX = 64  # The stage may be off by this at the border of the plan,
PAD_SHARE = 0.005  # and by a wrong scale or a turned camera across it.


@dataclass(frozen=True, slots=True, kw_only=True)
class Canvas:
    """The slide's size, and where each planned tile would lie in it by the stage.

    `nominal` is (row, column) -> corner (x_px, y_px), in mosaic_px.
    """

    width_px: int
    height_px: int
    nominal: dict[Cell, Vector]


def plan_canvas(plan: ScanPlan) -> Canvas:
    """Return the slide that a plan will fill, with a margin for the stage's errors."""
    corners = {
        (visit.row, visit.column): (
            visit.target.x_um / plan.pixel_um,
            visit.target.y_um / plan.pixel_um,
        )
        for visit in plan.visits
    }
    left = min(x for x, _ in corners.values())
    top = min(y for _, y in corners.values())
    span_x = max(x for x, _ in corners.values()) - left
    span_y = max(y for _, y in corners.values()) - top
    pad_px = PAD_PX + math.ceil(PAD_SHARE * max(span_x, span_y))
    return Canvas(
        width_px=math.ceil(span_x) + plan.field_px[0] + 2 * pad_px,
        height_px=math.ceil(span_y) + plan.field_px[1] + 2 * pad_px,
        nominal={
            cell: (x - left + pad_px, y - top + pad_px)
            for cell, (x, y) in corners.items()
        },
    )
