"""Quantiles against numpy on all durations, and on more than are kept."""

import numpy as np
import pytest

from bifocus.edge.timings import DurationSample


def test_few_durations_have_exact_quantiles() -> None:
    durations_s = np.random.default_rng(0).gamma(2.0, 0.05, 500)
    sample = DurationSample()
    for duration_s in durations_s.tolist():
        sample.add(duration_s)
    found = sample.summary_ms()
    assert found["n"] == 500
    assert found["mean"] == pytest.approx(1e3 * durations_s.mean())
    assert found["max"] == pytest.approx(1e3 * durations_s.max())
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        assert found[name] == pytest.approx(1e3 * np.quantile(durations_s, share))


def test_many_durations_take_bounded_memory_and_old_ones_count_as_new_ones() -> None:
    """First half slow, second half fast: a window of the last would see no slow one.

    The share of slow ones in a sample of 1000 has a standard deviation of 1.6 %.
    """
    sample = DurationSample(capacity=1000)
    for duration_s in np.repeat([2.0, 1.0], 20_000).tolist():
        sample.add(duration_s)
    assert len(sample._kept_s) == 1000
    assert float(np.mean(np.array(sample._kept_s) == 2.0)) == pytest.approx(
        0.5, abs=0.08
    )
    assert sample.summary_ms()["n"] == 40_000
    assert sample.summary_ms()["mean"] == pytest.approx(1500.0)


def test_nothing_measured_is_no_error() -> None:
    assert DurationSample().summary_ms() == {"n": 0}
