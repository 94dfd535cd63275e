"""`bifocus evaluate` and `bifocus compare`: choose pairs and methods, judge, save.

The command line calls `run_evaluate` and `run_compare`, prints what `text_report`
returns, and adds nothing to the numbers.
"""

import importlib.util
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bifocus.errors import ConfigError
from bifocus.focal_offset import PairOptics
from bifocus.model.classical import BASELINES, OFFSET_METERS
from bifocus.model.evaluate import REFERENCE, Evaluation, evaluate
from bifocus.model.evaluation_pair import EvaluationPair, Method, PairSource
from bifocus.model.evaluation_set import (
    HALF_SPACING_UM,
    SEED,
    SET_VERSION,
    default_textures,
    describe_conditions,
    folder_textures,
    frozen_set,
    grid_set,
)
from bifocus.model.evaluation_set import TILE_PX as SET_TILE_PX
from bifocus.model.jiang import JIANG_OPTICS, JiangPart, jiang_pairs
from bifocus.model.result_files import describe, save_results
from bifocus.model.result_tables import make_tables
from bifocus.model.zstack_folder import SkipLog, StackPairs, find_zstacks

logger = logging.getLogger(__name__)

DataFormat = Literal["images", "zstack", "jiang"]

QUICK_PAIRS = 16  # per condition: all baselines within three CPU-minutes
FULL_PAIRS = 60  # per condition, 120 tiles in all
GRID_PAIRS_PER_CELL = 10
# The size that costs are stated for, network.md section 2: rows, columns.
TILE_PX = (1024, 1224)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRequest:
    """What to evaluate.

    Attributes
    ----------
    models
        Trained networks by name (`network_method.load_network_method`).
    data, data_format
        A folder of sharp `images` (pairs are simulated), of `zstack` folders, or of the
        `jiang` data set; None for the frozen set.
    optics
        Of a z-stack's pictures, and the half-spacing wanted; None for the presets.
    is_quick
        The frozen quick set, within five CPU-minutes.
    has_baselines
        Run every classical baseline too; the sharper shot and physics always run.
    has_grid
        Add the grid over offset and half-spacing (slow; fast methods only).
    is_strict
        An unusable file is an error.
    pairs_per_condition, tile_px
        Of simulated pairs; other than the presets, it is no longer the frozen set.
    """

    models: Mapping[str, Method] = field(default_factory=dict)
    data: Path | None = None
    data_format: DataFormat = "images"
    jiang_part: JiangPart = "same"
    optics: PairOptics | None = None
    is_quick: bool = False
    has_baselines: bool = True
    has_grid: bool = False
    is_strict: bool = False
    pairs_per_condition: int | None = None
    tile_px: int = SET_TILE_PX


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodCost:
    """What one method costs on one tile; None where it has no such number."""

    params: int | None
    gmac: float | None
    cpu_s: float
    peak_mb: float | None


def run_evaluate(request: EvaluationRequest, out: Path | None = None) -> dict[str, Any]:
    """Evaluate, save into `out` if given, and return the document of `results.json`.

    Raises
    ------
    ConfigError
        If the data set is empty or absent.
    ImageFileError
        On an unusable file, if strict.
    SlideFileError
        If the results cannot be written.
    """
    evaluation, document = _evaluate(request)
    if out is not None:
        save_results(out, document, evaluation.examples)
    return document


def run_compare(
    request: EvaluationRequest,
    out: Path | None = None,
    *,
    tile_px: tuple[int, int] = TILE_PX,
) -> dict[str, Any]:
    """Evaluate and add what each method costs on one tile: `document["costs"]`.

    Parameters
    ----------
    request
        As for `run_evaluate`.
    out
        Folder of the results.
    tile_px
        Rows and columns of the tile that costs are measured on.
    """
    evaluation, document = _evaluate(request)
    methods = _methods(request)
    costs = {name: measure_cost(method, tile_px) for name, method in methods.items()}
    tsva = costs.get("tsva")
    document["cost_size"] = f"a tile of {tile_px[1]}x{tile_px[0]} px"
    document["costs"] = {}
    for name, cost in costs.items():
        ratio = None
        if tsva is not None and tsva.gmac and cost.gmac is not None:
            ratio = cost.gmac / tsva.gmac
        document["costs"][name] = {
            "params": cost.params,
            "gmac": cost.gmac,
            "cpu_s": cost.cpu_s,
            "peak_mb": cost.peak_mb,
            "ratio_to_tsva": ratio,
        }
    if out is not None:
        save_results(out, document, evaluation.examples)
    return document


def text_report(document: Mapping[str, Any]) -> str:
    """Return all tables as aligned text for a terminal."""
    tables = [table.to_text() for table in make_tables(document)]
    return "\n".join([*describe(document), "", *tables])


def measure_cost(method: Method, tile_px: tuple[int, int] = TILE_PX) -> MethodCost:
    """Return CPU seconds and extra memory of one tile, after a run to warm up.

    CPU seconds sum over threads, so they do not depend on how many there are. Blind
    deblurring is made for patches and is measured on one, scaled by area.
    """
    height, width = tile_px
    is_patchwise = method in (BASELINES["dark channel"], BASELINES["graph"])
    shape = (224, 224) if is_patchwise else tile_px
    scale = height * width / (shape[0] * shape[1])
    pair = _cost_pair(shape)
    method(_cost_pair((224, 224)))
    before_mb = _reset_peak_mb()
    start_s = time.process_time()
    method(pair)
    cpu_s = (time.process_time() - start_s) * scale
    peak_mb = None if before_mb is None else max(_status_mb("VmHWM") - before_mb, 0.0)
    params: int | None = None
    gmac: float | None = None
    if hasattr(method, "params_and_gmac"):
        params, gmac = method.params_and_gmac(height, width)
    return MethodCost(
        params=params,
        gmac=gmac,
        cpu_s=cpu_s,
        peak_mb=None if is_patchwise else peak_mb,
    )


