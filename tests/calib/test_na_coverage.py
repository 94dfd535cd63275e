"""Stated intervals of NA, aberration and Z scale hold the truth; as many as CI affords.

`python -m bench.na_coverage` counts 300; its table is in docs/calibration.md.
"""

import sys

import pytest

from bench.coverage_table import format_table, summarise
from bench.na_coverage import run_trials

TRIALS = 30
# 30 trials of a coverage of 95 %: fewer than 26 would be one chance in a hundred.
LEAST = 26 / 30


@pytest.mark.slow
def test_intervals_of_the_optics_hold_the_truth(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = summarise(run_trials(TRIALS))
    with capsys.disabled():
        sys.stdout.write(f"\n\n{format_table(rows)}\n\n")
    for row in rows:
        assert row.count == TRIALS
        assert row.coverage >= LEAST, format_table([row])
    by_key = {row.key: row for row in rows}
    assert by_key["na"].rmse <= 0.006
    assert by_key["spherical_waves"].rmse <= 0.02
    # Wide intervals would cover anything: those of NA allow for tissue of some depth.
    assert by_key["na"].mean_u <= 0.01
    assert by_key["spherical_waves"].mean_u <= 0.02
