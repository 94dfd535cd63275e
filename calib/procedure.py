"""The calibration procedure: runs the steps in order, keeps each at once, goes on.

Nothing here knows what a step measures. A step that cannot be measured is left out with
its reason, unless there is no profile without it. What proves the instrument wrong (a
stage that stands still, another objective) ends the run, and the older profile stays.
"""

import hashlib
import json
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from bifocus.calib.compose_profile import compose_profile
from bifocus.calib.preconditions import (
    check_after,
    check_light,
    check_region,
    explain_no_focus,
)
from bifocus.calib.profile_file import write_profile
from bifocus.calib.profile_identity import read_identity
from bifocus.calib.step_files import FinishedStep, Run, StepFiles
from bifocus.calib.step_result import Bench, StepResult
from bifocus.calib.step_table import BRIEF, STEPS, StepEntry, choose_steps
from bifocus.errors import (
    BlankSlideError,
    CalibrationError,
    ConfigError,
    OutOfTravelError,
)
from bifocus.records import InstrumentProfile

logger = logging.getLogger(__name__)

_NOT_BRIEF = "not part of the brief calibration before a scan; run `bifocus calibrate`"
# What makes a step be left out, where the profile can do without it.
_Unmeasurable = (CalibrationError, BlankSlideError, OutOfTravelError)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEvent:
    """Tells whoever looks on how far the procedure is; `text` explains a skip."""

    entry: StepEntry
    number: int
    total: int
    state: Literal["begins", "kept", "done", "skipped"]
    text: str = ""
    result: StepResult | None = None