def _evaluate(request: EvaluationRequest) -> tuple[Evaluation, dict[str, Any]]:
    methods = _methods(request)
    source, facts = _source(request)
    evaluation = evaluate(
        methods, source, seed=SEED, offset_meters=_offset_meters(methods)
    )
    document = {**evaluation.to_document(), **facts}
    if isinstance(source, StackPairs):
        document["skipped"] = [
            f"{skipped.path}: {skipped.reason}" for skipped in source.log.files
        ]
    if request.has_grid:
        document["grid"] = _grid(request, methods)
    return evaluation, document


def _methods(request: EvaluationRequest) -> dict[str, Method]:
    always = (REFERENCE, "physics", "physics-joint")
    baselines = {
        name: method
        for name, method in BASELINES.items()
        if request.has_baselines or name in always
    }
    if importlib.util.find_spec("skimage") is None:
        for name in [name for name in baselines if name.startswith("richardson-lucy")]:
            logger.warning("%s is left out: scikit-image is not installed", name)
            del baselines[name]
    clash = sorted(set(baselines) & set(request.models))
    if clash:
        msg = f"a model is named like a baseline: {', '.join(clash)}; rename it"
        raise ConfigError(msg)
    return {**baselines, **request.models}


def _offset_meters(methods: Mapping[str, Method]) -> dict[str, Any]:
    return {name: meter for name, meter in OFFSET_METERS.items() if name in methods}


def _source(request: EvaluationRequest) -> tuple[PairSource, dict[str, Any]]:
    """Return the pairs, and what the document says of them."""
    if request.data is not None and request.data_format == "zstack":
        log = SkipLog(is_strict=request.is_strict)
        preset = PairOptics(na=0.75, pixel_um=0.25, half_spacing_um=HALF_SPACING_UM)
        stacks = find_zstacks(request.data, log)
        pairs = StackPairs(stacks=stacks, optics=request.optics or preset, log=log)
        return pairs, {"title": f"z-stacks of {request.data.name}"}
    if request.data is not None and request.data_format == "jiang":
        part = request.jiang_part
        optics = request.optics or JIANG_OPTICS
        jiang = jiang_pairs(
            request.data, part, optics=optics, is_strict=request.is_strict, seed=SEED
        )
        return jiang, {"title": f"Jiang et al. 2018, part '{part}'"}
    if request.data is None:
        textures, origin = default_textures()
    else:
        textures, origin = folder_textures(request.data), f"pictures of {request.data}"
    count = request.pairs_per_condition
    count = count or (QUICK_PAIRS if request.is_quick else FULL_PAIRS)
    size = f"{request.tile_px} px"
    return frozen_set(textures, count, request.tile_px), {
        "title": f"Set {SET_VERSION}: {count} pairs of {size} per condition",
        "textures": origin,
        "conditions": describe_conditions(),
    }


def _grid(
    request: EvaluationRequest, methods: Mapping[str, Method]
) -> list[dict[str, Any]]:
    """Return mean PSNR by n and half-spacing for the reference, physics and models."""
    textures = (
        default_textures()[0] if request.data is None else folder_textures(request.data)
    )
    names = [REFERENCE, "physics", "physics-joint", *request.models]
    per_cell = 2 if request.is_quick else GRID_PAIRS_PER_CELL
    pairs = grid_set(textures, pairs_per_cell=per_cell)
    chosen = {name: methods[name] for name in names}
    evaluation = evaluate(chosen, pairs, seed=SEED, n_examples=0)
    keys = [(p.source, p.half_spacing_um, p.offset_um) for p in evaluation.pairs]
    grids = []
    for source in dict.fromkeys(key[0] for key in keys):
        for name in names:
            psnr = evaluation.scores[name].psnr_db
            cells = [
                {
                    "half_spacing_um": cell[1],
                    "offset_um": cell[2],
                    "psnr_db": float(psnr[[key == cell for key in keys]].mean()),
                }
                for cell in dict.fromkeys(keys)
                if cell[0] == source
            ]
            grids.append(
                {
                    "model": name,
                    "source": source,
                    "pairs_per_cell": per_cell,
                    "cells": cells,
                }
            )
    return grids


def _cost_pair(shape: tuple[int, int]) -> EvaluationPair:
    """Return a pair of some tissue-like picture, repeated to the size."""
    small = next(iter(frozen_set(default_textures()[0], 1)))
    repeats = (-(-shape[0] // 224), -(-shape[1] // 224), 1)

    def enlarge(picture: "np.ndarray[Any, np.dtype[np.uint8]]") -> Any:
        tiled = np.tile(picture, repeats)[: shape[0], : shape[1]]
        return np.ascontiguousarray(tiled)

    return replace(
        small,
        minus=enlarge(small.minus),
        plus=enlarge(small.plus),
        truth=enlarge(small.truth),
    )


def _reset_peak_mb() -> float | None:
    """Reset the peak of resident memory (Linux); return the present use, or None."""
    try:
        # proc(5): writing 5 resets VmHWM to the present value.
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return _status_mb("VmRSS")
    except OSError:
        return None


def _status_mb(key: str) -> float:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{key}:"):
            return float(line.split()[1]) / 1024
    return float("nan")
