"""Folders of image pairs as `bifocus fuse --pairs` wants them."""

import json
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from tests.imaging import RenderedPair, Scope

HALF_SPACING_UM = 0.75


def write_pairs(
    folder: Path, pairs: Mapping[str, RenderedPair], **changes: object
) -> Path:
    """Write NAME_a.png, NAME_b.png and pairs.json; None leaves a key out."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, pair in pairs.items():
        Image.fromarray(pair.minus).save(folder / f"{name}_a.png")
        Image.fromarray(pair.plus).save(folder / f"{name}_b.png")
    description = {**describe_optics(), **changes}
    kept = {key: value for key, value in description.items() if value is not None}
    (folder / "pairs.json").write_text(json.dumps(kept))
    return folder


def describe_optics() -> dict[str, object]:
    """Return the least that `pairs.json` must hold, and a key of somebody else's."""
    scope = Scope()
    return {
        "na": scope.na,
        "pixel_um": scope.pixel_um,
        "half_spacing_um": HALF_SPACING_UM,
        "wavelengths_um": list(scope.wavelengths_um),
        "made_by": "tests",
    }
