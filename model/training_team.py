"""The processes that train together: one, or those that torchrun started.

torchrun sets WORLD_SIZE, RANK and LOCAL_RANK; see
https://docs.pytorch.org/docs/stable/elastic/run.html
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from bifocus.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """One process among those that train together."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and decides."""
        return self.rank == 0

    def agree(self, value: float) -> float:
        """Return the first process's value in every process."""
        if self.size == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=self.device)
        torch.distributed.broadcast(shared, src=0)
        return float(shared.item())


@contextmanager
def open_team(device_name: str) -> Iterator[Team]:
    """Join the processes that torchrun started, if it did.

    Raises
    ------
    ConfigError
        If the device is unknown; `auto` takes a GPU per process where there is one.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Team(rank=0, size=1, device=_choose_device(device_name, 0))
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    device = _choose_device(device_name, local)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    torch.distributed.init_process_group(backend)
    try:
        rank = torch.distributed.get_rank()
        yield Team(rank=rank, size=size, device=device)
    finally:
        torch.distributed.destroy_process_group()


def _choose_device(name: str, local_rank: int) -> torch.device:
    if name == "auto":
        name = f"cuda:{local_rank}" if torch.cuda.is_available() else "cpu"
    try:
        return torch.device(name)
    except RuntimeError as error:
        msg = f"device '{name}' is unknown: {str(error).splitlines()[0]}"
        raise ConfigError(msg) from error
