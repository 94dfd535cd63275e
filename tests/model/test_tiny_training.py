"""A tiny network, trained for some seconds, beats the physics image it starts from."""

from pathlib import Path

import pytest
import torch

from bifocus.model.loss_curve import read_records
from bifocus.model.patch_store import StoreRequest, build_store
from bifocus.model.train import run_training
from bifocus.model.train_config import TrainConfig
from tests.model.tissue_folder import make_tissue_folder
from tests.tissue import procedural_tissue


@pytest.mark.slow
def test_some_seconds_of_training_beat_physics(tmp_path: Path) -> None:
    """Judged on 24 frozen pairs of a slide and of offsets never trained on."""
    torch.set_num_threads(1)
    make_tissue_folder(tmp_path, texture=procedural_tissue, side=320)
    train = StoreRequest(
        n=72,
        patch_px=96,
        margin_px=32,
        per_instrument=72,
        mix="evaluation-coherent",
    )
    frozen = StoreRequest(
        n=24,
        patch_px=96,
        margin_px=32,
        split="validation",
        mix="evaluation-coherent",
        seed=1,
    )
    build_store(tmp_path / "train", train, data_dir=tmp_path)
    build_store(tmp_path / "frozen", frozen, data_dir=tmp_path)
    config = TrainConfig.model_validate(
        {
            "network": "base",
            "overrides": {"widths": [16, 32], "blocks": [1, 1]},
            "train_stores": [tmp_path / "train"],
            "validation_stores": [tmp_path / "frozen"],
            "steps": 800,
            "batch": 4,
            "crop_px": 64,
            "warmup_steps": 50,
            "learning_rate": 5e-4,
            "ema_decay": 0.99,
            "validate_every_steps": 800,
            "threads": 1,
            "device": "cpu",
        }
    )
    result = run_training(config, tmp_path / "run")
    records = read_records(tmp_path / "run" / "log.jsonl")
    scores = next(r["validation"] for r in records if "validation" in r)
    assert scores["physics_over_sharper_db"] > 1
    assert result.best_db > scores["physics_over_sharper_db"] + 0.05
