"""What exported files cost in quality and in CPU seconds, beside each other.

    python bench/export_quality.py out/base.onnx out/base.int8.xml --pairs 40

The first file is the reference. Quality: the frozen evaluation set, and as many
identity cells, where one shot is in focus. CPU seconds: the network alone on a pair of
1224x1024 px, the least of some runs.
"""

import argparse
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from bifocus.engine_manifest import check_verified, load_manifest, read_checked
from bifocus.export.calibration import pictures_of
from bifocus.export.parity import Engine, UInt8Batch
from bifocus.export.runtimes import onnx_engine, openvino_engine
from bifocus.model.evaluation_pair import EvaluationPair
from bifocus.model.evaluation_set import (
    CONDITIONS,
    HALF_SPACING_UM,
    SEED,
    JoinedPairs,
    SimulatedPairs,
    default_textures,
    frozen_set,
)
from bifocus.model.metrics import psnr_db

TILE_PX = (1024, 1224)
THREADS = 2
N_RUNS = 6


def open_file(path: Path) -> tuple[Engine, tuple[str, ...]]:
    """Return the engine of an exported file, and the pictures that it takes."""
    manifest = load_manifest(path)
    check_verified(manifest)
    content = read_checked(manifest, path.parent, path.name)
    names = tuple(one.name for one in manifest.inputs)
    if path.suffix == ".onnx":
        return onnx_engine(content, threads=THREADS), names
    weights = read_checked(manifest, path.parent, path.with_suffix(".bin").name)
    return openvino_engine(content, weights, threads=THREADS), names


def identity_cells(pairs_per_condition: int) -> JoinedPairs:
    """Return pairs of which one shot is the truth, but for noise."""
    textures, _ = default_textures()
    signs = (-HALF_SPACING_UM, HALF_SPACING_UM)
    offsets_um = tuple(signs[i % 2] for i in range(pairs_per_condition))
    parts = [
        SimulatedPairs(
            name=name,
            optics=optics,
            textures=textures,
            offsets_um=offsets_um,
            seed=SEED + 50 + number,
        )
        for number, (name, optics) in enumerate(CONDITIONS.items())
    ]
    return JoinedPairs(parts=parts)


def judge(
    engines: dict[str, Engine],
    pairs: Iterable[EvaluationPair],
    names: tuple[str, ...],
    title: str,
) -> None:
    """Print each engine's PSNR to the truth, and how far it is from the first one."""
    found: dict[str, list[tuple[float, UInt8Batch]]] = {name: [] for name in engines}
    for pair in pairs:
        pictures = pictures_of(pair, names)
        for name, engine in engines.items():
            fused = engine(pictures)[0]
            found[name].append((psnr_db(fused, pair.truth), fused))
    first = next(iter(found.values()))
    base_db = np.mean([quality for quality, _ in first])
    for name, rows in found.items():
        mean_db = np.mean([quality for quality, _ in rows])
        error = np.stack(
            [a.astype(int) - b for (_, a), (_, b) in zip(rows, first, strict=True)]
        )
        print(
            f"{title}, {len(rows)} pairs, {name}: {mean_db:.3f} dB, "
            f"{mean_db - base_db:+.4f} dB; largest {np.abs(error).max()}, "
            f"{100 * (error != 0).mean():.3f} % of values, "
            f"{100 * (error != 0).any(-1).mean():.3f} % of pixels"
        )


def least_cpu_s(engine: Engine, names: tuple[str, ...]) -> float:
    """Return the CPU seconds of one tile: the least, as other work only adds."""
    rng = np.random.default_rng(0)
    tile = rng.integers(0, 256, (1, *TILE_PX, 3), dtype=np.uint8)
    pictures = dict.fromkeys(names, tile)
    engine(pictures)
    seconds = []
    for _ in range(N_RUNS):
        start_s = time.process_time()
        engine(pictures)
        seconds.append(time.process_time() - start_s)
    return min(seconds)


def main() -> None:
    """Measure the files of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--pairs", type=int, default=40, help="of each condition")
    chosen = parser.parse_args()
    opened = {str(path): open_file(path) for path in chosen.files}
    engines = {name: engine for name, (engine, _) in opened.items()}
    # Files of two versions may take other pictures of one pair.
    names = tuple(dict.fromkeys(name for _, taken in opened.values() for name in taken))
    textures, origin = default_textures()
    print(f"tissue: {origin}")
    judge(engines, frozen_set(textures, chosen.pairs), names, "evaluation set")
    judge(engines, identity_cells(chosen.pairs), names, "identity cells")
    for name, (engine, inputs) in opened.items():
        print(f"{name}: {least_cpu_s(engine, inputs):.3f} CPU-s, {THREADS} threads")


if __name__ == "__main__":
    main()
