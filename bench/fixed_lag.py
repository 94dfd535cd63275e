"""How good are places that are final some rows behind the scan, against one solve.

Simulated pairs with noise, some of them missing; see `tests/edge/test_fixed_lag.py`.
Prints one line for each share of missing pairs and each lag: the 99th percentile of the
seam errors, over that of one solve of everything at the end; and how many tiles waited
for longer than the lag, since nothing joined them to the final ones yet.
Run: `.venv/bin/python -m bench.fixed_lag --scans 20`.
"""

import argparse

import numpy as np

from bifocus.edge.placement import solve_placement
from tests.edge.test_fixed_lag import COLUMNS, ROWS, Float64, Simulated, run

MISSING = (0.0, 0.1, 0.2, 0.3, 0.4)
LAGS = (1, 2, 3, 4, 5)


def main() -> None:
    """Measure as many scans of each kind as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scans", type=int, default=20)
    n_scans = parser.parse_args().scans
    print("missing  lag  p99_px  at_once_px  ratio  max_px  waited_%")
    for missing in MISSING:
        scans = [Simulated(seed, missing) for seed in range(n_scans)]
        at_once = _p99(
            [s.seam_errors(solve_placement(s.nominal, s.pairs)) for s in scans]
        )
        for lag_rows in LAGS:
            runs = [run(scan, lag_rows) for scan in scans]
            errors = [
                scan.seam_errors(done.placement)
                for scan, done in zip(scans, runs, strict=True)
            ]
            waited = sum(len(done.waited) for done in runs) / (n_scans * ROWS * COLUMNS)
            print(
                f"{missing:7.1f} {lag_rows:4d} {_p99(errors):7.3f} {at_once:11.3f} "
                f"{_p99(errors) / at_once:6.2f} {np.concatenate(errors).max():7.2f} "
                f"{100 * waited:9.2f}"
            )


def _p99(errors: list[Float64]) -> float:
    return float(np.quantile(np.concatenate(errors), 0.99))


if __name__ == "__main__":
    main()
