"""How many points of the condenser the evaluation's coherent light needs.

    python -m bench.condenser_points --points 12 24 48 96 --pairs 60

For each number: how far the light of both shots, before the camera, lies from that of
many more points (PSNR in dB, the worst of some tiles; the camera's noise alone leaves
43.5), and the gain of methods over the sharper shot on the frozen set's tiles.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from bifocus.model.classical import fuse_physics, fuse_physics_joint, fuse_sharper
from bifocus.model.evaluate import REFERENCE, evaluate
from bifocus.model.evaluation_optics import render_planes
from bifocus.model.evaluation_pair import Method
from bifocus.model.evaluation_set import (
    SEED,
    SimulatedPairs,
    default_textures,
    frozen_set,
    textured_crop,
)
from bifocus.model.network_method import load_network_method

MANY_POINTS = 600
SIDE_PX = 256
N_TILES = 6


def worst_distance_db(pairs: SimulatedPairs, n_points: int) -> float:
    """Return the PSNR of shots of `n_points` against many, the worst of some tiles."""
    worst_db = np.inf
    planes_um = (-pairs.half_spacing_um, pairs.half_spacing_um)
    for number in range(N_TILES):
        texture = pairs.textures[number % len(pairs.textures)]
        crop = textured_crop(texture, SIDE_PX, np.random.default_rng([SEED, number]))
        light = crop / np.percentile(crop, 99.5)
        flat = np.full(light.shape[:2], pairs.offsets_um[number])
        shots, exact = (
            render_planes(light, flat, planes_um, replace(pairs.optics, n_sources=n))
            for n in (n_points, MANY_POINTS)
        )
        for shot, other in zip(shots[:2], exact[:2], strict=True):
            mse = float(np.square(shot - other).mean())
            worst_db = min(worst_db, -10 * np.log10(mse))
    return worst_db


def mean_gains_db(
    pairs: SimulatedPairs, methods: dict[str, Method]
) -> dict[str, float]:
    """Return each method's mean gain over the sharper shot."""
    judged = {REFERENCE: fuse_sharper, **methods}
    found = evaluate(judged, pairs, seed=SEED, n_examples=0)
    reference_db = found.scores[REFERENCE].psnr_db
    return {
        name: float((found.scores[name].psnr_db - reference_db).mean())
        for name in methods
    }


def main() -> None:
    """Print one line for each number of points."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, nargs="+", default=[12, 24, 48, 96])
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--model", type=Path, action="append", default=[])
    chosen = parser.parse_args()
    methods: dict[str, Method] = {
        "physics": fuse_physics,
        "physics-joint": fuse_physics_joint,
    }
    for path in chosen.model:
        network = load_network_method(path)
        methods[network.name] = network
    coherent = frozen_set(default_textures()[0], chosen.pairs).parts[0]
    for n_points in chosen.points:
        pairs = replace(coherent, optics=replace(coherent.optics, n_sources=n_points))
        gains = mean_gains_db(pairs, methods)
        told = ", ".join(f"{name} {gain:+.2f}" for name, gain in gains.items())
        distance_db = worst_distance_db(pairs, n_points)
        print(f"{n_points} points: {distance_db:.1f} dB; {told}", flush=True)


if __name__ == "__main__":
    main()
