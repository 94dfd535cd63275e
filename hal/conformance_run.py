"""Runs the checks on the bench, one after the other, and never hangs itself."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bifocus.errors import BifocusError, ConfigError
from bifocus.hal.conformance import (
    Check,
    CheckResult,
    ConformanceReport,
    Finding,
    judge,
    skip,
)
from bifocus.hal.conformance_bench import Bench
from bifocus.hal.conformance_camera import (
    check_camera_closing,
    check_exposure,
    check_frame_deadline,
    check_frames,
    check_fresh_frame,
)
from bifocus.hal.conformance_repeat import check_repeatability
from bifocus.hal.conformance_stage import (
    check_closing,
    check_limits,
    check_opening,
    check_receipt,
    check_reopening,
    check_targets,
    check_without_wait,
)
from bifocus.hal.conformance_stop import check_stop_at_rest, check_stop_in_motion
from bifocus.hal.conformance_wire import (
    check_error_reply,
    check_lost_reply,
    check_silence,
    check_unplugging,
)

logger = logging.getLogger(__name__)

_WHOLE_CHECK = 10  # a check makes many calls, and may take so many patiences


def _check(name: str, run: Callable[[Bench], Finding]) -> Check:
    """Return the check; what it asks is the first line of its docstring."""
    asks = (run.__doc__ or name).splitlines()[0].removeprefix("Check that ")
    return Check(name=name, asks=asks, run=run)


# Gentle ones first: what a later one needs has been asked before.
STAGE_CHECKS = (
    _check("opening-moves-nothing", check_opening),
    _check("target-reached", check_targets),
    _check("receipt-is-true", check_receipt),
    _check("limits-raise", check_limits),
    _check("move-without-wait", check_without_wait),
    _check("stop-at-rest", check_stop_at_rest),
    _check("stop-in-motion", check_stop_in_motion),
    _check("repeatability", check_repeatability),
    _check("reopening", check_reopening),
    _check("closing-twice", check_closing),
)
CAMERA_CHECKS = (
    _check("frames-are-whole", check_frames),
    _check("frame-is-fresh", check_fresh_frame),
    _check("exposure-is-kept", check_exposure),
    _check("frame-wait-ends", check_frame_deadline),
    _check("camera-closing-twice", check_camera_closing),
)
WIRE_CHECKS = (
    _check("lost-reply-moves-once", check_lost_reply),
    _check("error-reply-raises", check_error_reply),
    _check("silence-ends", check_silence),
    _check("unplugging", check_unplugging),
)
ALL_CHECKS = STAGE_CHECKS + CAMERA_CHECKS + WIRE_CHECKS


def choose_checks(names: Sequence[str]) -> tuple[Check, ...]:
    """Return the checks of these names, all for none, in their order.

    The first check is always among them: it finds out whether the board forgets where
    it is, on which the room of all others depends.

    Raises
    ------
    ConfigError
        If a name is unknown; the text lists the known ones.
    """
    known = {check.name: check for check in ALL_CHECKS}
    unknown = [name for name in names if name not in known]
    if unknown:
        msg = f"no check is named {', '.join(unknown)}; there are {', '.join(known)}"
        raise ConfigError(msg)
    first, *others = ALL_CHECKS
    return (first, *(c for c in others if not names or c.name in names))


Progress = Callable[[int, int], None]


def run_check(check: Check, bench: Bench) -> CheckResult:
    """Ask one rule. Whatever the driver raises is a finding, not an error.

    Afterwards the devices have been opened anew if the check left them uncertain.
    """
    limit_s = _WHOLE_CHECK * bench.patience_s
    ended = bench.within(lambda: check.run(bench), limit_s)
    finding = ended.value
    if finding is None:
        finding = judge(
            False,
            measured=f"still running after {limit_s:g} s"
            if ended.is_hung
            else f"raised {type(ended.error).__name__}: {ended.error}",
            expected=check.asks,
            next_step="an error that the check does not expect: look at its text, and "
            "run with -v to see the exchanges",
        )
        _renew(bench)
    logger.info("%s: %s, %s", check.name, finding.outcome, finding.measured)
    return CheckResult(
        name=check.name, asks=check.asks, finding=finding, seconds=ended.seconds
    )


def run_checks(
    bench: Bench,
    checks: Sequence[Check] = ALL_CHECKS,
    *,
    facts: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> ConformanceReport:
    """Ask every rule; one that cannot be asked since the device died is skipped."""
    results: list[CheckResult] = []
    for number, check in enumerate(checks, 1):
        if bench.is_open:
            results.append(run_check(check, bench))
        else:
            finding = skip("the device could not be opened again after the last check")
            results.append(
                CheckResult(
                    name=check.name, asks=check.asks, finding=finding, seconds=0.0
                )
            )
        if progress:
            progress(number, len(checks))
    return ConformanceReport(facts=facts or {}, results=tuple(results))


def _renew(bench: Bench) -> None:
    """Open the devices anew; leave the bench closed where that fails."""
    try:
        bench.reopen()
    except BifocusError as error:
        logger.warning("the device cannot be opened again: %s", error)
