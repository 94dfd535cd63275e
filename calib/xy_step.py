"""Step `xy`: pixel, scales, rotation and backlash across the slide, from image shifts.

Each axis is felt with small steps, which find its play and the sign and length of its
motion whatever the camera's mounting; then traced upward and downward with larger ones,
for the matrix; then one place is reached from both sides, for the reversal value.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bifocus.calib.field_walk import (
    AxisFeel,
    AxisReversal,
    AxisTrace,
    FieldWalk,
    moved,
)
from bifocus.calib.graticule import fit_graticule
from bifocus.calib.image_shift import estimate_noise_px
from bifocus.calib.length_source import (
    Lengths,
    lengths_from_graticule,
    lengths_from_pixel,
    lengths_from_stage,
)
from bifocus.calib.sight import AXES, Axis, Sight, focus_place
from bifocus.calib.stage_matrix import (
    AxisFit,
    fit_trace,
    rotation_u_mrad,
    take_apart,
)
from bifocus.calib.step_result import Bench, Plot, Series, StepResult
from bifocus.calib.uncertainty import root_sum_square, widened
from bifocus.errors import BlankSlideError, CalibrationError
from bifocus.records import Measured

logger = logging.getLogger(__name__)

Float64 = npt.NDArray[np.float64]

# Places of a trace, and the step between them as a share of the field.
_TRACE_PLACES = 9
_STEP_SHARE = 0.25
_LEAST_STEP_SHARE = 0.04
# Scatter of a trace, as a share of its step, beyond which it is no line.
_MOST_RESIDUAL = 0.3
_CYCLES = 3  # of ABBA: 7 arrivals upward, 6 downward
_NOISE_PICTURES = 4
_GRATICULE_PICTURES = 6
# Beyond the play, which has only been felt, so that it does not stay open.
_OVER_FACTOR = 1.25
# Where tissue is tried, as shares of the region, after the place of the focus.
_ELSEWHERE = ((0.5, 0.5), (0.35, 0.35), (0.65, 0.65), (0.65, 0.35), (0.35, 0.65))

CONVENTION = (
    "backlash is the reversal value: at one commanded place, the mean place reached "
    "from above less the mean place reached from below, in commanded um; measured as "
    "how much lower the axis must be sent from above to show the same. Half of it is "
    "the half-gap that some programs state"
)
FORMULAS = (
    "field shift in the picture (px) = A . commanded (um); A by least squares over an "
    "upward and a downward run with a common slope",
    "A = F R(-rotation) diag(scale_x, scale_y) / pixel, x towards y positive",
    "scale = |column of A| x pixel",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisRecord:
    """All that was measured on one axis, and the line through it."""

    feel: AxisFeel
    trace: AxisTrace
    reversal: AxisReversal
    fit: AxisFit


def measure_xy(bench: Bench, before: Mapping[str, StepResult]) -> StepResult:
    """Measure the camera-stage matrix and the backlash of x and y.

    Raises
    ------
    CalibrationError
        If an axis does not move, its play leaves no room, or the graticule shows no
        lines of its pitch.
    BlankSlideError
        If no place shows enough texture to follow.
    """
    *place, z_um = focus_place(before, "xy")
    sight = Sight(bench, z_um)
    failures: list[str] = []
    for x_um, y_um in _places(bench, (place[0], place[1])):
        try:
            noise_px = _measure_noise(sight, (x_um, y_um))
            records = {
                axis: _measure_axis(sight, (x_um, y_um), axis, noise_px)
                for axis in AXES
            }
            break
        except BlankSlideError as error:
            logger.info("%s; trying the next place", error)
            failures.append(str(error))
    else:
        msg = f"xy: no texture to follow at {len(failures)} places; {failures[-1]}"
        raise BlankSlideError(msg)
    lengths = _find_lengths(bench, records["x"], records["y"])
    return _result(bench, sight, records, lengths, noise_px)


def reversal_of(record: AxisRecord, noise_px: float) -> Measured:
    """Return the reversal value of one axis in commanded um; see `CONVENTION`."""
    up, down = record.reversal.places_um(record.fit.column_px)
    value = float(down.mean() - up.mean())
    degrees = up.size + down.size - 2
    squares = float(np.sum((up - up.mean()) ** 2) + np.sum((down - down.mean()) ** 2))
    scatter_um = widened(
        (squares / degrees * (1 / up.size + 1 / down.size)) ** 0.5, degrees
    )
    floor_um = noise_px / record.fit.length_px  # all share the first picture
    return Measured(
        value=value,
        standard_uncertainty=root_sum_square([scatter_um, floor_um]),
        method=(
            f"reversal value (from above less from below), {up.size + down.size} "
            "arrivals in ABBA order, image shifts"
        ),
    )


def _places(bench: Bench, first: tuple[float, float]) -> list[tuple[float, float]]:
    x_um, y_um, width_um, height_um = bench.region_um
    return [
        first,
        *((x_um + a * width_um, y_um + d * height_um) for a, d in _ELSEWHERE),
    ]


def _measure_noise(sight: Sight, place: tuple[float, float]) -> float:
    receipt = sight.arrive(*place)
    pictures = [sight.see(receipt).picture for _ in range(_NOISE_PICTURES)]
    return estimate_noise_px(pictures)


def _measure_axis(
    sight: Sight, place: tuple[float, float], axis: Axis, noise_px: float
) -> AxisRecord:
    target = sight.bench.config.calibration.graticule
    walk = FieldWalk(
        sight,
        pixel_um=sight.bench.config.optics.pixel_um,
        period_um=target.pitch_um if target else None,
    )
    feel = walk.feel(place, axis)
    over_um = _OVER_FACTOR * feel.gap_um + walk.feel_um
    begin, step_um = _plan_trace(sight, place, axis, over_um)
    trace = walk.trace(
        begin, feel, step_um=step_um, count=_TRACE_PLACES, over_um=over_um
    )
    fit = fit_trace(trace, noise_px)
    if fit.residual_sd_um > _MOST_RESIDUAL * step_um:
        msg = (
            f"axis {axis} does not follow its commands: places {step_um:.1f} um apart "
            f"scatter by {fit.residual_sd_um:.2f} um about a line, at most "
            f"{_MOST_RESIDUAL * step_um:.2f} um are expected; check motor current, "
            "coupling and cable, and fasten the slide"
        )
        raise CalibrationError(msg)
    middle = moved(begin, axis, step_um * (_TRACE_PLACES // 2))
    reversal = walk.reverse(middle, feel, over_um=over_um, cycles=_CYCLES)
    return AxisRecord(feel=feel, trace=trace, reversal=reversal, fit=fit)


def _plan_trace(
    sight: Sight, place: tuple[float, float], axis: Axis, over_um: float
) -> tuple[tuple[float, float], float]:
    """Return where a trace begins and its step: inside the region, about the place."""
    number = AXES.index(axis)
    region, limits = sight.bench.region_um, sight.bench.stage.limits
    low_um, high_um = limits.x_um if axis == "x" else limits.y_um
    low_um = max(region[number], low_um + over_um)
    high_um = min(region[number] + region[number + 2], high_um - over_um)
    field_um = sight.field_px * sight.bench.config.optics.pixel_um
    step_um = min(_STEP_SHARE * field_um, (high_um - low_um) / (_TRACE_PLACES - 1))
    if step_um < _LEAST_STEP_SHARE * field_um:
        msg = (
            f"axis {axis}: {max(high_um - low_um, 0):.1f} um are left of the region "
            f"beside play of {over_um:.1f} um, at least "
            f"{_LEAST_STEP_SHARE * field_um * (_TRACE_PLACES - 1):.1f} um are needed; "
            "choose a wider region, further from the ends of the travel"
        )
        raise CalibrationError(msg)
    span_um = step_um * (_TRACE_PLACES - 1)
    begin_um = min(max(place[number] - span_um / 2, low_um), high_um - span_um)
    return moved(place, axis, begin_um - place[number]), step_um


def _find_lengths(bench: Bench, x: AxisRecord, y: AxisRecord) -> Lengths:
    calibration = bench.config.calibration
    target = calibration.graticule
    if target is None:
        if calibration.length_source == "stage":
            return lengths_from_stage(bench.config, x.fit, y.fit)
        return lengths_from_pixel(bench.config, x.fit, y.fit)
    expected_px = target.pitch_um / bench.config.optics.pixel_um
    seen = (*x.trace.sightings, *y.trace.sightings)
    stride = max(1, len(seen) // _GRATICULE_PICTURES)
    fits = [fit_graticule(it.green, expected_px=expected_px) for it in seen[::stride]]
    return lengths_from_graticule(bench.config, target, fits, x.fit, y.fit)


def _result(
    bench: Bench,
    sight: Sight,
    records: Mapping[Axis, AxisRecord],
    lengths: Lengths,
    noise_px: float,
) -> StepResult:
    x, y = records["x"].fit, records["y"].fit
    matrix = np.stack([x.column_px, y.column_px], axis=1) * lengths.pixel_um.value
    parts = take_apart(matrix)
    backlash = {axis: reversal_of(records[axis], noise_px) for axis in AXES}
    return StepResult(
        name="xy",
        values={
            "pixel_um": lengths.pixel_um,
            "scale_x": lengths.scale_x,
            "scale_y": lengths.scale_y,
            "rotation_mrad": Measured(
                value=parts.rotation_mrad,
                standard_uncertainty=rotation_u_mrad(x, y),
                method="of the camera against the stage, x towards y; image shifts",
                unit="mrad",
            ),
            "backlash_x_um": backlash["x"],
            "backlash_y_um": backlash["y"],
        },
        facts={
            "matrix": matrix.tolist(),
            "mirrored": parts.mirrored,
            "shear_mrad": parts.shear_mrad,
            "length_source": lengths.source,
            "noise_px": noise_px,
            "residual_um": {axis: records[axis].fit.residual_sd_um for axis in AXES},
            "fractional_residual": {
                axis: _fractional_residual(records[axis]) for axis in AXES
            },
            "convention": CONVENTION,
            "formulas": list(FORMULAS),
            "uncertainty_budget": lengths.budget,
        },
        plots=(
            _plot_residuals(records),
            *(_plot_reversal(records[axis]) for axis in AXES),
        ),
        warnings=tuple(_warnings(bench, records, backlash)),
        raw_sha256=sight.raw_sha256,
    )


def _fractional_residual(record: AxisRecord) -> float:
    """Return the scatter about the line as a share of the way along it."""
    return record.fit.residual_sd_um / float(np.ptp(record.trace.up_um))


def _warnings(
    bench: Bench, records: Mapping[Axis, AxisRecord], backlash: Mapping[Axis, Measured]
) -> list[str]:
    found = []
    for number, axis in enumerate(AXES):
        taken_um = bench.config.stage.take_up_um[number]
        most_um = backlash[axis].value + 2 * backlash[axis].standard_uncertainty
        if most_um > taken_um:
            found.append(
                f"backlash of {axis} is {backlash[axis].text}, stage.take_up_um takes "
                f"up {taken_um:g} um; set it to at least {1.2 * most_um:.1f}"
            )
        share = _fractional_residual(records[axis])
        if share > 0.01:
            found.append(
                f"places of {axis} scatter by {100 * share:.1f} % of the way about a "
                "straight line: an uneven screw, or steps that are lost"
            )
        if records[axis].fit.n_dropped:
            found.append(
                f"{records[axis].fit.n_dropped} places of {axis} lay far off the line "
                "and were left out"
            )
    return found


def _plot_residuals(records: Mapping[Axis, AxisRecord]) -> Plot:
    series = []
    for axis in AXES:
        trace, residual = records[axis].trace, records[axis].fit.residual_um
        n_up = trace.up_um.size
        for name, places, values in (
            ("up", trace.up_um, residual[:n_up]),
            ("down", trace.down_um, residual[n_up:]),
        ):
            kept = np.isfinite(values)
            series.append(
                Series(
                    name=f"{axis} {name}",
                    x=tuple((places[kept] - places.mean()).tolist()),
                    y=tuple(values[kept].tolist()),
                )
            )
    return Plot(
        title="Places less the straight line, gap taken off",
        x_label="commanded place (um, from the middle)",
        y_label="residual (um)",
        series=tuple(series),
    )


def _plot_reversal(record: AxisRecord) -> Plot:
    up_um, down_um = record.reversal.places_um(record.fit.column_px)
    return Plot(
        title=f"Arrivals at one place of {record.reversal.axis}",
        x_label="arrival from this side",
        y_label="above the commanded place (um)",
        series=tuple(
            Series(
                name=name,
                x=tuple(map(float, range(1, values.size + 1))),
                y=tuple(values.tolist()),
            )
            for name, values in (
                ("from below", up_um),
                ("from above", down_um),
            )
        ),
    )
