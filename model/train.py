"""Training of one network from stored patches; continues after a kill.

The output folder holds `state.safetensors` (to continue), `last.safetensors` and
`best.safetensors` (checkpoints of the averaged weights), `log.jsonl` and `loss.png`.
Run it with `bifocus train CONFIG`, or by itself:

    python -m bifocus.model.train examples/training/fast.yaml --out runs/fast
    torchrun --nproc-per-node 4 -m bifocus.model.train CONFIG --out runs/base

Under torchrun each process takes `batch` patches per step, gradients are averaged, and
the first process alone writes. Every draw depends on seed, process and step, so that a
continued run sees the patches that an uninterrupted one would.
"""

import argparse
import logging
import math
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from bifocus.errors import BifocusError, EngineError
from bifocus.model.averaged_weights import AveragedWeights
from bifocus.model.fusion_network import FusionNetwork
from bifocus.model.losses import Loss, make_loss
from bifocus.model.patch_batches import Batch, open_patch_sets
from bifocus.model.starting_network import start_network
from bifocus.model.teacher import Teacher
from bifocus.model.train_config import TrainConfig, load_train_config
from bifocus.model.training_folder import TrainingFolder
from bifocus.model.training_schedule import compute_learning_rate, compute_n_steps
from bifocus.model.training_state import Progress, load_state, save_state
from bifocus.model.training_team import Team, open_team
from bifocus.model.validation import ValidationScores, validate

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """Where a finished training ended, and its best validation."""

    steps: int
    elapsed_s: float
    best_db: float
    best_step: int
    best_path: Path


def run_training(config: TrainConfig, folder: Path) -> TrainingResult:
    """Train a network, or continue its training.

    Parameters
    ----------
    config
        What to train, on what, and how long.
    folder
        For all output; a `state.safetensors` in it is continued.

    Returns
    -------
    TrainingResult
        The best checkpoint by mean validation gain over the sharper shot.

    Raises
    ------
    ConfigError
        If stores are missing, or the folder holds the state of another training.
    EngineError
        If the loss is no longer finite, or a file cannot be written; the last good
        checkpoint is kept and named.
    """
    with open_team(config.device) as team:
        trainer = Trainer(config, folder, team)
        return trainer.run()


