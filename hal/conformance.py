"""What the conformance kit finds: one finding for each rule, gathered in a report.

A *check* asks one rule of `bifocus.hal.devices` of open devices and answers with a
finding: what was measured, what was expected, and what to do about it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from bifocus.hal.conformance_bench import Bench

Outcome = Literal["pass", "fail", "skip"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check saw; `figures` holds the numbers, with units in their names."""

    outcome: Outcome
    measured: str
    expected: str = ""
    next_step: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)


def judge(
    is_sound: bool,
    *,
    measured: str,
    expected: str,
    next_step: str,
    figures: Mapping[str, float] | None = None,
) -> Finding:
    """Return a pass, or a fail with its next step.

    Examples
    --------
    >>> judge(True, measured="2 um", expected="<= 3 um", next_step="oil it").outcome
    'pass'
    """
    return Finding(
        outcome="pass" if is_sound else "fail",
        measured=measured,
        expected=expected,
        next_step="" if is_sound else next_step,
        figures=figures or {},
    )


def skip(reason: str, *, next_step: str = "") -> Finding:
    """Return the finding of a rule that cannot be asked here, and why."""
    return Finding(outcome="skip", measured=reason, next_step=next_step)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One rule: its name, what it asks in a sentence, and how it is asked."""

    name: str
    asks: str
    run: "Callable[[Bench], Finding]"

    def __str__(self) -> str:
        """Return the name, as test ids show it."""
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """The finding of one check and how long it took on the bench's clock."""

    name: str
    asks: str
    finding: Finding
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ConformanceReport:
    """All results of one run, with what stood on the bench."""

    facts: Mapping[str, Any]
    results: tuple[CheckResult, ...]

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the checks that failed, in the order they ran."""
        return self._names("fail")

    @property
    def skipped(self) -> tuple[str, ...]:
        """Names of the checks that could not be asked."""
        return self._names("skip")

    def _names(self, outcome: Outcome) -> tuple[str, ...]:
        return tuple(
            result.name for result in self.results if result.finding.outcome == outcome
        )
