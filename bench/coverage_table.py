"""How often stated 95 % intervals hold the truth: outcomes of trials, their table."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

INTERVAL_U = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one trial stated about one value.

    `spherical_waves` is the aberration of the instrument that was drawn, `scale_error`
    what the drive's own um add to the error.
    """

    key: str
    seed: int
    error: float
    u: float
    spherical_waves: float = 0.0
    scale_error: float = 0.0

    @property
    def is_covered(self) -> bool:
        """Whether value +- 2 u holds the truth."""
        return abs(self.error) <= INTERVAL_U * self.u


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table."""

    key: str
    count: int
    coverage: float
    rmse: float
    mean_u: float
    bias: float
    worst_u: float


def summarise(outcomes: Iterable[Outcome]) -> list[Row]:
    """Return one row for each value, in order of appearance."""
    by_key: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_key.setdefault(outcome.key, []).append(outcome)
    return [_row(key, group) for key, group in by_key.items()]


def _row(key: str, group: list[Outcome]) -> Row:
    error = np.array([outcome.error for outcome in group])
    u = np.array([outcome.u for outcome in group])
    return Row(
        key=key,
        count=len(group),
        coverage=float(np.mean([outcome.is_covered for outcome in group])),
        rmse=float(np.sqrt(np.mean(error**2))),
        mean_u=float(u.mean()),
        bias=float(error.mean()),
        worst_u=float(np.max(np.abs(error) / u)),
    )


def format_table(rows: Iterable[Row]) -> str:
    """Return the table as Markdown."""
    lines = [
        "| value | trials | coverage of ±2u | RMSE | mean u | bias | worst error / u |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| `{row.key}` | {row.count} | {row.coverage:.1%} | {row.rmse:.4f} "
        f"| {row.mean_u:.4f} | {row.bias:+.4f} | {row.worst_u:.1f} |"
        for row in rows
    ]
    return "\n".join(lines)
