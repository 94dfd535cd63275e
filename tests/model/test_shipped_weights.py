"""What lies in `weights/`: all three tiers, small, whole, and worth their cost."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from bifocus.engine_manifest import load_manifest, manifest_path
from bifocus.model.checkpoint import load_checkpoint
from bifocus.model.classical import fuse_physics, fuse_sharper
from bifocus.model.evaluation_set import frozen_set, procedural_textures
from bifocus.model.metrics import psnr_db
from bifocus.model.network_method import load_network_method
from bifocus.model.network_registry import network_config

WEIGHTS = Path(__file__).parents[2] / "weights"
TIERS = ("fast", "base", "large")

torch.set_num_threads(1)


def test_all_of_it_fits_into_ten_megabytes() -> None:
    assert sum(path.stat().st_size for path in WEIGHTS.iterdir()) <= 10e6


@pytest.mark.parametrize("name", TIERS)
def test_a_checkpoint_is_half_precision_and_tells_its_training(name: str) -> None:
    path = WEIGHTS / f"{name}.safetensors"
    with safe_open(path, framework="pt") as file:
        kinds = {file.get_tensor(key).dtype for key in file.keys()}
    assert kinds == {torch.float16}
    loaded = load_checkpoint(path)
    assert loaded.name == name
    assert loaded.network.config == network_config(name)
    assert loaded.training["data_hashes"]
    assert loaded.training["config"]["network"] == name
    manifest = load_manifest(manifest_path(WEIGHTS / f"{name}.onnx"))
    assert manifest.network == name


@pytest.mark.slow
@pytest.mark.parametrize("name", TIERS)
def test_a_network_beats_physics_on_tissue_of_no_slide(name: str) -> None:
    """Procedural tissue under the evaluation's light: nothing was trained on either."""
    method = load_network_method(WEIGHTS / f"{name}.safetensors")
    gains, over_physics = [], []
    for pair in frozen_set(procedural_textures(4), 4, tile_px=160):
        fused = psnr_db(method(pair), pair.truth)
        gains.append(fused - psnr_db(fuse_sharper(pair), pair.truth))
        over_physics.append(fused - psnr_db(fuse_physics(pair), pair.truth))
    assert np.mean(gains) > 1
    assert min(gains) > -0.1
    assert np.mean(over_physics) > 0