class Trainer:
    """The state of one training and its steps; see `run_training`."""

    def __init__(self, config: TrainConfig, folder: Path, team: Team) -> None:
        self.config = config
        self.team = team
        torch.manual_seed(config.seed)
        if config.threads:
            torch.set_num_threads(config.threads)
        self.train_set, self.validation_set = open_patch_sets(config)
        self.folder = TrainingFolder(folder, config, self.train_set.data_hashes)
        self.network = start_network(config).to(team.device)
        self.teacher: Teacher | None = None
        if config.teacher is not None:
            self.teacher = Teacher(config.teacher, team.device)
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), lr=config.learning_rate, betas=config.betas
        )
        self.averaged = AveragedWeights(self.network, config.ema_decay)
        self.loss: Loss = make_loss(
            config.loss, charbonnier_weight=config.charbonnier_weight
        )
        self.n_steps = compute_n_steps(config, len(self.train_set.patches), team.size)
        self.step = 0
        self.best_db, self.best_step = -math.inf, 0
        self._elapsed_before_s = 0.0
        self._start_s = time.monotonic()
        self._saved_s = self._start_s

    def run(self) -> TrainingResult:
        """Train to the end; see `run_training`."""
        self.folder.make()
        self._continue_state()
        model: nn.Module = self.network
        if self.team.size > 1:
            model = DistributedDataParallel(self.network)
        recent: list[float] = []
        progress = self.team.agree(self._progress())
        while progress < 1:
            recent.append(self._take_step(model, progress))
            self.step += 1
            if self.step % self.config.log_every_steps == 0:
                self._log(loss=float(np.mean(recent)), rate=self._rate(progress))
                recent.clear()
            if self.step % self.config.validate_every_steps == 0:
                self._validate()
                self.train_set.refresh()
            elif self.team.is_first and self._is_save_due():
                self._save()
            progress = self.team.agree(self._progress())
        if self.step % self.config.validate_every_steps:
            self._validate()
        return TrainingResult(
            steps=self.step,
            elapsed_s=self._elapsed_s(),
            best_db=self.best_db,
            best_step=self.best_step,
            best_path=self.folder.best,
        )

    def _take_step(self, model: nn.Module, progress: float) -> float:
        """Take one step of Adam; return the loss."""
        config = self.config
        rng = np.random.default_rng([config.seed, self.team.rank, self.step])
        batch = self.train_set.draw_batch(
            rng,
            count=config.batch,
            crop_px=config.crop_px,
            is_augmented=config.is_augmented,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(progress)
        model.train()
        device = self.team.device
        is_coarse = progress < config.bfloat16_share
        with torch.autocast(device.type, torch.bfloat16, enabled=is_coarse):
            fused = model(*self._inputs(batch))
        goal = batch["truth"].to(device)
        if self.teacher is not None:
            turn = int(rng.integers(8)) if config.is_augmented else 0
            taught = self.teacher.fuse(batch, turn=turn, is_coarse=is_coarse)
            goal = torch.lerp(goal, taught, config.teacher_share)
        loss = self.loss(fused.float(), goal)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        limit = config.clip_norm or math.inf
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), limit)
        self._check_finite(float(loss.detach()), float(norm))
        self.optimizer.step()
        self.averaged.update(self.step)
        return float(loss.detach())

    def _inputs(self, batch: Batch) -> list[Tensor]:
        return [
            batch[name].to(self.team.device, memory_format=torch.channels_last)
            for name in self.network.inputs
        ]

    def _check_finite(self, loss: float, norm: float) -> None:
        if math.isfinite(loss) and math.isfinite(norm):
            return
        good = self.folder.last
        kept = (
            f"the last good checkpoint is {good}" if good.exists() else "none is kept"
        )
        msg = (
            f"step {self.step}: loss {loss}, gradient norm {norm}; {kept}. Lower "
            "learning_rate, or lengthen warmup_steps, and start again to continue"
        )
        raise EngineError(msg)

    def _rate(self, progress: float) -> float:
        return compute_learning_rate(self.config, self.step, progress)

    def _progress(self) -> float:
        """Return how far the training is, 0..1 and beyond, by steps or by time."""
        by_steps = self.step / self.n_steps if self.n_steps else 0.0
        limit_s = self.config.max_seconds
        by_time = self._elapsed_s() / limit_s if limit_s else 0.0
        return max(by_steps, by_time)

    def _elapsed_s(self) -> float:
        return self._elapsed_before_s + time.monotonic() - self._start_s

    def _is_save_due(self) -> bool:
        return time.monotonic() - self._saved_s >= self.config.save_every_seconds

    def _validate(self) -> None:
        """Score the averaged weights, keep them if they are the best, save all."""
        if not self.team.is_first:
            return
        averaged = self.averaged.make_network()
        scores = validate(averaged, self.validation_set, device=self.team.device)
        logger.info(
            "step %d, %.0f s: gain %+.2f dB over sharper (physics %+.2f), harm %.1f %%,"
            " worst bin %+.2f dB over physics",
            self.step,
            self._elapsed_s(),
            scores.gain_over_sharper_db,
            scores.physics_over_sharper_db,
            100 * scores.harm_rate,
            scores.worst_bin_db,
        )
        self._log(validation=scores.to_json())
        if scores.gain_over_sharper_db > self.best_db:
            self.best_db, self.best_step = scores.gain_over_sharper_db, self.step
            self._save_network(self.folder.best, averaged, scores)
        self._save(scores)
        self.folder.draw_curve(self.step)

    def _save(self, scores: ValidationScores | None = None) -> None:
        averaged = self.averaged.make_network()
        self._save_network(self.folder.last, averaged, scores)
        progress = Progress(
            step=self.step,
            elapsed_s=self._elapsed_s(),
            best_db=self.best_db,
            best_step=self.best_step,
            config=self.config.model_dump(mode="json"),
        )
        save_state(
            self.folder.state,
            progress,
            network=self.network,
            ema=self.averaged.tensors,
            optimizer=self.optimizer,
        )
        self._saved_s = time.monotonic()

    def _save_network(
        self, path: Path, network: FusionNetwork, scores: ValidationScores | None
    ) -> None:
        self.folder.save_network(
            path,
            network,
            scores,
            step=self.step,
            elapsed_s=self._elapsed_s(),
            n_patches=len(self.train_set.patches),
        )

    def _continue_state(self) -> None:
        progress = self.folder.read_progress()
        if progress is not None:
            load_state(
                self.folder.state,
                network=self.network,
                ema=self.averaged.tensors,
                optimizer=self.optimizer,
            )
            self.step, self._elapsed_before_s = progress.step, progress.elapsed_s
            self.best_db, self.best_step = progress.best_db, progress.best_step
            self._start_s = time.monotonic()
            logger.info("continuing %s at step %d", self.folder.path, self.step)
        if self.team.is_first:
            self.folder.trim_log(self.step if progress else None)

    def _log(self, **values: Any) -> None:
        if self.team.is_first:
            seconds = round(self._elapsed_s(), 1)
            self.folder.log({"step": self.step, "elapsed_s": seconds, **values})


def main(arguments: list[str] | None = None) -> int:
    """Train from the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bifocus.model.train", description=__doc__
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        result = run_training(load_train_config(chosen.config), chosen.out)
    except BifocusError as error:
        logger.error("%s", error)
        return error.exit_code
    if int(os.environ.get("RANK", "0")) != 0:
        return 0  # the first process has said it
    logger.info(
        "best %+.2f dB at step %d of %d: %s",
        result.best_db,
        result.best_step,
        result.steps,
        result.best_path,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
