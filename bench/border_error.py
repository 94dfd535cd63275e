"""How far pictures lie from the truth along a tile's sides, and inside.

    python -m bench.border_error --pairs 20 --model weights/base.safetensors

Blur carries tissue across a tile's sides: what lies there cannot be known as well. One
row for each distance from the nearest side, and one for the whole: the mean error of
the sharper shot, of both physics images and of networks, in dB of squared grey levels,
on the frozen set's tissue and optics.
"""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bifocus.model.classical import fuse_physics, fuse_physics_joint, fuse_sharper
from bifocus.model.evaluation_pair import EvaluationPair, Method
from bifocus.model.evaluation_set import (
    BORDER_PX,
    TILE_PX,
    SimulatedPairs,
    default_textures,
    frozen_set,
)
from bifocus.model.network_method import load_network_method

# Distances from the nearest side at which rows begin, in pixels.
ROWS_PX = (0, 4, 8, 16, 32)


def side_distance_px(shape: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Return the distance of each pixel from the nearest side, 0 along the sides."""
    rows, columns = (
        np.minimum(np.arange(n), np.arange(n)[::-1]).astype(np.int64) for n in shape
    )
    distance_px: npt.NDArray[np.int64] = np.minimum.outer(rows, columns)
    return distance_px


def row_errors_db(pair: EvaluationPair, method: Method) -> list[float]:
    """Return 10 lg of the mean squared error in grey levels: of each row, of all."""
    truth = pair.truth.astype(np.float64)
    squared = np.square(method(pair) - truth).mean(axis=2)
    row = np.searchsorted(ROWS_PX, side_distance_px(squared.shape), side="right")
    parts = [squared[row == 1 + number] for number in range(len(ROWS_PX))]
    return [float(10 * np.log10(part.mean() + 1e-9)) for part in (*parts, squared)]


def print_condition(pairs: SimulatedPairs, methods: dict[str, Method]) -> None:
    """Print the table of one light."""
    errors_db: npt.NDArray[np.float64] = np.mean(
        [[row_errors_db(pair, m) for m in methods.values()] for pair in pairs], axis=0
    )
    print(f"{pairs.name}: " + ", ".join(methods))
    names = [f"from {first_px} px" for first_px in ROWS_PX]
    for name, row in zip((*names, "whole"), errors_db.T, strict=True):
        print(f"  {name}: " + ", ".join(f"{error:.2f}" for error in row), flush=True)


def main() -> None:
    """Print one table for each light."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--tile", type=int, default=TILE_PX, help="side in pixels")
    parser.add_argument("--model", type=Path, action="append", default=[])
    chosen = parser.parse_args()
    methods: dict[str, Method] = {
        "sharper": fuse_sharper,
        "physics": fuse_physics,
        "physics-joint": fuse_physics_joint,
    }
    for path in chosen.model:
        methods[str(path)] = load_network_method(path)
    fits = [
        texture
        for texture in default_textures()[0]
        if min(texture.pixels.shape[:2]) >= chosen.tile + 2 * BORDER_PX
    ]
    for part in frozen_set(fits, chosen.pairs, chosen.tile).parts:
        print_condition(part, methods)


if __name__ == "__main__":
    main()
