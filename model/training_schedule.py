"""How long a training lasts, and its learning rate on the way."""

import math

from bifocus.model.train_config import TrainConfig


def compute_n_steps(config: TrainConfig, n_patches: int, n_processes: int) -> int:
    """Return the steps that `steps` or `epochs` ask for; 0 if only time limits."""
    limits = [] if config.steps is None else [config.steps]
    if config.epochs is not None:
        per_epoch = math.ceil(n_patches / (config.batch * n_processes))
        limits.append(config.epochs * per_epoch)
    return min(limits, default=0)


def compute_learning_rate(config: TrainConfig, step: int, progress: float) -> float:
    """Return the rate: linear warm-up, then half a cosine of `progress` 0..1."""
    rate, lowest = config.learning_rate, config.lowest_learning_rate
    if config.schedule == "cosine":
        wave = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
        rate = lowest + (rate - lowest) * wave
    if step < config.warmup_steps:
        rate *= (step + 1) / config.warmup_steps
    return rate
