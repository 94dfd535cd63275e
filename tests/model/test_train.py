"""Training: configuration, schedule, continuing after a kill, failures with advice."""

import errno
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bifocus.errors import ConfigError, EngineError, SlideFileError
from bifocus.model import train
from bifocus.model.checkpoint import load_checkpoint, save_checkpoint
from bifocus.model.hybrid import HybridConfig, HybridNet
from bifocus.model.loss_curve import read_records
from bifocus.model.network_registry import build_network
from bifocus.model.patch_batches import PatchSet, open_patch_sets
from bifocus.model.patch_store import StoreRequest, build_store
from bifocus.model.train import Trainer, run_training
from bifocus.model.train_config import TrainConfig, load_train_config
from bifocus.model.training_schedule import compute_learning_rate, compute_n_steps
from bifocus.model.training_team import Team
from bifocus.model.validation import compute_psnr_db, validate
from tests.model.tissue_folder import make_tissue_folder

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("stores")
    make_tissue_folder(folder)
    request = StoreRequest(n=6, patch_px=48, margin_px=24, per_instrument=6)
    build_store(folder / "train", request, data_dir=folder)
    held = StoreRequest(
        n=3, patch_px=48, margin_px=24, split="validation", mix="evaluation-relief"
    )
    build_store(folder / "validation", held, data_dir=folder)
    return folder / "train", folder / "validation"


def make_config(stores: tuple[Path, Path], **changes: object) -> TrainConfig:
    values: dict[str, object] = {
        "network": "base",
        "overrides": {"widths": [8, 8], "blocks": [1, 1]},
        "train_stores": [stores[0]],
        "validation_stores": [stores[1]],
        "steps": 8,
        "batch": 2,
        "crop_px": 32,
        "warmup_steps": 2,
        "learning_rate": 1e-4,
        "validate_every_steps": 4,
        "log_every_steps": 1,
        "threads": 1,
        "device": "cpu",
    }
    return TrainConfig.model_validate(values | changes)


def weights(path: Path) -> dict[str, Tensor]:
    return load_checkpoint(path).network.state_dict()


def test_training_writes_everything(stores: tuple[Path, Path], tmp_path: Path) -> None:
    result = run_training(make_config(stores), tmp_path)
    assert result.steps == 8
    loaded = load_checkpoint(result.best_path)
    # Networks are passed on: they name their stores, not where these lay.
    assert str(stores[0].parent) not in str(loaded.training)
    assert loaded.name == "base"
    assert loaded.training["step"] == result.best_step
    assert len(loaded.training["data_hashes"][0]) == 64
    assert loaded.training["config"]["batch"] == 2
    assert (tmp_path / "loss.png").stat().st_size > 1000
    records = read_records(tmp_path / "log.jsonl")
    assert [r["step"] for r in records if "loss" in r] == list(range(1, 9))
    scores = [r["validation"] for r in records if "validation" in r]
    assert len(scores) == 2

    assert all(math.isfinite(score["gain_over_physics_db"]) for score in scores)


