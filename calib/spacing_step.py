"""Calibration step `spacing`: which half-spacing dD to scan with, and what it becomes.

The quality of fused tiles is predicted for each dD from the optics, the noise and the
tissue seen. Then pairs are shot as in a scan, and the heights of both shots are read
from their sharpness against z-stacks: the achieved dD (`spacing_pairs`, and
`spacing_length` for what a micrometre is), and whether both lie evenly about the focus.
"""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bifocus.calib.focus_search import (
    measure_peak,
    optics_dof_um,
    plane_phase,
    take_fine,
)
from bifocus.calib.spacing_length import ZLength, choose_length, spacing_values
from bifocus.calib.spacing_pairs import PairShooter, grab_gray
from bifocus.calib.spacing_prediction import (
    SpacingCurve,
    measure_power,
    predict_curve,
)
from bifocus.calib.spacing_report import list_warnings, plot_pairs, plot_prediction
from bifocus.calib.spacing_ruler import SharpnessRuler, make_ruler
from bifocus.calib.step_result import Bench, StepResult
from bifocus.calib.trained_range import (
    explain_range,
    half_spacing_range_um,
    load_default_manifest,
)
from bifocus.calib.zstack import ZStack
from bifocus.calibrated_optics import CalibratedOptics
from bifocus.engine_manifest import EngineManifest
from bifocus.errors import CalibrationError
from bifocus.optics import Objective
from bifocus.records import FloatImage, StagePosition
from bifocus.transfer import Light

logger = logging.getLogger(__name__)

Float64 = npt.NDArray[np.float64]

