"""For which half-spacings the network that a scan takes by default was trained."""

from importlib.resources import files
from pathlib import Path

import yaml

from bifocus.engine_manifest import (
    EngineManifest,
    check_trained_range,
    load_manifest,
    manifest_path,
)
from bifocus.errors import ConfigError, EngineError

_WEIGHTS = Path(str(files("bifocus") / "data" / "weights"))


def load_default_manifest(folder: Path = _WEIGHTS) -> EngineManifest | None:
    """Return the manifest of the preferred network; None where none is installed."""
    try:
        text = (folder / "default.yaml").read_text(encoding="utf-8")
        name = yaml.safe_load(text)["files"][0]
        return load_manifest(manifest_path(folder / name))
    except (OSError, KeyError, TypeError, ConfigError, EngineError):
        return None


def half_spacing_range_um(manifest: EngineManifest, na: float) -> tuple[float, float]:
    """Return the trained range of dD for an NA; all positive numbers if untold.

    Defocus scales with the depth of field, so that the range does.
    """
    if manifest.trained is None:
        return 0.0, float("inf")
    zoom = (manifest.trained.reference_na / na) ** 2
    low_um, high_um = manifest.trained.half_spacing_um
    return low_um * zoom, high_um * zoom


def explain_range(
    manifest: EngineManifest, *, na: float, pixel_um: float, half_spacing_um: float
) -> str | None:
    """Return why the network does not fit this instrument; None if it does."""
    try:
        check_trained_range(
            manifest, na=na, pixel_um=pixel_um, half_spacing_um=half_spacing_um
        )
    except EngineError as error:
        return str(error)
    return None