def test_a_killed_training_continues_as_if_it_had_not_been(
    stores: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(stores)
    run_training(config, tmp_path / "whole")
    take_step = Trainer._take_step

    def killed(self: Trainer, model: torch.nn.Module, progress: float) -> float:
        if self.step == 6:  # the state of step 4 is on the disk
            raise KeyboardInterrupt
        return take_step(self, model, progress)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_take_step", killed)
        with pytest.raises(KeyboardInterrupt):
            run_training(config, tmp_path / "killed")
    run_training(config, tmp_path / "killed")
    whole, continued = (
        weights(tmp_path / name / "last.safetensors") for name in ("whole", "killed")
    )
    for key, value in whole.items():
        torch.testing.assert_close(continued[key], value, rtol=1e-5, atol=1e-7)
    records = read_records(tmp_path / "killed" / "log.jsonl")
    assert [r["step"] for r in records if "loss" in r] == list(range(1, 9))


def test_training_lowers_the_loss_on_one_batch(
    stores: tuple[Path, Path], tmp_path: Path
) -> None:
    config = make_config(
        stores,
        steps=40,
        is_augmented=False,
        crop_px=48,
        warmup_steps=5,
        validate_every_steps=99,
        learning_rate=1e-3,
    )
    run_training(config, tmp_path)
    losses = [r["loss"] for r in read_records(tmp_path / "log.jsonl") if "loss" in r]
    assert np.mean(losses[-10:]) < np.mean(losses[:10])


def test_nan_is_an_error_that_names_the_last_good_checkpoint(
    stores: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(
        make_config(stores), tmp_path, Team(rank=0, size=1, device=torch.device("cpu"))
    )
    compute = trainer.loss

    def poisoned(fused: Tensor, truth: Tensor) -> Tensor:
        return compute(fused, truth) * (math.nan if trainer.step == 5 else 1.0)

    monkeypatch.setattr(trainer, "loss", poisoned)
    with pytest.raises(EngineError, match=r"step 5: loss nan.*last\.safetensors"):
        trainer.run()
    assert load_checkpoint(tmp_path / "last.safetensors").training["step"] == 4


def test_a_full_disk_keeps_the_last_state(
    stores: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_training(make_config(stores, steps=4), tmp_path)
    before = (tmp_path / "state.safetensors").read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(SlideFileError, match="No space left"):
        run_training(make_config(stores, steps=8), tmp_path)
    assert (tmp_path / "state.safetensors").read_bytes() == before
    assert not list(tmp_path.glob("*.partial"))


def test_the_state_of_another_training_is_refused(
    stores: tuple[Path, Path], tmp_path: Path
) -> None:
    run_training(make_config(stores, steps=2), tmp_path)
    with pytest.raises(ConfigError, match="another output folder"):
        run_training(make_config(stores, network="fast", overrides={}), tmp_path)
    other = make_config(stores, overrides={"widths": [4, 4], "blocks": [1, 1]})
    with pytest.raises(ConfigError, match="another network"):
        run_training(other, tmp_path)
    (tmp_path / "state.safetensors").write_bytes(b"cut off")
    with pytest.raises(ConfigError, match="not a whole training state"):
        run_training(make_config(stores), tmp_path)


def test_training_can_start_from_another_ones_weights(
    stores: tuple[Path, Path], tmp_path: Path
) -> None:
    first = run_training(make_config(stores, steps=4), tmp_path / "first")
    changes: dict[str, object] = {
        "learning_rate": 1e-30,
        "initial_weights": first.best_path,
    }
    second = run_training(make_config(stores, steps=1, **changes), tmp_path / "second")
    before, after = weights(first.best_path), weights(second.best_path)
    for key in before:  # through the centred stem and back
        torch.testing.assert_close(after[key], before[key], atol=1e-6, rtol=0)
    other: dict[str, object] = {"widths": [4, 4], "blocks": [1, 1]}
    with pytest.raises(ConfigError, match="holds the network 'base'"):
        run_training(make_config(stores, overrides=other, **changes), tmp_path / "no")


@pytest.mark.slow
def test_a_teacher_is_followed_by_its_share(
    stores: tuple[Path, Path], tmp_path: Path
) -> None:
    """The teacher paints everything brighter by 0.1, which no truth would teach."""
    shape: dict[str, Any] = {"widths": [4, 4], "blocks": [1, 1]}
    teacher = HybridNet(HybridConfig(widths=(4, 4), blocks=(1, 1)))  # its head is zero
    assert teacher.decoder.head.bias is not None
    nn.init.constant_(teacher.decoder.head.bias, 0.1)
    path = tmp_path / "teacher.safetensors"
    save_checkpoint(path, teacher, name="base", config=shape, training={})
    changes: dict[str, object] = {"steps": 30, "learning_rate": 2e-2, "ema_decay": 0}
    held = PatchSet((stores[1],))
    batch = held.read_whole(held.patches)
    brighter = {}
    taught: dict[str, dict[str, object]] = {
        "wholly": {"teacher": path},
        "by half": {"teacher": path, "teacher_share": 0.5},
        "not": {},
    }
    for name, teaching in taught.items():
        config = make_config(stores, **changes, **teaching)
        result = run_training(config, tmp_path / name)
        last = load_checkpoint(result.best_path.with_name("last.safetensors"))
        with torch.no_grad():
            fused = last.network(*(batch[key] for key in last.network.inputs))
        brighter[name] = float((fused - batch["physics"]).mean())
        # Networks are passed on: not where their teacher lay.
        assert str(tmp_path) not in str(last.training)
    assert brighter["wholly"] == pytest.approx(0.1, abs=0.025)
    assert brighter["by half"] == pytest.approx(0.05, abs=0.025)
    assert abs(brighter["not"]) < 0.025


def test_time_limits_training_and_leads_the_cosine(
    stores: tuple[Path, Path], tmp_path: Path
) -> None:
    config = make_config(
        stores, steps=None, max_seconds=1.5, warmup_steps=0, learning_rate=1e-3
    )
    result = run_training(config, tmp_path)
    assert result.elapsed_s >= 1.5
    rates = [r["rate"] for r in read_records(tmp_path / "log.jsonl") if "loss" in r]
    assert rates[0] > 0.9e-3
    assert rates == sorted(rates, reverse=True)


def test_bfloat16_ends_in_float32(stores: tuple[Path, Path], tmp_path: Path) -> None:
    result = run_training(make_config(stores, bfloat16_share=0.5), tmp_path)
    assert {t.dtype for t in weights(result.best_path).values()} == {torch.float32}


def test_validation_split_by_slide(stores: tuple[Path, Path]) -> None:
    config = make_config(stores, validation_stores=[], validation_share=0.3)
    training, held = open_patch_sets(config)
    assert training.slides and held.slides
    assert not training.slides & held.slides


def test_stores_that_share_slides_are_refused(stores: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigError, match="both training and validation"):
        open_patch_sets(make_config(stores, validation_stores=[stores[0]]))


def test_validation_of_an_untrained_network_is_physics(
    stores: tuple[Path, Path],
) -> None:
    network = build_network("base", widths=[8, 8], blocks=[1, 1])
    scores = validate(network, PatchSet((stores[1],)), device=torch.device("cpu"))
    assert scores.gain_over_physics_db == pytest.approx(0, abs=1e-6)
    assert scores.n == 3
    assert scores.by_imaging["incoherent"]["n"] == 3


def test_psnr_of_one_level() -> None:
    truth = torch.full((1, 3, 32, 32), 100 / 255)
    decibels = compute_psnr_db(truth + 1 / 255, truth)[0]
    assert decibels == pytest.approx(20 * math.log10(255), abs=1e-4)


def test_learning_rate_warms_up_and_ends_low(stores: tuple[Path, Path]) -> None:
    config = make_config(stores, warmup_steps=10, learning_rate=1e-3)
    assert compute_learning_rate(config, 0, 0.0) == pytest.approx(1e-4)
    assert compute_learning_rate(config, 10, 0.0) == pytest.approx(1e-3)
    assert compute_learning_rate(config, 50, 0.5) == pytest.approx(5.005e-4)
    assert compute_learning_rate(config, 99, 1.0) == pytest.approx(1e-6)


def test_epochs_count_patches(stores: tuple[Path, Path]) -> None:
    config = make_config(stores, steps=None, epochs=3, batch=4)
    assert compute_n_steps(config, 10, n_processes=1) == 9
    assert compute_n_steps(config, 10, n_processes=2) == 6


@pytest.mark.parametrize("name", ["base", "fast", "large", "paper", "tiles"])
def test_examples_are_valid_and_build_their_network(name: str) -> None:
    config = load_train_config(EXAMPLES / "training" / f"{name}.yaml")
    if name != "paper":  # 39 M parameters take a second to fill
        build_network(config.network, **config.overrides)


def test_misspelt_keys_are_named(tmp_path: Path) -> None:
    text = (EXAMPLES / "training" / "base.yaml").read_text()
    path = tmp_path / "c.yaml"
    path.write_text(text.replace("warmup_steps", "warmup_step"))
    with pytest.raises(ConfigError, match="did you mean 'warmup_steps'"):
        load_train_config(path)
    path.write_text(text.replace("steps: 80000\n", "\n", 1))
    with pytest.raises(ConfigError, match="must be given"):
        load_train_config(path)
    path.write_text("network: [")
    with pytest.raises(ConfigError, match="not a YAML file"):
        load_train_config(path)
    with pytest.raises(ConfigError, match="cannot read"):
        load_train_config(tmp_path / "none.yaml")


def test_command_line_returns_the_exit_code(tmp_path: Path) -> None:
    missing = [str(tmp_path / "none.yaml"), "--out", str(tmp_path)]
    assert train.main(missing) == 2
