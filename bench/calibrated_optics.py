"""What an instrument's own optics gain over ideal ones, on fields it was not tuned on.

    python -m bench.calibrated_optics              # table of all named instruments
    python -m bench.calibrated_optics --drawn 40   # of instruments drawn at random

Each virtual instrument is calibrated (steps focus and optics) on one tissue. Pairs of
another tissue follow, at random offsets; each is fused by `physics` with four optics:
ideal ones (the file's NA, incoherent, no aberration), today's default without a profile
(the file's NA, light read from each pair), the calibrated, and the hidden true ones:
what there is to be gained. PSNR in linear light against the noise-free all-in-focus
picture; error of the offset against where the shots truly lay, in the stage's um.
"""

import argparse
import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.optics_instruments import NAMED, Hidden, draw_hidden
from bench.optics_scores import KINDS, Outcome, compare

_RESAMPLED = 4000
# |spherical| in waves from which an instrument counts as aberrated.
ABERRATED_WAVES = 0.1


def describe(outcome: Outcome) -> str:
    """Return one row; gains and ratios are over ideal optics."""
    scores = [outcome.scores[kind] for kind in KINDS]
    ideal_um = scores[0].offset_error_um
    psnr = "".join(f"{one.psnr_db:8.2f}" for one in scores)
    errors = "".join(f"{one.offset_error_um:8.3f}" for one in scores)
    gains = "".join(f"{outcome.gain_db(kind):+7.2f}" for kind in ("fitted", "true"))
    ratios = "".join(f"{one.offset_error_um / ideal_um:6.2f}" for one in scores[2:])
    return f"{psnr}  {errors}  {gains}  {ratios}"


def with_interval(
    outcomes: Sequence[Outcome], figure: Callable[[Sequence[Outcome]], float]
) -> str:
    """Return a figure of some instruments with its 95 % bootstrap interval."""
    rng = np.random.default_rng(1)
    resampled = [
        figure(
            [outcomes[index] for index in rng.integers(0, len(outcomes), len(outcomes))]
        )
        for _ in range(_RESAMPLED)
    ]
    low, high = np.quantile(resampled, (0.025, 0.975))
    return f"{figure(outcomes):+.2f} ({low:+.2f} to {high:+.2f})"


def mean_gain(kind: str) -> Callable[[Sequence[Outcome]], float]:
    """Return the figure: mean gain of some optics over ideal ones."""
    return lambda some: float(np.mean([one.gain_db(kind) for one in some]))


def error_ratio(kind: str) -> Callable[[Sequence[Outcome]], float]:
    """Return the figure: mean error of offsets over that with ideal optics."""

    def ratio(some: Sequence[Outcome]) -> float:
        own = sum(one.error_units(kind) for one in some)
        return own / sum(one.error_units("ideal") for one in some)

    return ratio


def summarise(outcomes: Sequence[Outcome]) -> str:
    """Return what drawn instruments gain, by their aberration, as Markdown."""
    lines = [
        "| instruments | number | gain of fitted [dB] | of true | error ratio, "
        "fitted | true |",
        "|---|---|---|---|---|---|",
    ]
    limit = ABERRATED_WAVES
    groups: dict[str, Callable[[Hidden], bool]] = {
        "all": lambda one: True,
        f"spherical {limit} waves or more": lambda one: (
            abs(one.spherical_waves) >= limit
        ),
        "the same, incoherent": lambda one: (
            abs(one.spherical_waves) >= limit and one.condenser == 1
        ),
        "less": lambda one: abs(one.spherical_waves) < limit,
        "less, incoherent": lambda one: (
            abs(one.spherical_waves) < limit and one.condenser == 1
        ),
    }
    for name, belongs in groups.items():
        some = [one for one in outcomes if belongs(one.hidden)]
        if len(some) < 2:
            continue
        cells = [
            with_interval(some, figure(kind))
            for figure in (mean_gain, error_ratio)
            for kind in ("fitted", "true")
        ]
        lines.append(f"| {name} | {len(some)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--drawn", type=int, help="so many instruments drawn at random")
    parser.add_argument("--first", type=int, default=0, help="first seed of those")
    parser.add_argument("--side-px", type=int, default=512)
    parser.add_argument("--only", default="", help="instruments whose name contains it")
    parser.add_argument("--json", type=Path, help="all outcomes go there")
    options = parser.parse_args()
    if options.drawn:
        seeds = range(options.first, options.first + options.drawn)
        chosen = {f"drawn {seed}": (draw_hidden(seed), seed) for seed in seeds}
    else:
        chosen = {
            name: (hidden, 5) for name, hidden in NAMED.items() if options.only in name
        }
    head = [f"{kind:>8s}" for kind in KINDS]
    print(
        f"{'':42s}{'PSNR [dB]':^32s}  {'offset error [um]':^32s}  {'gain':^14s}  ratio"
    )
    print(
        f"{'instrument':42s}{''.join(head)}  {''.join(head)}   fitted   true  ", end=""
    )
    print("fitted  true")
    outcomes: dict[str, Outcome] = {}
    for name, (hidden, seed) in chosen.items():
        outcomes[name] = compare(hidden, options.pairs, seed, side_px=options.side_px)
        print(f"{name:42s}{describe(outcomes[name])}", flush=True)
    if options.drawn:
        print(f"\n{summarise(list(outcomes.values()))}")
    if options.json:
        rows: dict[str, Any] = {
            name: dataclasses.asdict(one) for name, one in outcomes.items()
        }
        options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
