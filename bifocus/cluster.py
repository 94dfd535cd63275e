"""A Dask cluster as an executor; Dask comes with the extra `cluster`."""

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from bifocus.errors import ConfigError

_ANSWER_S = 20.0


@contextmanager
def open_cluster(address: str) -> Iterator[tuple[Executor, int]]:
    """Connect to a scheduler; yield its executor and the number of its workers.

    The workers need the same version of bifocus, and the engine; no shared disk. A task
    whose worker is lost is done by another one.

    Raises
    ------
    ConfigError
        If Dask is not installed, nobody answers there, or there is no worker.
    """
    try:
        distributed: Any = import_module("distributed")
    except ImportError as error:
        msg = "--cluster needs Dask: pip install 'bifocus[cluster]'"
        raise ConfigError(msg) from error
    try:
        client = distributed.Client(address, timeout=_ANSWER_S, set_as_default=False)
    except (OSError, ValueError) as error:
        msg = (
            f"--cluster {address}: no scheduler answers ({error}); start one with "
            "dask scheduler, and workers with dask worker ADDRESS"
        )
        raise ConfigError(msg) from error
    with client:
        n_workers = len(client.scheduler_info()["workers"])
        if not n_workers:
            msg = (
                f"--cluster {address}: the cluster has no worker; start some with "
                f"dask worker {address}"
            )
            raise ConfigError(msg)
        yield client.get_executor(retries=2, pure=False), n_workers
