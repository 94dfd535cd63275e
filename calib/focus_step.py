"""Calibration step `focus`: the best focus of a place with texture, and its curve.

Places all over the region are tried until one shows a focus; why the others did not is
kept. What *focus* means is said in `bifocus.focus_curve`.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from bifocus.calib.focus_search import FocusSearch, find_focus
from bifocus.calib.step_result import Bench, Plot, Region, Series, StepResult
from bifocus.errors import BlankSlideError, CalibrationError
from bifocus.records import UInt8Image

logger = logging.getLogger(__name__)

# Places tried for the first tile, as fractions of the region: its middle, then around.
_PLACES = (
    *((0.5, 0.5), (0.35, 0.35), (0.65, 0.65), (0.65, 0.35), (0.35, 0.65)),
    *((0.2, 0.5), (0.8, 0.5), (0.5, 0.2), (0.5, 0.8)),
)
_PICTURES = 9
_LEAST_REPEATS = 5
# Gaussian and log-parabola further apart than this share of the curve's half-width:
# the optics are no longer those of the label.
_MOST_SKEW = 0.03


def measure_focus(bench: Bench, before: Mapping[str, StepResult]) -> StepResult:
    """Find a place with texture, and its best focus; see `step_result.Step`.

    Raises
    ------
    BlankSlideError
        If no place of the region has texture.
    CalibrationError
        If there is texture, but no focus could be found; with the reason of each place.
    """
    bench.camera.configure(exposure_s=bench.config.camera.exposure_s)
    search, refused = _search(bench)
    estimate, last = search.estimate, search.fine[-1]
    logger.info("focus %.2f um, u %.3f um", estimate.focus_um, estimate.u_um)
    digest = hashlib.sha256()
    for stack in (search.coarse, *search.fine):
        digest.update(bytes.fromhex(stack.digest))
    return StepResult(
        name="focus",
        values={"focus_um": search.focus_um},
        facts={
            "x_um": search.coarse.x_um,
            "y_um": search.coarse.y_um,
            "reference_s": estimate.reference_s,
            "engaged_from_um": float(search.coarse.z_um[0]),
            "texture": round(last.texture, 2),
            "saturation": last.saturated,
            "flicker": last.flicker,
            "asymmetry": _skew(search),
            "asymmetry_um": estimate.asymmetry_um,
            "width_um": _width_um(search),
            "drift": estimate.drift_um_per_hour,
            "drift_u": estimate.drift_u_um_per_hour,
            "budget_um": estimate.budget_um,
            "plane_um": search.step_um,
            "depth_of_field_um": search.dof_um,
            "refused_places": list(refused),
            "curve": {
                "z_um": [round(float(z), 4) for z in last.z_um],
                "sharpness": [round(float(s), 4) for s in last.sharpness],
            },
        },
        plots=(_curve_plot(search), _repeats_plot(search)),
        pictures=_pictures(search),
        warnings=tuple(_warnings(search)),
        raw_sha256=digest.hexdigest(),
    )


def _search(bench: Bench) -> tuple[FocusSearch, list[str]]:
    """Return the focus of the first place that has one, and why others had none."""
    refused: list[str] = []
    n_blank = 0
    for x_um, y_um in places(bench.region_um):
        try:
            search = find_focus(
                bench.stage,
                bench.camera,
                bench.config.optics,
                bench.config.calibration,
                x_um=x_um,
                y_um=y_um,
            )
        except (BlankSlideError, CalibrationError) as error:
            logger.info("%s; trying the next place", error)
            refused.append(str(error))
            n_blank += isinstance(error, BlankSlideError)
        else:
            return search, refused
    if n_blank == len(refused):
        msg = (
            f"no tissue at {n_blank} places of the region "
            f"{tuple(round(v, 1) for v in bench.region_um)} um; check the slide, the "
            "light and the region"
        )
        raise BlankSlideError(msg)
    reasons = "\n  ".join(refused)
    msg = (
        f"no focus at {len(refused)} places of the region, {n_blank} of them clear "
        "glass; mend the reasons below, or set calibration.z_start_um to within some "
        f"um of the focus:\n  {reasons}"
    )
    raise CalibrationError(msg)


def places(region_um: Region) -> Iterator[tuple[float, float]]:
    """Yield the places where a focus is looked for: the middle, then around it."""
    x_um, y_um, width_um, height_um = region_um
    for across, down in _PLACES:
        yield x_um + across * width_um, y_um + down * height_um


def _width_um(search: FocusSearch) -> float:
    return float(np.mean([peak.sigma_um for peak in search.peaks]))


def _skew(search: FocusSearch) -> float:
    """Return how far the estimators are apart, in standard widths of the curve."""
    return search.estimate.asymmetry_um / _width_um(search)


def _warnings(search: FocusSearch) -> Iterator[str]:
    estimate, skew = search.estimate, _skew(search)
    if len(search.peaks) < _LEAST_REPEATS:
        yield (
            f"only {len(search.peaks)} stacks: the uncertainty of the focus is rough; "
            f"set calibration.repeats to {_LEAST_REPEATS} or more"
        )
    if abs(skew) > _MOST_SKEW:
        yield (
            f"the focus curve is skewed by {skew:+.2f} of its width: spherical "
            "aberration (cover glass, immersion, correction collar?), or two layers"
        )
    if search.fine[-1].texture < 3:
        yield (
            f"little texture: the sharpest plane has {search.fine[-1].texture:.1f} "
            "times the noise's own sharpness"
        )
    if estimate.u_um > search.dof_um / 10:
        yield (
            f"the focus is uncertain by {2 * estimate.u_um:.2f} um (k = 2), over a "
            "fifth of the depth of field; more light, more repeats, a calmer stage?"
        )


def _curve_plot(search: FocusSearch) -> Plot:
    last, peak = search.fine[-1], search.peaks[-1]
    top = float(last.sharpness.max())
    z_um = np.linspace(peak.focus_um - peak.sigma_um, peak.focus_um + peak.sigma_um, 41)
    gaussian = top * np.exp(-(((z_um - peak.gaussian_um) / peak.sigma_um) ** 2) / 2)
    best = int(np.argmax(last.sharpness))
    near = slice(best - 1, best + 2)
    bend = np.polyfit(
        last.z_um[near] - peak.focus_um, np.log(last.sharpness[near] + 1e-12), 2
    )
    three_um = np.linspace(float(last.z_um[best - 1]), float(last.z_um[best + 1]), 21)
    parabola = np.exp(np.polyval(bend, three_um - peak.focus_um))
    return Plot(
        title="Focus curve of the last stack",
        x_label="z (um)",
        y_label="sharpness (Brenner, levels squared)",
        series=(
            Series(name="planes", x=_floats(last.z_um), y=_floats(last.sharpness)),
            Series(
                name="log-parabola through three planes",
                x=_floats(three_um),
                y=_floats(parabola),
                style="line",
            ),
            Series(
                name="Gaussian through the upper half",
                x=_floats(z_um),
                y=_floats(gaussian),
                style="line",
            ),
        ),
        marks=(("F", search.estimate.focus_um),),
    )


def _repeats_plot(search: FocusSearch) -> Plot:
    estimate, peaks = search.estimate, search.peaks
    start_s = peaks[0].time_s
    minutes = [(peak.time_s - start_s) / 60 for peak in peaks]
    rate = estimate.drift_um_per_hour or 0.0
    line = [
        estimate.focus_um + rate * (peak.time_s - estimate.reference_s) / 3600
        for peak in peaks
    ]
    return Plot(
        title="Focus of the repeated stacks",
        x_label="time (min)",
        y_label="focus (um)",
        series=(
            Series(
                name="log-parabola",
                x=tuple(minutes),
                y=tuple(peak.focus_um for peak in peaks),
            ),
            Series(
                name="Gaussian",
                x=tuple(minutes),
                y=tuple(peak.gaussian_um for peak in peaks),
            ),
            Series(name="drift", x=tuple(minutes), y=tuple(line), style="line"),
        ),
    )


def _pictures(search: FocusSearch) -> dict[str, UInt8Image]:
    """Return small pictures of some planes of the last stack, in ascending order."""
    last = search.fine[-1]
    chosen = np.unique(
        np.linspace(0, last.z_um.size - 1, _PICTURES).round().astype(int)
    )
    focus_um = search.estimate.focus_um
    return {
        f"z {last.z_um[index] - focus_um:+.2f} um": last.thumbnails[index]
        for index in chosen.tolist()
    }


def _floats(values: npt.NDArray[np.floating[Any]]) -> tuple[float, ...]:
    return tuple(map(float, values))
