"""Judge methods on pairs: the numbers behind the paper's tables and ours.

`evaluate` runs each method on each pair of a source and keeps every number;
`Evaluation.to_document` sums them up as the JSON of `bifocus evaluate`. Nothing here
knows where a pair or a method comes from. `evaluation_run` wires it to files.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bifocus import __version__
from bifocus.errors import ConfigError, EngineError
from bifocus.model.cell_counting import count_cells, count_errors
from bifocus.model.evaluation_pair import (
    EvaluationPair,
    Method,
    OffsetMeter,
    PairSource,
)
from bifocus.model.metrics import (
    bootstrap_interval,
    gain_by_bin,
    harm_rate,
    psnr_db,
    reblur_ratio,
    ssim,
    three_means,
)
from bifocus.records import UInt8Image

logger = logging.getLogger(__name__)

Float64 = npt.NDArray[np.float64]
# PSNR, SSIM, re-blur ratio, CPU seconds, cells, focal offset.
Row = tuple[float, float, float, float, float, float]

FORMAT = "bifocus-evaluation-1"
# All gains count from this method, which is always evaluated.
REFERENCE = "sharper shot"
# This many pairs are kept as pictures for the error maps, spread over the set.
N_EXAMPLES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class PairFacts:
    """What is known of one pair, without its pictures."""

    slide_id: str
    source: str
    offset_um: float
    half_spacing_um: float
    is_identity: bool
    nearer_defocus_um: float
    cells: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodScores:
    """Every number of one method, one per pair; `offset_um` where it tells one."""

    psnr_db: Float64
    ssim: Float64
    reblur: Float64
    cpu_s: Float64
    cells: Float64
    offset_um: Float64 | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One pair and what each method made of it, for the error maps."""

    pair: EvaluationPair
    pictures: Mapping[str, UInt8Image]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Results of some methods on one set of pairs."""

    pairs: Sequence[PairFacts]
    scores: Mapping[str, MethodScores]
    seed: int
    examples: Sequence[Example] = ()

    def to_document(self) -> dict[str, Any]:
        """Return what is saved as JSON: summaries by model, and every number."""
        everywhere = np.ones(len(self.pairs), dtype=bool)
        sources = list(dict.fromkeys(pair.source for pair in self.pairs))
        source_of = np.array([pair.source for pair in self.pairs])
        models: dict[str, Any] = {}
        for name, scores in self.scores.items():
            entry = self._summary(name, everywhere)
            entry["by_source"] = {
                source: self._summary(name, source_of == source) for source in sources
            }
            entry["psnr_db"] = [round(float(value), 4) for value in scores.psnr_db]
            models[name] = entry
        return {
            "format": FORMAT,
            "version": __version__,
            "seed": self.seed,
            "sources": sources,
            "pairs": [
                {
                    "slide": pair.slide_id,
                    "source": pair.source,
                    "offset_um": pair.offset_um,
                    "half_spacing_um": pair.half_spacing_um,
                }
                for pair in self.pairs
            ],
            "models": models,
            "cells": count_errors(
                [pair.cells for pair in self.pairs],
                {
                    name: [round(count) for count in scores.cells.tolist()]
                    for name, scores in self.scores.items()
                },
            ),
        }

    def _summary(self, name: str, chosen: npt.NDArray[np.bool_]) -> dict[str, Any]:
        scores, reference = self.scores[name], self.scores[REFERENCE]
        pairs = [pair for pair, is_in in zip(self.pairs, chosen, strict=True) if is_in]
        psnr = scores.psnr_db[chosen]
        gain = psnr - reference.psnr_db[chosen]
        identity = np.array([pair.is_identity for pair in pairs])
        slides = [pair.slide_id for pair in pairs]
        nearer_um = np.array([pair.nearer_defocus_um for pair in pairs])
        # A generator of its own per summary: adding a model moves no other interval.
        rng = np.random.default_rng(self.seed)
        offset_mae_um = None
        if scores.offset_um is not None:
            true_um = np.array([pair.offset_um for pair in pairs])
            offset_mae_um = float(np.abs(scores.offset_um[chosen] - true_um).mean())
        return {
            **three_means(psnr, identity),
            "gain_db": float(gain.mean()),
            "interval": bootstrap_interval(gain, slides, rng),
            "p10": float(np.percentile(psnr, 10)),
            "harm_rate": harm_rate(gain),
            "gain_by_bin": gain_by_bin(nearer_um, gain),
            "ssim": float(scores.ssim[chosen].mean()),
            "reblur_ratio": float(np.median(scores.reblur[chosen])),
            "offset_mae_um": offset_mae_um,
            "cpu_s": float(scores.cpu_s[chosen].mean()),
            "counts": {
                "all": len(pairs),
                "non_identity": int((~identity).sum()),
                "identity": int(identity.sum()),
                "slides": len(set(slides)),
            },
        }


def evaluate(
    methods: Mapping[str, Method],
    source: PairSource,
    *,
    seed: int,
    offset_meters: Mapping[str, OffsetMeter] | None = None,
    n_examples: int = N_EXAMPLES,
) -> Evaluation:
    """Run each method on each pair and score it.

    Parameters
    ----------
    methods
        By name, in the order of the tables; "sharper shot" must be one of them.
    source
        The pairs.
    seed
        Of the bootstrap; the pairs have their own.
    offset_meters
        For the methods that also tell the focal offset.
    n_examples
        Pairs kept as pictures, the first of each source first.

    Returns
    -------
    Evaluation
        Every number, not yet averaged.

    Raises
    ------
    ConfigError
        If the source is empty, or the reference is not among the methods.
    EngineError
        If a method returns something other than a picture of the pair's size.
    """
    if REFERENCE not in methods:
        msg = f"'{REFERENCE}' must be among the methods: gains count from it"
        raise ConfigError(msg)
    meters = offset_meters or {}
    facts: list[PairFacts] = []
    rows: dict[str, list[Row]]
    rows = {name: [] for name in methods}
    examples: dict[tuple[str, str], Example] = {}
    for pair in source:
        facts.append(_facts(pair))
        pictures: dict[str, UInt8Image] = {}
        for name, method in methods.items():
            pictures[name], row = _score(name, method, pair, meters.get(name))
            rows[name].append(row)
        key = (pair.source, pair.slide_id)
        if len(examples) < n_examples and key not in examples:
            examples[key] = Example(pair=pair, pictures=pictures)
        logger.info("pair %d: %s, n %+.2f um", len(facts), key, pair.offset_um)
    if not facts:
        msg = "there is no pair to evaluate; is the data set empty?"
        raise ConfigError(msg)
    return Evaluation(
        pairs=facts,
        scores={name: _columns(table, name in meters) for name, table in rows.items()},
        seed=seed,
        examples=list(examples.values()),
    )


def _score(
    name: str, method: Method, pair: EvaluationPair, meter: OffsetMeter | None
) -> tuple[UInt8Image, Row]:
    start_s = time.process_time()
    picture = method(pair)
    cpu_s = time.process_time() - start_s
    if picture.dtype != np.uint8 or picture.shape != pair.truth.shape:
        msg = (
            f"{name} returned {picture.dtype} {picture.shape} "
            f"for a pair of uint8 {pair.truth.shape}"
        )
        raise EngineError(msg)
    offset_um = np.nan if meter is None else meter(pair)
    return picture, (
        psnr_db(picture, pair.truth),
        ssim(picture, pair.truth),
        reblur_ratio(picture, pair),
        cpu_s,
        float(count_cells(picture, pair.optics.pixel_um)),
        offset_um,
    )


def _facts(pair: EvaluationPair) -> PairFacts:
    return PairFacts(
        slide_id=pair.slide_id,
        source=pair.source,
        offset_um=pair.offset_um,
        half_spacing_um=pair.half_spacing_um,
        is_identity=pair.is_identity,
        nearer_defocus_um=pair.nearer_defocus_um,
        cells=count_cells(pair.truth, pair.optics.pixel_um),
    )


def _columns(table: Sequence[Row], has_offset: bool) -> MethodScores:
    columns = np.array(table, dtype=np.float64).T
    return MethodScores(
        psnr_db=columns[0],
        ssim=columns[1],
        reblur=columns[2],
        cpu_s=columns[3],
        cells=columns[4],
        offset_um=columns[5] if has_offset else None,
    )
