"""A verification: measure briefly, judge, keep the history, write the page."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bifocus.calib.profile_identity import check_identity, read_identity
from bifocus.calib.step_result import Bench
from bifocus.calib.verify_history import append_run, read_runs
from bifocus.calib.verify_judge import Check, State, judge
from bifocus.calib.verify_measure import measure_again
from bifocus.calib.verify_page import write_verify_page
from bifocus.records import InstrumentProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """The outcome: `out` if any value is out, else `watch` if any leans, else `pass`.

    `steps` are those to calibrate again.
    """

    checks: tuple[Check, ...]
    verdict: State
    steps: tuple[str, ...]
    page: Path
    history: Path
    seconds: float


def verify(
    bench: Bench, profile: InstrumentProfile, out: Path, now: datetime
) -> Verification:
    """Verify an open instrument against its profile.

    Parameters
    ----------
    out
        Folder for `verify.html` and `verify.jsonl`; usually the profile's own.
    now
        Time of this run, with its zone.

    Raises
    ------
    ConfigError
        If the profile belongs to another instrument.
    CalibrationError
        If the light is off or saturated.
    DeviceError
        If stage or camera fail.
    SlideFileError
        If the disk refuses.
    """
    check_identity(profile, read_identity(bench.stage, bench.camera, bench.config))
    history = out / "verify.jsonl"
    earlier = read_runs(history, profile.sha256)
    start_s = bench.clock.monotonic_s()
    bench.camera.configure(exposure_s=bench.config.camera.exposure_s)
    readings = measure_again(bench, profile)
    seconds = bench.clock.monotonic_s() - start_s
    checks = judge(profile, readings.values, readings.refused, earlier, now)
    verdict = _worst(checks)
    append_run(history, now, profile.sha256, readings.values, verdict)
    page = out / "verify.html"
    write_verify_page(page, profile, checks, verdict)
    broken = [check.control.step for check in checks if check.state == "out"]
    return Verification(
        checks=checks,
        verdict=verdict,
        steps=tuple(dict.fromkeys(broken)),
        page=page,
        history=history,
        seconds=seconds,
    )


def _worst(checks: tuple[Check, ...]) -> State:
    states = {check.state for check in checks}
    return "out" if "out" in states else "watch" if "watch" in states else "pass"
