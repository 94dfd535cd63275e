"""How long each stage of the loop takes: quantiles over a bounded sample, exact maxima.

A scan may have any number of tiles, so that not every duration can be kept: a fixed
number of them is, each with the same chance (algorithm R: J. S. Vitter, ACM Trans.
Math. Softw. 11, 1985).
"""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

SAMPLE = 2048
_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


class DurationSample:
    """Durations of one stage, in seconds; not thread-safe by itself."""

    def __init__(self, capacity: int = SAMPLE) -> None:
        self._capacity = capacity
        self._kept_s: list[float] = []
        self._random = random.Random(0)
        self._count = 0
        self._sum_s = 0.0
        self._max_s = 0.0

    def add(self, duration_s: float) -> None:
        """Count one duration."""
        self._count += 1
        self._sum_s += duration_s
        self._max_s = max(self._max_s, duration_s)
        if len(self._kept_s) < self._capacity:
            self._kept_s.append(duration_s)
        elif (slot := self._random.randrange(self._count)) < self._capacity:
            self._kept_s[slot] = duration_s

    def summary_ms(self) -> dict[str, float]:
        """Return n, mean, p50, p95, p99 and max in milliseconds; n alone if none."""
        if not self._count:
            return {"n": 0}
        kept_ms = 1e3 * np.array(self._kept_s)
        quantiles = np.quantile(kept_ms, list(_QUANTILES.values())).tolist()
        return {
            "n": self._count,
            "mean": 1e3 * self._sum_s / self._count,
            **dict(zip(_QUANTILES, quantiles, strict=True)),
            "max": 1e3 * self._max_s,
        }


class StageTimings:
    """Durations of all stages by name; safe from any thread.

    Examples
    --------
    >>> timings = StageTimings()
    >>> for duration_s in (0.01, 0.02, 0.03):
    ...     timings.add("fuse", duration_s)
    >>> timings.snapshot_ms()["fuse"]["p50"], timings.snapshot_ms()["fuse"]["max"]
    (20.0, 30.0)
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._samples: dict[str, DurationSample] = {}

    def add(self, stage: str, duration_s: float) -> None:
        """Count one duration of a stage."""
        with self._lock:
            self._samples.setdefault(stage, DurationSample()).add(duration_s)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Count the time that the body takes, on the machine's own clock."""
        start_s = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - start_s)

    def snapshot_ms(self) -> dict[str, dict[str, float]]:
        """Return the summary of each stage, in the order of their first durations."""
        with self._lock:
            return {name: sample.summary_ms() for name, sample in self._samples.items()}
