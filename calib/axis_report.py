"""A report on one linear axis in the style of ISO 230-2, from image shifts. Pure.

The formulas are those of `FORMULAS`; see also the caveat, which is printed with them.
"""

import math
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from bifocus.errors import CalibrationError

Float64 = npt.NDArray[np.float64]

RUNS = 5  # in each direction, as the standard asks

FORMULAS = (
    "targets P_i = (i - 1) p + r, r random, against periodic errors; 5 runs upward (U) "
    "and 5 downward (D); x_ij = actual - commanded place",
    "per target: mean and standard deviation s of each direction; B_i = mean_U - "
    "mean_D",
    "R_i,U = 4 s_U, R_i,D = 4 s_D, R_i = max(2 s_U + 2 s_D + |B_i|, R_i,U, R_i,D)",
    "reversal B = max |B_i|; repeatability R = max R_i",
    "systematic deviation E = max - min of all directional means; M = max - min of the "
    "means of both directions",
    "accuracy A = max(mean + 2 s) - min(mean - 2 s), over both directions",
)
CAVEAT = (
    "ISO 230-2-style, image-based: places come from the shifts of pictures over the "
    "region, not from a direct-measurement instrument (laser) over the whole travel, "
    "as the standard needs; lengths rest on the pixel of step xy"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetRow:
    """One target of an axis; micrometres."""

    target_um: float
    mean_up_um: float
    mean_down_um: float
    s_up_um: float
    s_down_um: float
    reversal_um: float
    repeatability_up_um: float
    repeatability_down_um: float
    repeatability_um: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisReport:
    """Results of one axis; micrometres. Letters are those of the formulas."""

    rows: tuple[TargetRow, ...]
    reversal_um: float  # B
    mean_reversal_um: float
    repeatability_up_um: float
    repeatability_down_um: float
    repeatability_um: float  # R
    systematic_up_um: float
    systematic_down_um: float
    systematic_um: float  # E
    mean_range_um: float  # M
    accuracy_up_um: float
    accuracy_down_um: float
    accuracy_um: float  # A
    u_repeatability_um: float
    u_accuracy_um: float

    def as_facts(self) -> dict[str, object]:
        """Return plain JSON values: the targets as a table, then the results."""
        facts = asdict(self)
        return {"targets": facts.pop("rows"), **facts}


def report_axis(targets_um: Float64, up_um: Float64, down_um: Float64) -> AxisReport:
    """Evaluate one axis.

    Parameters
    ----------
    targets_um
        Commanded places, shape (targets,).
    up_um, down_um
        Deviations, actual less commanded, shape (targets, runs), at least two runs. A
        constant common to all does not matter.

    Raises
    ------
    CalibrationError
        If the shapes do not fit.
    """
    if up_um.shape != down_um.shape or up_um.shape[0] != targets_um.size:
        msg = f"axis report: {targets_um.size} targets, {up_um.shape}, {down_um.shape}"
        raise CalibrationError(msg)
    runs = up_um.shape[1]
    means = np.stack([up_um.mean(axis=1), down_um.mean(axis=1)])
    s = np.stack([up_um.std(axis=1, ddof=1), down_um.std(axis=1, ddof=1)])
    b = means[0] - means[1]
    r = np.maximum.reduce([2 * s.sum(axis=0) + np.abs(b), 4 * s[0], 4 * s[1]])
    high, low = means + 2 * s, means - 2 * s
    return AxisReport(
        rows=tuple(
            TargetRow(
                target_um=float(targets_um[i]),
                mean_up_um=float(means[0, i]),
                mean_down_um=float(means[1, i]),
                s_up_um=float(s[0, i]),
                s_down_um=float(s[1, i]),
                reversal_um=float(b[i]),
                repeatability_up_um=float(4 * s[0, i]),
                repeatability_down_um=float(4 * s[1, i]),
                repeatability_um=float(r[i]),
            )
            for i in range(targets_um.size)
        ),
        reversal_um=float(np.abs(b).max()),
        mean_reversal_um=float(b.mean()),
        repeatability_up_um=float(4 * s[0].max()),
        repeatability_down_um=float(4 * s[1].max()),
        repeatability_um=float(r.max()),
        systematic_up_um=float(np.ptp(means[0])),
        systematic_down_um=float(np.ptp(means[1])),
        systematic_um=float(np.ptp(means)),
        mean_range_um=float(np.ptp(means.mean(axis=0))),
        accuracy_up_um=float(high[0].max() - low[0].min()),
        accuracy_down_um=float(high[1].max() - low[1].min()),
        accuracy_um=float(high.max() - low.min()),
        u_repeatability_um=math.hypot(*_u_of_s(s[:, int(r.argmax())], runs)),
        u_accuracy_um=math.hypot(
            *_u_of_s(s.ravel()[[int(high.argmax()), int(low.argmin())]], runs)
        ),
    )


def _u_of_s(s: Float64, runs: int) -> tuple[float, ...]:
    """Parts of the uncertainty of a sum of means and of two 2 s, for normal scatter.

    A standard deviation from n values is uncertain by s / sqrt(2 (n - 1)).
    """
    of_s = [2 * float(value) / math.sqrt(2 * (runs - 1)) for value in s]
    of_mean = [float(value) / math.sqrt(runs) for value in s]
    return (*of_s, *of_mean)
