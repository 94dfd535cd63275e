"""How long to wait after a move, from samples of what still moves. Pure."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bifocus.errors import CalibrationError

Float64 = npt.NDArray[np.float64]

# Shares of the longest delay at which a first round looks: dense where ringing is fast.
_FIRST_ROUND = (0.0, 0.03, 0.07, 0.12, 0.2, 0.32, 0.5, 0.75, 1.0)
_SECOND_ROUND = 7
_BEYOND = 1.3  # the second round looks a little past the end that the first one found


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """The wait after which what remains stays below a limit; `u_s` is standard.

    `below_from_s` is the first delay from which all samples are below.
    """

    wait_s: float
    u_s: float
    below_from_s: float


def first_delays(longest_s: float) -> list[float]:
    """Return delays over the whole range."""
    return [share * longest_s for share in _FIRST_ROUND]


def further_delays(delays_s: Float64, rest: Float64, limit: float) -> list[float]:
    """Return delays around the place where the rest falls below the limit."""
    before_s, after_s = _bracket(delays_s, rest, limit)
    steps = np.arange(1, _SECOND_ROUND + 1) / _SECOND_ROUND
    return [float(delay) for delay in before_s + steps * (_BEYOND * after_s - before_s)]


def find_wait(delays_s: Float64, rest: Float64, limit: float, what: str) -> Wait:
    """Return how long to wait.

    The end lies somewhere between the last sample above the limit and the next one.

    Parameters
    ----------
    delays_s
        From the end of the motion to the start of an exposure, any order.
    rest
        How far each sample was from rest, 0 or more.
    limit
        In the unit of `rest`.
    what
        For the message.

    Raises
    ------
    CalibrationError
        If the last sample is still above the limit.

    Examples
    --------
    >>> delays = np.array([0.0, 0.1, 0.2, 0.3])
    >>> wait = find_wait(delays, np.array([5.0, 0.3, 2.0, 0.1]), 1.0, "x")
    >>> round(wait.wait_s, 3), wait.below_from_s
    (0.25, 0.3)
    """
    before_s, after_s = _bracket(delays_s, rest, limit)
    last = int(np.argmax(delays_s))
    if rest[last] > limit:
        msg = (
            f"{what}: {delays_s[last]:.2f} s after a move it is still "
            f"{rest[last]:.3g} from where it comes to rest, less than {limit:.3g} is "
            "expected; fasten slide and stage, or raise stage.settle_s and try again"
        )
        raise CalibrationError(msg)
    return Wait(
        wait_s=(before_s + after_s) / 2,
        u_s=(after_s - before_s) / math.sqrt(12),
        below_from_s=after_s,
    )


def _bracket(delays_s: Float64, rest: Float64, limit: float) -> tuple[float, float]:
    """Return the last delay above the limit, 0 if none is, and the one after it."""
    order = np.argsort(delays_s)
    sorted_s, above = delays_s[order], rest[order] > limit
    if not above.any():
        return 0.0, float(sorted_s[0])
    last = int(np.flatnonzero(above)[-1])
    after = min(last + 1, sorted_s.size - 1)
    return float(sorted_s[last]), float(sorted_s[after])
