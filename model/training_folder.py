"""What a training leaves on the disk: checkpoints, its log, and the curve of it."""

import logging
from pathlib import Path
from typing import Any

from bifocus.errors import ConfigError, EngineError
from bifocus.model.checkpoint import save_checkpoint
from bifocus.model.fusion_network import FusionNetwork
from bifocus.model.loss_curve import (
    append_record,
    draw_loss_curve,
    read_records,
    trim_records,
)
from bifocus.model.train_config import TrainConfig
from bifocus.model.training_state import Progress, read_progress
from bifocus.model.validation import ValidationScores

logger = logging.getLogger(__name__)


class TrainingFolder:
    """The output folder of one training; the first process alone writes to it.

    `state` (to continue), `last` and `best` (checkpoints of the averaged weights) are
    paths.

    Parameters
    ----------
    path
        Made by `make`.
    config
        The training, which checkpoints describe.
    data_hashes
        Of the stores it learns from, for its checkpoints.
    """

    def __init__(self, path: Path, config: TrainConfig, data_hashes: list[str]) -> None:
        self.path = path
        self.state = path / "state.safetensors"
        self.last = path / "last.safetensors"
        self.best = path / "best.safetensors"
        self._log = path / "log.jsonl"
        self._config = config
        self._data_hashes = data_hashes

    def make(self) -> None:
        """Make the folder.

        Raises
        ------
        ConfigError
            If it cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            msg = f"cannot make the output folder {self.path}: {error.strerror}"
            raise ConfigError(msg) from error

    def read_progress(self) -> Progress | None:
        """Return where the training that lies here stands; None if there is none.

        Raises
        ------
        ConfigError
            If what lies here is of another network, or no whole state.
        """
        if not self.state.exists():
            return None
        progress = read_progress(self.state)
        if progress.config["network"] != self._config.network:
            msg = (
                f"{self.state} is the state of network '{progress.config['network']}', "
                f"not '{self._config.network}': choose another output folder"
            )
            raise ConfigError(msg)
        return progress

    def trim_log(self, step: int | None) -> None:
        """Drop what was logged after `step`, or all of it: a training begins anew."""
        if step is None:
            self._log.unlink(missing_ok=True)
        else:
            trim_records(self._log, step)

    def log(self, record: dict[str, Any]) -> None:
        """Append a record to the log.

        Raises
        ------
        EngineError
            If the disk is full.
        """
        try:
            append_record(self._log, record)
        except OSError as error:
            msg = f"cannot write {self._log}: {error.strerror or error}"
            raise EngineError(msg) from error

    def save_network(
        self,
        path: Path,
        network: FusionNetwork,
        scores: ValidationScores | None,
        **reached: float,  # the step, seconds and patches that it took
    ) -> None:
        """Write a checkpoint that says how it came about."""
        save_checkpoint(
            path,
            network,
            name=self._config.network,
            config=self._config.overrides,
            training={
                "config": describe_training(self._config),
                "data_hashes": self._data_hashes,
                **reached,
                "validation": scores.to_json() if scores else None,
            },
        )

    def draw_curve(self, step: int) -> None:
        """Draw the log.

        Raises
        ------
        EngineError
            If the picture cannot be written.
        """
        path = self.path / "loss.png"
        title = f"{self._config.network}, {step} steps"
        try:
            draw_loss_curve(read_records(self._log), path, title=title)
        except OSError as error:
            msg = f"cannot write {path}: {error.strerror or error}"
            raise EngineError(msg) from error


def describe_training(config: TrainConfig) -> dict[str, Any]:
    """Return a training file as JSON values, without where on this machine things lie.

    Networks are passed on: they name their stores, not the stores' folders.
    """
    described = config.model_dump(mode="json")
    for key in ("train_stores", "validation_stores"):
        described[key] = [path.name for path in getattr(config, key)]
    for key in ("initial_weights", "teacher"):
        if (path := getattr(config, key)) is not None:
            described[key] = path.name
    return described
