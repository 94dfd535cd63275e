"""What the step `spacing` shows: its pairs, its plots, its warnings. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from bifocus.calib.spacing_pairs import Pairs
from bifocus.calib.spacing_prediction import SpacingCurve
from bifocus.calib.step_result import Plot, Series
from bifocus.calib.uncertainty import root_sum_square

# A predicted loss that shows; a miss that fusion would notice; a middle beside the
# focus that tracking would have to carry from the first tile on.
_MOST_LOSS_DB = 0.3
_MOST_MISS_UM = 0.05
_MOST_OFF_CENTRE_UM = 0.15


def list_warnings(facts: Mapping[str, Any], commanded_um: float) -> Iterator[str]:
    """Yield what a technician should know; `facts` are those of the step."""
    if facts["loss_db"] > _MOST_LOSS_DB:
        yield (
            f"dD {commanded_um:g} um is predicted to be {facts['loss_db']:.1f} dB "
            f"worse than {facts['best_um']:.2f} um for tiles "
            f"{facts['focal_spread_um']:g} um (standard deviation) beside F; set "
            "scan.half_spacing_um, or calibration.choose_half_spacing: auto"
        )
    miss_um, budget_um = facts["miss_um"], facts["budget_um"]
    parts_um = [budget_um["scatter of the pairs"], budget_um["ruler"]]
    if abs(miss_um) > max(_MOST_MISS_UM, 3 * root_sum_square(parts_um)):
        yield (
            f"the shots lie {2 * miss_um:+.2f} um further apart than commanded: is "
            "the play closed before both (take_up_um), does z slip?"
        )
    if abs(facts["centre_um"]) > _MOST_OFF_CENTRE_UM:
        yield (
            f"the middle of the pairs lies {facts['centre_um']:+.2f} um beside the "
            "focus: is the play closed (take_up_um), does z creep?"
        )
    reason = facts.get("trained_range_reason")
    if reason is not None:
        yield f"the default network does not fit: {reason}"


def plot_prediction(curve: SpacingCurve, commanded_um: float) -> Plot:
    """Return predicted quality against half-spacing."""
    x = tuple(curve.half_spacing_um.tolist())
    return Plot(
        title="Predicted quality of fused tiles",
        x_label="half-spacing dD (um)",
        y_label="PSNR (dB)",
        series=(
            Series(name="mean", x=x, y=tuple(curve.mean_db.tolist()), style="line"),
            Series(
                name="worst tenth",
                x=x,
                y=tuple(curve.worst_tenth_db.tolist()),
                style="line",
            ),
        ),
        marks=(("chosen", commanded_um), ("best", curve.best_um)),
    )


def plot_pairs(pairs: Pairs) -> Plot:
    """Return where the shots of each pair lie."""
    number = tuple(map(float, range(1, pairs.half_um.size + 1)))
    return Plot(
        title="Heights of the shots of a pair",
        x_label="pair",
        y_label="height over the focus (um)",
        series=(
            Series(name="F - dD", x=number, y=tuple(pairs.minus_um.tolist())),
            Series(name="F + dD", x=number, y=tuple(pairs.plus_um.tolist())),
        ),
    )
