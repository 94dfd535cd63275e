"""The training file: YAML, every key checked, unknown ones refused."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, model_validator

from bifocus.config_model import Model, Positive, parse_model
from bifocus.errors import ConfigError
from bifocus.model.losses import LossName

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]


class TrainConfig(Model):
    """How one network is trained.

    Training ends after `steps` or `epochs`, whichever is given, or after `max_seconds`
    of wall time, whichever comes first; the cosine follows the one that is nearer to
    its end. Until `bfloat16_share` of it, convolutions run in bfloat16 (twice as fast
    on CPUs and GPUs that have it); the rest is float32, so that the weights end exact.

    Stores are folders made by `bifocus.model.patch_store`, relative to where the
    command runs. Without a validation store, `validation_share` of the training slides
    is set aside.

    `initial_weights` is a checkpoint of the same network to start from, for a network
    that is to learn a new instrument, or a new physics image. `teacher` is a checkpoint
    of a larger network, whose pictures are then `teacher_share` of the goal; the rest
    is the truth.
    """

    network: str
    overrides: dict[str, Any] = Field(
        default_factory=dict
    )  # fields of the network's own dataclass
    initial_weights: Path | None = None
    teacher: Path | None = None
    teacher_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    train_stores: Annotated[tuple[Path, ...], Field(min_length=1)]
    validation_stores: tuple[Path, ...] = ()
    validation_share: Share = 0.0
    loss: LossName = "log-mse-charbonnier"
    charbonnier_weight: Annotated[float, Field(ge=0, le=10)] = 0.2
    steps: Count | None = None
    epochs: Count | None = None
    max_seconds: Positive | None = None
    batch: Count = 8
    crop_px: Annotated[int, Field(ge=32)] = 96
    is_augmented: bool = True
    learning_rate: Positive = 1e-3
    lowest_learning_rate: Annotated[float, Field(ge=0)] = 1e-6
    betas: tuple[Share, Share] = (0.9, 0.99)
    warmup_steps: Annotated[int, Field(ge=0)] = 500
    schedule: Literal["cosine", "constant"] = "cosine"
    ema_decay: Share = 0.999  # 0 for none
    clip_norm: Positive | None = 1.0
    validate_every_steps: Count = 1000
    save_every_seconds: Positive = 120.0
    log_every_steps: Count = 50
    seed: Annotated[int, Field(ge=0)] = 0
    bfloat16_share: Annotated[float, Field(ge=0, le=1)] = 0.0  # of the progress
    device: str = "auto"
    threads: Annotated[int, Field(ge=0)] = 0  # 0: as torch chooses

    @model_validator(mode="after")
    def _has_an_end(self) -> "TrainConfig":
        if self.steps is None and self.epochs is None and self.max_seconds is None:
            msg = "one of steps, epochs and max_seconds must be given"
            raise ValueError(msg)
        if not self.validation_stores and not self.validation_share:
            msg = "give validation_stores, or a validation_share of the training slides"
            raise ValueError(msg)
        return self


def load_train_config(path: Path) -> TrainConfig:
    """Read and check a training file.

    Raises
    ------
    ConfigError
        If it is missing, not YAML, or breaks the schema; names each key.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"{path}: cannot read the training file: {error.strerror}"
        raise ConfigError(msg) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        msg = f"{path}: not a YAML file: {' '.join(str(error).split())}"
        raise ConfigError(msg) from error
    return parse_model(TrainConfig, document, source=str(path))
