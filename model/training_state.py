"""What a training needs to continue after a kill: one safetensors file, no pickle.

Tensors: weights, EMA weights, and Adam's two moments; the file's metadata holds a JSON
text with the rest. Written beside its place and moved there, so that it is always
whole.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from bifocus.errors import ConfigError
from bifocus.whole_file import write_whole

FORMAT = "bifocus-training-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a training stands; draws depend on the step, so no generator is kept."""

    step: int
    elapsed_s: float
    best_db: float
    best_step: int
    config: dict[str, Any]


def save_state(
    path: Path,
    progress: Progress,
    *,
    network: nn.Module,
    ema: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Write everything to `path`, or leave what was there.

    Raises
    ------
    SlideFileError
        If the file cannot be written, for instance because the disk is full.
    """
    tensors = {f"network/{key}": value for key, value in network.state_dict().items()}
    tensors |= {f"ema/{key}": value for key, value in ema.items()}
    for key, parameter in network.named_parameters():
        for name, value in optimizer.state.get(parameter, {}).items():
            tensors[f"adam/{name}/{key}"] = torch.as_tensor(value)
    stored = {
        key: value.detach().to("cpu", copy=True).contiguous()
        for key, value in tensors.items()
    }
    head = {"format": FORMAT, **asdict(progress)}
    content = save(stored, {"bifocus": json.dumps(head)})
    write_whole(path, content)


def read_progress(path: Path) -> Progress:
    """Return where the training of a state file stands.

    Raises
    ------
    ConfigError
        If the file is not a whole training state of this version.
    """
    head, _ = _read(path)
    try:
        return Progress(**head)
    except TypeError as error:
        msg = f"{path}: the state of another version: {error}"
        raise ConfigError(msg) from error


def load_state(
    path: Path,
    *,
    network: nn.Module,
    ema: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Fill network, EMA and optimizer from a file, in place.

    Raises
    ------
    ConfigError
        If the file is not a training state, or of another network.
    """
    _, tensors = _read(path)
    try:
        network.load_state_dict(_part(tensors, "network/"))
        averaged = _part(tensors, "ema/")
        for key, value in ema.items():
            value.copy_(averaged[key])
        _fill_adam(optimizer, network, tensors)
    except (KeyError, RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[0]
        msg = f"{path}: the state of another network or version: {reason}"
        raise ConfigError(msg) from error


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            head = json.loads((file.metadata() or {}).get("bifocus", "{}"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except (OSError, SafetensorError, ValueError) as error:
        msg = f"{path}: not a whole training state ({error}); remove it to begin anew"
        raise ConfigError(msg) from error
    if head.pop("format", None) != FORMAT:
        msg = f"{path}: not a training state of this program"
        raise ConfigError(msg)
    return head, tensors


def _fill_adam(
    optimizer: torch.optim.Optimizer, network: nn.Module, tensors: dict[str, Tensor]
) -> None:
    for key, parameter in network.named_parameters():
        names = ("step", "exp_avg", "exp_avg_sq")
        if f"adam/step/{key}" not in tensors:
            continue  # saved before the first step
        values = {name: tensors[f"adam/{name}/{key}"] for name in names}
        optimizer.state[parameter] = {
            # Adam keeps its step counter on the CPU.
            name: value if name == "step" else value.to(parameter.device)
            for name, value in values.items()
        }


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): value
        for key, value in tensors.items()
        if key.startswith(prefix)
    }