OnStep = Callable[[StepEvent], None]
_Keep = Callable[[FinishedStep], FinishedStep]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A finished run: the profile, and every step in the order of the procedure."""

    profile: InstrumentProfile
    steps: tuple[FinishedStep, ...]

    @property
    def results(self) -> tuple[StepResult, ...]:
        """What the steps that were not left out have found."""
        return tuple(step.result for step in self.steps if step.result is not None)


def calibrate_into(
    bench: Bench,
    out: Path,
    *,
    only: Sequence[str] = (),
    is_fresh: bool = False,
    on_step: OnStep | None = None,
    entries: Sequence[StepEntry] = STEPS,
) -> Calibration:
    """Calibrate and write `profile.yaml`, going on with a run that was interrupted.

    Parameters
    ----------
    bench
        The open instrument.
    out
        Folder of the calibration; `steps/` in it keeps what was measured.
    only
        Renew these steps of a finished run; the others stay as they are.
    is_fresh
        Start anew, also where a run could go on.
    on_step
        Is told of every step.
    entries
        The steps of the procedure.

    Raises
    ------
    BifocusError
        If the instrument, the slide or the disk do not allow a profile; what was
        measured is kept, and so is an older profile.
    """
    files = StepFiles(out)
    plan = _plan_run(bench, files, entries, tuple(only), is_fresh)
    _prepare(bench)
    if plan.is_new:
        files.begin(plan.run)
    steps = _run_steps(
        bench,
        entries,
        plan.finished,
        keep=lambda step: files.save(step, plan.run),
        on_step=on_step,
    )
    profile = compose_profile(bench, steps, entries)
    write_profile(out / "profile.yaml", profile)
    files.write_run(plan.run.model_copy(update={"is_finished": True}))
    return Calibration(profile=profile, steps=steps)


def calibrate_briefly(bench: Bench, on_step: OnStep | None = None) -> InstrumentProfile:
    """Measure what a scan cannot do without, in a fraction of the time; keep no files.

    Raises
    ------
    BifocusError
        As `calibrate_into`.
    """
    _prepare(bench)
    left_out = {
        entry.name: FinishedStep(
            name=entry.name, measured_utc=_now(), seconds=0.0, skipped=_NOT_BRIEF
        )
        for entry in STEPS
        if entry.name not in BRIEF
    }
    steps = _run_steps(bench, STEPS, left_out, keep=lambda s: s, on_step=on_step)
    return compose_profile(bench, steps, STEPS)


@dataclass(frozen=True, slots=True, kw_only=True)
class _RunPlan:
    run: Run
    finished: Mapping[str, FinishedStep]
    is_new: bool


def _plan_run(
    bench: Bench,
    files: StepFiles,
    entries: Sequence[StepEntry],
    only: tuple[str, ...],
    is_fresh: bool,
) -> _RunPlan:
    """Decide whether to start anew, to go on, or to renew; nothing is written yet."""
    run = _describe_run(bench)
    if only:
        renewed = choose_steps(entries, only)
        run = _finished_run(files, run)
        kept = [entry.name for entry in entries if entry not in renewed]
        return _RunPlan(run=run, finished=files.load_all(kept, run), is_new=False)
    found = None if is_fresh else files.read_run()
    if found is None or found.is_finished or found.differences(run):
        return _RunPlan(run=run, finished={}, is_new=True)
    finished = files.load_all((entry.name for entry in entries), found)
    logger.info("going on after %d finished steps", len(finished))
    return _RunPlan(run=found, finished=finished, is_new=False)


def _prepare(bench: Bench) -> None:
    """Check what must hold before anything is measured, and lock the exposure."""
    check_region(bench)
    bench.camera.configure(exposure_s=bench.config.camera.exposure_s)
    check_light(bench)


def _run_steps(
    bench: Bench,
    entries: Sequence[StepEntry],
    finished: Mapping[str, FinishedStep],
    *,
    keep: _Keep,
    on_step: OnStep | None,
) -> tuple[FinishedStep, ...]:
    """Run what is not finished yet; return all steps in their order."""
    done: list[FinishedStep] = []
    for number, entry in enumerate(entries, start=1):

        def tell(
            state: Literal["begins", "kept", "done", "skipped"],
            step: FinishedStep | None = None,
            entry: StepEntry = entry,
            number: int = number,
        ) -> None:
            if on_step is not None:
                on_step(
                    StepEvent(
                        entry=entry,
                        number=number,
                        total=len(entries),
                        state=state,
                        text=(step.skipped or "") if step else "",
                        result=step.result if step else None,
                    )
                )

        if (known := finished.get(entry.name)) is not None:
            done.append(known)
            tell("kept", known)
            continue
        tell("begins")
        step = keep(_run_step(bench, entry, done))
        done.append(step)
        tell("skipped" if step.skipped else "done", step)
    return tuple(done)


def _run_step(
    bench: Bench, entry: StepEntry, done: Sequence[FinishedStep]
) -> FinishedStep:
    before = {step.name: step.result for step in done if step.result is not None}
    missing = [name for name in entry.needs if name not in before]
    start_s = bench.clock.monotonic_s()
    result, reason = None, None
    if missing:
        reason = f"needs step {missing[0]}, which was left out"
    else:
        result, reason = _measure(bench, entry, before)
    if result is not None:
        result = check_after(bench, result)
    if reason is not None and entry.is_essential:
        raise CalibrationError(f"step {entry.name}: {reason}")
    return FinishedStep(
        name=entry.name,
        measured_utc=_now(),
        seconds=bench.clock.monotonic_s() - start_s,
        result=result,
        skipped=reason,
    )


def _measure(
    bench: Bench, entry: StepEntry, before: Mapping[str, StepResult]
) -> tuple[StepResult | None, str | None]:
    """Run one step; return its result, or why it cannot be measured.

    Raises
    ------
    CalibrationError, BlankSlideError, OutOfTravelError
        If there is no profile without the step.
    """
    try:
        return entry.run(bench, before), None
    except _Unmeasurable as error:
        if entry.name == "focus":
            explain_no_focus(bench)
        if entry.is_essential:
            raise
        logger.warning("step %s is left out: %s", entry.name, error)
        return None, str(error)


def _describe_run(bench: Bench) -> Run:
    settings = json.dumps(bench.config.model_dump(mode="json"), sort_keys=True)
    return Run(
        id=uuid.uuid4().hex,
        identity=read_identity(bench.stage, bench.camera, bench.config),
        config_sha256=hashlib.sha256(settings.encode()).hexdigest(),
        region_um=bench.region_um,
    )


def _finished_run(files: StepFiles, wanted: Run) -> Run:
    """Return the run whose steps may be renewed one by one.

    Raises
    ------
    ConfigError
        If there is none, it was interrupted, or it is of something else.
    """
    found = files.read_run()
    if found is None or not found.is_finished:
        state = "no calibration there" if found is None else "it was interrupted"
        msg = (
            f"{files.out}: --only renews steps of a finished calibration, and {state}: "
        )
        raise ConfigError(msg + "run `bifocus calibrate` without --only first")
    differences = found.differences(wanted)
    if differences:
        msg = (
            f"{files.out}: --only renews steps of the same calibration; this one "
            "differs (then / now), so run `bifocus calibrate` without --only:\n  "
            + "\n  ".join(differences)
        )
        raise ConfigError(msg)
    return found


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