_HALF_RANGE_DOF = 3.0
_FINE_STEP_DOF = 1 / 3
_RULER_STACKS = 2
# What the scatter of the pairs may leave of u: of 0.025 um in all, which is asked for,
# or less than the length along z leaves.
_PAIRS_U_UM, _PAIRS_SHARE = 0.014, 0.7
# Half-spacings that are tried, in lambda / NA^2 (0.94 um at NA 0.75, green).
_TRIED_UNITS = np.asarray(np.linspace(0.2, 2.4, 45), dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setting:
    """What is known before the pairs are shot."""

    x_um: float
    y_um: float
    dof_um: float
    motor_um: float
    objective: Objective
    light: Light
    repeatability_um: float
    engaged_from_um: float
    manifest: EngineManifest | None

    def at(self, z_um: float) -> StagePosition:
        """Return the place of the tile at a height."""
        return StagePosition(x_um=self.x_um, y_um=self.y_um, z_um=z_um)


def measure_spacing(bench: Bench, before: Mapping[str, StepResult]) -> StepResult:
    """Choose dD and measure what it becomes; see `step_result.Step`.

    Raises
    ------
    CalibrationError
        If dD is too small or too large for its shots to be placed by their sharpness.
    """
    setting = _setting(bench, before)
    digest = hashlib.sha256()
    stacks, focus_um = _take_ruler_stacks(bench, setting, before)
    for stack in stacks:
        digest.update(bytes.fromhex(stack.digest))
    focused = grab_gray(bench.stage, bench.camera, setting.at(focus_um), digest)
    curve = _predict(bench, setting, focused, stacks[-1].noise_floor)
    commanded_um = _choose(bench, setting, curve)
    ruler = _ruler(stacks, setting, commanded_um)
    length = _length(bench, before)
    shooter = PairShooter(
        stage=bench.stage,
        camera=bench.camera,
        at=setting.at,
        ruler=ruler,
        noise_floor=stacks[-1].noise_floor,
        focus_um=focus_um,
        half_um=commanded_um,
        engaged_from_um=setting.engaged_from_um,
        digest=digest,
    )
    pairs = shooter.shoot(max(_PAIRS_U_UM, _PAIRS_SHARE * length.u * commanded_um))
    choice = bench.config.calibration.choose_half_spacing
    values, budget_um = spacing_values(pairs, ruler, length, commanded_um, choice)
    achieved = values["half_spacing_um"]
    logger.info(
        "half-spacing %.3f um, u %.3f um", achieved.value, achieved.standard_uncertainty
    )
    facts: dict[str, Any] = {
        "prediction": {
            "half_spacing_um": _rounded(curve.half_spacing_um),
            "mean_db": _rounded(curve.mean_db),
            "worst_tenth_db": _rounded(curve.worst_tenth_db),
        },
        "best_um": curve.best_um,
        "loss_db": float(curve.mean_db.max()) - curve.at(commanded_um),
        "focal_spread_um": bench.config.calibration.focal_spread_um,
        "pairs": pairs.half_um.size,
        "pair_scatter_um": float(pairs.half_um.std(ddof=1)),
        "miss_um": float(pairs.miss_um.coefficients[0]),
        "centre_um": float((pairs.plus_um + pairs.minus_um).mean() / 2),
        "symmetry": float(np.exp((pairs.plus_log - pairs.minus_log).mean())),
        "budget_um": budget_um,
        "z_tolerance": bench.config.calibration.z_tolerance,
        "z_length": {"scale": length.scale, "u": length.u, "source": length.source},
        **_trained_facts(bench, setting, achieved.value),
    }
    return StepResult(
        name="spacing",
        values=values,
        facts=facts,
        plots=(plot_prediction(curve, commanded_um), plot_pairs(pairs)),
        warnings=tuple(list_warnings(facts, commanded_um)),
        raw_sha256=digest.hexdigest(),
    )


def _setting(bench: Bench, before: Mapping[str, StepResult]) -> _Setting:
    optics, facts = bench.config.optics, before["focus"].facts
    na, light = optics.na, Light(pupil=optics.pupil)
    fitted = None
    if "optics" in before:
        fitted = before["optics"].facts.get("calibrated_optics")
    if fitted is not None:
        calibrated = CalibratedOptics.from_dict(fitted)
        na, light = calibrated.na, calibrated.light
    scatter_um = before["focus"].values["focus_um"].standard_uncertainty
    if "z" in before:
        scatter_um = before["z"].values["repeatability_z_um"].value
    return _Setting(
        x_um=float(facts["x_um"]),
        y_um=float(facts["y_um"]),
        dof_um=optics_dof_um(optics),
        motor_um=bench.stage.capabilities.resolution_um.z_um,
        objective=Objective(
            na=na,
            wavelength_um=optics.wavelengths_um[1],
            refractive_index=optics.refractive_index,
        ),
        light=light,
        repeatability_um=scatter_um,
        engaged_from_um=float(facts["engaged_from_um"]),
        manifest=load_default_manifest(),
    )


def _length(bench: Bench, before: Mapping[str, StepResult]) -> ZLength:
    seen = before["optics"].values.get("z_scale") if "optics" in before else None
    return choose_length(bench.config, seen)


def _take_ruler_stacks(
    bench: Bench, setting: _Setting, before: Mapping[str, StepResult]
) -> tuple[list[ZStack], float]:
    """Take upward stacks as the ruler; return them and where the focus is now."""
    step_um = bench.config.calibration.fine_step_um or _FINE_STEP_DOF * setting.dof_um
    step_um = max(round(step_um / setting.motor_um), 1) * setting.motor_um
    half_um = _HALF_RANGE_DOF * setting.dof_um
    focus_um = before["focus"].values["focus_um"].value
    stacks = []
    for number in range(_RULER_STACKS):
        shift_um = plane_phase(number) * step_um
        stack = take_fine(
            bench.stage,
            bench.camera,
            (setting.x_um, setting.y_um),
            (focus_um + shift_um, half_um, step_um),
            start_um=setting.engaged_from_um,
        )
        focus_um = measure_peak(stack).focus_um
        stacks.append(stack)
    return stacks, round(focus_um / setting.motor_um) * setting.motor_um


def _predict(
    bench: Bench, setting: _Setting, focused: FloatImage, noise_floor: float
) -> SpacingCurve:
    tissue = measure_power(
        focused / np.float32(255),
        max((noise_floor / 2) ** 0.5, 0.3) / 255,
        objective=setting.objective,
        light=setting.light,
        pixel_um=bench.config.optics.pixel_um,
    )
    unit_um = setting.objective.wavelength_um / setting.objective.na**2
    return predict_curve(
        tissue,
        setting.objective,
        setting.light,
        half_spacings_um=_TRIED_UNITS * unit_um,
        spread_um=bench.config.calibration.focal_spread_um,
        repeatability_um=setting.repeatability_um,
    )


def _choose(bench: Bench, setting: _Setting, curve: SpacingCurve) -> float:
    """Return dD as configured, or the best one, in whole motor steps.

    Then both shots are rounded alike, wherever F lies.
    """
    half_um = bench.config.scan.half_spacing_um
    if bench.config.calibration.choose_half_spacing == "auto":
        half_um = curve.best_um
        if setting.manifest is not None:
            low_um, high_um = half_spacing_range_um(
                setting.manifest, setting.objective.na
            )
            half_um = min(max(half_um, low_um), high_um)
    return max(round(half_um / setting.motor_um), 1) * setting.motor_um


def _ruler(
    stacks: list[ZStack], setting: _Setting, commanded_um: float
) -> SharpnessRuler:
    reach_um = max(1.6 * commanded_um, 1.5 * setting.dof_um)
    if reach_um > _HALF_RANGE_DOF * setting.dof_um:
        msg = (
            f"half-spacing {commanded_um:g} um is too large for a depth of field of "
            f"{setting.dof_um:.2f} um: the shots would hold no detail; set "
            "scan.half_spacing_um smaller"
        )
        raise CalibrationError(msg)
    return make_ruler(
        [stack.z_um - measure_peak(stack).focus_um for stack in stacks],
        [stack.sharpness for stack in stacks],
        reach_um=reach_um,
    )


def _trained_facts(bench: Bench, setting: _Setting, half_um: float) -> dict[str, Any]:
    manifest = setting.manifest
    if manifest is None:
        return {}
    na = setting.objective.na
    reason = explain_range(
        manifest,
        na=na,
        pixel_um=bench.config.optics.pixel_um,
        half_spacing_um=half_um,
    )
    low_um, high_um = half_spacing_range_um(manifest, na)
    return {
        "inside_trained_range": reason is None,
        "trained_range_um": [low_um, high_um],
        "trained_range_reason": reason,
    }


def _rounded(values: Float64) -> list[float]:
    return [round(float(value), 4) for value in values]
