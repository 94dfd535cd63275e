"""The profile made of finished steps: pure, without device or file."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone

from bifocus import __version__
from bifocus.calib.optics_focus import refine_focus
from bifocus.calib.profile_identity import read_identity
from bifocus.calib.step_files import FinishedStep, plain_json
from bifocus.calib.step_result import Bench, StepResult
from bifocus.calib.step_table import StepEntry
from bifocus.calibrated_optics import CalibratedOptics
from bifocus.records import FlatField, InstrumentProfile, Measured

# Facts that have a place of their own in the profile.
_OWN_PLACE = ("curve", "flat_field", "calibrated_optics")
# Steps further apart than that may have seen another slide, lamp or temperature.
_MOST_APART_S = 4 * 3600.0


def compose_profile(
    bench: Bench, steps: Sequence[FinishedStep], entries: Sequence[StepEntry]
) -> InstrumentProfile:
    """Return the profile of an instrument from all its steps.

    Parameters
    ----------
    bench
        Tells whose profile it is.
    steps
        In the order of the procedure; `focus` and `spacing` have results.
    entries
        Tell which step rests on which.
    """
    results = {step.name: step.result for step in steps if step.result is not None}
    focus = results["focus"]
    values: dict[str, Measured] = {}
    for result in results.values():
        values |= result.values
    values |= refine_focus(values["focus_um"], values.get("focus_shift_um"))
    stage, camera = bench.stage.capabilities, bench.camera.capabilities
    return InstrumentProfile(
        identity=read_identity(bench.stage, bench.camera, bench.config),
        created_utc=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        software_version=__version__,
        raw_sha256=_digest(results),
        focus_um=values["focus_um"],
        focus_x_um=float(focus.facts["x_um"]),
        focus_y_um=float(focus.facts["y_um"]),
        half_spacing_um=values["half_spacing_um"],
        flat_field=_flat_field(results.get("illumination")),
        simulated=stage.simulated or camera.simulated,
        optics=_optics(results.get("optics")),
        curve=plain_json(focus.facts.get("curve", {})),
        values=values,
        facts={name: kept for name, r in results.items() if (kept := _facts(r))},
        skipped={step.name: step.skipped for step in steps if step.skipped},
        warnings=(*_warnings(results), *find_stale(steps, entries)),
        steps={
            step.name: step.measured_utc for step in steps if step.result is not None
        },
    )


def find_stale(
    steps: Sequence[FinishedStep], entries: Sequence[StepEntry]
) -> list[str]:
    """Return a warning for each step that is older than one that it rests on."""
    dates = {step.name: step.measured_utc for step in steps if step.result}
    found = []
    for entry in entries:
        rests_on = [name for name in (*entry.needs, *entry.uses) if name in dates]
        newer = [name for name in rests_on if dates[name] > dates.get(entry.name, "~")]
        if newer:
            found.append(
                f"step {entry.name} was measured before {' and '.join(newer)} was "
                f"renewed, and may be stale: `bifocus calibrate --only {entry.name}`"
            )
    if dates and (apart_s := _apart_s(dates)) > _MOST_APART_S:
        found.append(
            f"the steps were measured {apart_s / 3600:.0f} hours apart: slide, lamp "
            "and temperature may have changed in between"
        )
    return found


def _apart_s(dates: Mapping[str, str]) -> float:
    times = [datetime.fromisoformat(date) for date in dates.values()]
    return (max(times) - min(times)).total_seconds()


def _warnings(results: Mapping[str, StepResult]) -> list[str]:
    return [f"{name}: {text}" for name, r in results.items() for text in r.warnings]


def _facts(result: StepResult) -> dict[str, object]:
    facts = plain_json(result.facts)
    return {key: value for key, value in facts.items() if key not in _OWN_PLACE}


def _digest(results: Mapping[str, StepResult]) -> str:
    """Return the digest of all pixels, from those of the steps in their order."""
    digest = hashlib.sha256()
    for name, result in results.items():
        digest.update(f"{name} {result.raw_sha256}\n".encode())
    return digest.hexdigest()


def _flat_field(illumination: StepResult | None) -> FlatField | None:
    fitted = illumination.facts.get("flat_field") if illumination else None
    if not fitted:
        return None
    rows = tuple(tuple(map(float, row)) for row in fitted["coefficients"])
    return FlatField(coefficients=rows, glass_fraction=float(fitted["glass_fraction"]))


def _optics(optics: StepResult | None) -> CalibratedOptics | None:
    fitted = optics.facts.get("calibrated_optics") if optics else None
    return CalibratedOptics.from_dict(fitted) if fitted else None
