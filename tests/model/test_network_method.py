"""A checkpoint as a method: a fresh network returns the image that it corrects."""

from pathlib import Path

import numpy as np
import pytest
import torch

from bifocus.errors import ConfigError
from bifocus.model.checkpoint import save_checkpoint
from bifocus.model.classical import fuse_physics_joint, fuse_sharper
from bifocus.model.evaluation_pair import EvaluationPair
from bifocus.model.evaluation_set import frozen_set, procedural_textures
from bifocus.model.network_method import NetworkMethod, load_network_method
from bifocus.model.network_registry import build_network

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def pair() -> EvaluationPair:
    return next(iter(frozen_set(procedural_textures(1, side=200), 1, tile_px=96)))


def test_a_fresh_base_network_returns_the_physics_image(pair: EvaluationPair) -> None:
    method = NetworkMethod(name="base", network=build_network("base").eval())
    found, expected = (f(pair).astype(int) for f in (method, fuse_physics_joint))
    # The network gets fractions of a level, to 1/256: where one is a half, they differ.
    assert np.abs(found - expected).max() <= 1
    assert np.mean(found != expected) < 0.01
    params, gmac = method.params_and_gmac(1024, 1224)
    assert params == pytest.approx(0.87e6, rel=0.05)  # network.md section 2
    assert gmac == pytest.approx(41, rel=0.05)


def test_a_network_without_physics_returns_the_sharper_shot(
    pair: EvaluationPair,
) -> None:
    network = build_network("base-no-physics").eval()
    method = NetworkMethod(name="base-no-physics", network=network)
    np.testing.assert_array_equal(method(pair), fuse_sharper(pair))


def test_a_checkpoint_is_a_method(tmp_path: Path, pair: EvaluationPair) -> None:
    path = tmp_path / "fast.safetensors"
    save_checkpoint(path, build_network("fast"), name="fast", config={}, training={})
    method = load_network_method(path)
    assert method.name == "fast"
    assert method(pair).shape == pair.truth.shape
    with pytest.raises(ConfigError, match="no checkpoint"):
        load_network_method(tmp_path / "absent.safetensors")
