"""Step `tilt`: how the slide lies under the objective, from focus at many places."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bifocus.calib.focus_surface import SurfaceFit, fit_surface
from bifocus.calib.magnitude import debiased_length
from bifocus.calib.sight import focus_place
from bifocus.calib.step_result import Bench, Plot, Series, StepResult
from bifocus.calib.uncertainty import limits_u, root_sum_square
from bifocus.calib.zstack import plan_planes, take_stack
from bifocus.errors import BlankSlideError, CalibrationError
from bifocus.focus_curve import check_stack, fit_focus
from bifocus.optics import Objective, depth_of_field_um
from bifocus.records import Measured

logger = logging.getLogger(__name__)

Float64 = npt.NDArray[np.float64]

# Shares of the region: nine places all over it, and four between them.
_PLACES = (
    *((across, down) for across in (0.1, 0.5, 0.9) for down in (0.1, 0.5, 0.9)),
    *((across, down) for across in (0.3, 0.7) for down in (0.3, 0.7)),
)
# A short stack: planes and their distance, in depths of field.
_STEP_DOF = 0.5
_HALF_RANGE_DOF = 2.5
# How much steeper than predicted a slide may be: 5 mrad, and its relief.
_STEEPEST = 0.005
_RETRIES = 2
_LEAST_FOR_PLANE = 4  # places before the next is predicted from a plane
# Of x and y where step xy was left out: the stage's own um.
_UNKNOWN = Measured(value=1.0, standard_uncertainty=0.0, method="", unit="")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """The focus of one place; `height_um` without the drift since the first."""

    x_um: float
    y_um: float
    height_um: float


def measure_tilt(bench: Bench, before: Mapping[str, StepResult]) -> StepResult:
    """Focus at thirteen places and lay a surface through them.

    Raises
    ------
    BlankSlideError
        If too few places of the region show tissue.
    CalibrationError
        If too few have a focus, or all lie in a line.
    """
    x_um, y_um, focus_um = focus_place(before, "tilt")
    digest = hashlib.sha256()
    found: list[_Found] = []
    skipped: list[str] = []
    drift = before["z"].values.get("drift_z_um_per_hour") if "z" in before else None
    begin_s = bench.clock.monotonic_s()
    for place in _in_order(bench, (x_um, y_um)):
        try:
            start_um = _predict(found, place, focus_um)
            from_um = (x_um, y_um) if not found else (found[-1].x_um, found[-1].y_um)
            slack_um = _STEEPEST * float(np.hypot(*np.subtract(place, from_um)))
            height_um = _find_height(bench, place, start_um, slack_um, digest)
        except (BlankSlideError, CalibrationError) as error:
            logger.info("%s; left out", error)
            skipped.append(str(error))
            continue
        if drift is not None:
            hours = (bench.clock.monotonic_s() - begin_s) / 3600
            height_um -= drift.value * hours
        found.append(_Found(x_um=place[0], y_um=place[1], height_um=height_um))
    if not found:
        msg = f"tilt: no focus at any of {len(_PLACES)} places; the last: {skipped[-1]}"
        raise BlankSlideError(msg)
    margin_um = _field_um(bench) / 2
    fit = fit_surface(
        np.array([(it.x_um, it.y_um) for it in found]),
        np.array([it.height_um for it in found]),
        margin_um,
    )
    slopes, how = _true_slopes(
        fit, before.get("xy"), bench.config.calibration.z_tolerance
    )
    values = _values(slopes, how)
    return _result(found, skipped, fit, values, digest.hexdigest())


def _in_order(bench: Bench, start: tuple[float, float]) -> list[tuple[float, float]]:
    """Return the places, the nearest first: each is predicted from those before."""
    x_um, y_um, width_um, height_um = bench.region_um
    places = [(x_um + a * width_um, y_um + d * height_um) for a, d in _PLACES]
    return sorted(places, key=lambda at: float(np.hypot(*np.subtract(at, start))))


def _predict(found: list[_Found], place: tuple[float, float], focus_um: float) -> float:
    """Return where the focus of a place should be: by a plane, or as its neighbour."""
    if len(found) >= _LEAST_FOR_PLANE:
        design = np.array(
            [(1.0, it.x_um - place[0], it.y_um - place[1]) for it in found]
        )
        heights_um = np.array([it.height_um for it in found])
        coefficients, _, rank, _ = np.linalg.lstsq(design, heights_um)
        if rank == 3:
            return float(coefficients[0])
    if not found:
        return focus_um
    nearest = min(
        found, key=lambda it: float(np.hypot(it.x_um - place[0], it.y_um - place[1]))
    )
    return nearest.height_um


def _find_height(
    bench: Bench,
    place: tuple[float, float],
    start_um: float,
    slack_um: float,
    digest: "hashlib._Hash",
) -> float:
    """Take short stacks about the predicted height until the peak lies inside."""
    dof_um = _dof_um(bench)
    where = f"x {place[0]:.1f}, y {place[1]:.1f} um"
    low_limit_um, high_limit_um = bench.stage.limits.z_um
    half_um = _HALF_RANGE_DOF * dof_um + slack_um
    for _ in range(_RETRIES + 1):
        low_um = max(start_um - half_um, low_limit_um)
        high_um = min(start_um + half_um, high_limit_um - _STEP_DOF * dof_um)
        planes = plan_planes(low_um, high_um, _STEP_DOF * dof_um)
        stack = take_stack(bench.stage, bench.camera, *place, planes)
        digest.update(bytes.fromhex(stack.digest))
        if stack.is_blank:
            raise BlankSlideError(f"{where}: clear glass")
        fit = fit_focus(stack.z_um, stack.sharpness)
        check_stack(fit, stack.texture, where)
        if fit.is_peak_inside:
            return fit.focus_um
        start_um = fit.focus_um
    msg = f"{where}: the focus was not found within {half_um:.1f} um of {start_um:.1f}"
    raise CalibrationError(msg)


def _dof_um(bench: Bench) -> float:
    optics = bench.config.optics
    objective = Objective(
        na=optics.na,
        wavelength_um=optics.wavelengths_um[1],
        refractive_index=optics.refractive_index,
    )
    return depth_of_field_um(objective, optics.pixel_um)


def _field_um(bench: Bench) -> float:
    camera = bench.camera.capabilities
    return min(camera.width_px, camera.height_px) * bench.config.optics.pixel_um


def _values(slopes: list[tuple[float, float]], how: str) -> dict[str, Measured]:
    """Return slopes with their uncertainties, and their length, as values."""
    values = {
        f"tilt_{axis}_mrad": Measured(
            value=1e3 * slope,
            standard_uncertainty=1e3 * u,
            method=f"slope of the focus along {axis}, {how}",
            unit="mrad",
        )
        for axis, (slope, u) in zip("xy", slopes, strict=True)
    }
    length, u = debiased_length(
        [slope for slope, _ in slopes], [slope_u for _, slope_u in slopes]
    )
    values["tilt_mrad"] = Measured(
        value=1e3 * length,
        standard_uncertainty=1e3 * u,
        method="length of both slopes, the bias of noise taken off",
        unit="mrad",
    )
    return values


def _result(
    found: list[_Found],
    skipped: list[str],
    fit: SurfaceFit,
    values: dict[str, Measured],
    raw_sha256: str,
) -> StepResult:
    return StepResult(
        name="tilt",
        values=values,
        facts={
            "surface": fit.surface.as_facts(),
            "model": "quadratic" if fit.is_quadratic else "plane",
            "residual_um": fit.residual_rms_um,
            "hold_out_um": fit.hold_out_um,
            "other_model_hold_out_um": fit.other_hold_out_um,
            "reach": fit.surface.as_facts()["hull_um"],
            "places": [
                {
                    "x_um": it.x_um,
                    "y_um": it.y_um,
                    "height_um": it.height_um,
                    "residual_um": float(error) if np.isfinite(error) else None,
                }
                for it, error in zip(found, fit.residual_um, strict=True)
            ],
            "left_out": skipped,
        },
        plots=(_plot(found, fit),),
        warnings=tuple(_warnings(found, skipped, fit)),
        raw_sha256=raw_sha256,
    )


def _true_slopes(
    fit: SurfaceFit, xy: StepResult | None, z_tolerance: float
) -> tuple[list[tuple[float, float]], str]:
    """Return slopes and their uncertainties, over true lengths if these are known."""
    scales = [xy.values[f"scale_{axis}"] if xy else _UNKNOWN for axis in "xy"]
    slopes = []
    for slope, u, scale in zip(fit.slopes, fit.u_slopes, scales, strict=True):
        true = slope / scale.value
        parts = [
            u / scale.value,
            true / scale.value * scale.standard_uncertainty,
            limits_u(z_tolerance * abs(true)),
        ]
        slopes.append((true, root_sum_square(parts)))
    across = "true um" if xy else "um of the stage"
    return slopes, (
        f"um of the z drive, trusted to {z_tolerance:.0%} (calibration.z_tolerance), "
        f"per {across}"
    )


def _warnings(found: list[_Found], skipped: list[str], fit: SurfaceFit) -> list[str]:
    warnings = []
    dropped = int(np.isnan(fit.residual_um).sum())
    if dropped:
        warnings.append(f"{dropped} places lay far off the surface and were left out")
    if len(found) < 9:
        warnings.append(
            f"only {len(found)} places have a focus, {len(skipped)} were left out; "
            "nine or more are better"
        )
    return warnings


def _plot(found: list[_Found], fit: SurfaceFit) -> Plot:
    predicted = [fit.surface.height_um(it.x_um, it.y_um) for it in found]
    return Plot(
        title="Focus of the places against the surface",
        x_label="height of the surface (um)",
        y_label="measured focus less the surface (um)",
        series=(
            Series(
                name="places",
                x=tuple(predicted),
                y=tuple(
                    it.height_um - height
                    for it, height in zip(found, predicted, strict=True)
                ),
            ),
        ),
    )
