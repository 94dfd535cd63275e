"""The check of repeatability: one place approached from both sides, again and again.

Sideways the picture itself is the measure, where it shows something; it sees what the
motor's counter cannot. Else the witness, or what the controller reports.
"""

from collections.abc import Sequence

import numpy as np

from bifocus.hal.conformance import Finding, judge
from bifocus.hal.conformance_bench import Bench
from bifocus.hal.conformance_devices import AXES
from bifocus.pair_alignment import estimate_shift_px
from bifocus.records import FloatImage, UInt8Image

N_APPROACHES = 5
# Beside the step: neighbours overlap by far more, and the network's range is +-3 um.
_ALLOWED_UM = {"x_um": 2.0, "y_um": 2.0, "z_um": 0.5}
_LEAST_SIDE_PX = 64


def check_repeatability(bench: Bench) -> Finding:
    """Check that a place approached from below and from above is the same place."""
    reference = _picture(bench)
    measure = "picture" if reference is not None else "position"
    visits: dict[str, list[tuple[float, float, float]]] = {"below": [], "above": []}
    for _ in range(N_APPROACHES):
        for side, share in (("below", -0.5), ("above", 0.5)):
            bench.stage.move_to(bench.at(share, share, share))
            bench.stage.move_to(bench.at())
            visits[side].append(_place(bench, reference))
    figures: dict[str, float] = {}
    is_sound = True
    for index, axis in enumerate(AXES):
        below = [place[index] for place in visits["below"]]
        above = [place[index] for place in visits["above"]]
        figures |= _figures(axis, below, above)
        span_um = max(*below, *above) - min(*below, *above)
        is_sound &= span_um <= _ALLOWED_UM[axis] + bench.slack_um(axis)
    spread = ", ".join(f"{_worst_sd(figures, axis):.3f}" for axis in AXES)
    gap = ", ".join(f"{figures[f'reversal_{axis}']:+.3f}" for axis in AXES)
    return judge(
        is_sound,
        measured=f"sd {spread} um, reversal {gap} um in x, y, z "
        f"({N_APPROACHES} approaches a side, by {measure}; z by position)",
        expected="all within 2, 2, 0.5 um and a step",
        next_step="raise `take_up_um` above the backlash; if the spread stays, look "
        "for loose couplings or lost steps (lower the speed)",
        figures=figures,
    )


def _figures(
    axis: str, below: Sequence[float], above: Sequence[float]
) -> dict[str, float]:
    """Return spread of each side and the gap between them, in um."""
    return {
        f"sd_below_{axis}": float(np.std(below, ddof=1)),
        f"sd_above_{axis}": float(np.std(above, ddof=1)),
        f"reversal_{axis}": float(np.mean(above) - np.mean(below)),
    }


def _worst_sd(figures: dict[str, float], axis: str) -> float:
    return max(figures[f"sd_below_{axis}"], figures[f"sd_above_{axis}"])


def _picture(bench: Bench) -> FloatImage | None:
    """Return the picture of the middle, or None where it cannot tell a shift."""
    camera, pixel_um = bench.devices.camera, bench.devices.pixel_um
    receipt = bench.stage.move_to(bench.at())
    if camera is None or pixel_um is None:
        return None
    facts = camera.capabilities
    if min(facts.width_px, facts.height_px) < _LEAST_SIDE_PX:
        return None
    middle = _colour(camera.grab(after=receipt).pixels)
    # Two steps away the picture must say so, or it shows too little.
    aside = bench.at(x=min(1.0, 4 * pixel_um / bench.room.x_um))
    moved = _colour(camera.grab(after=bench.stage.move_to(aside)).pixels)
    sees = estimate_shift_px(middle, moved) != (0.0, 0.0)
    return middle if sees else None


def _place(bench: Bench, reference: FloatImage | None) -> tuple[float, float, float]:
    """Return where the stage is, in um from any fixed point."""
    here = bench.where()
    camera, pixel_um = bench.devices.camera, bench.devices.pixel_um
    if reference is None or camera is None or pixel_um is None:
        return here.x_um, here.y_um, here.z_um
    # The last move is over, so the next frame that begins now is of this place.
    picture = _colour(camera.grab(after=bench.stage.move_to(bench.at())).pixels)
    down_px, right_px = estimate_shift_px(reference, picture)
    return right_px * pixel_um, down_px * pixel_um, here.z_um


def _colour(pixels: UInt8Image) -> FloatImage:
    grey = pixels[..., None] if pixels.ndim == 2 else pixels
    colour = np.broadcast_to(grey, (*grey.shape[:2], 3))
    return colour.astype(np.float32) / np.float32(255)
