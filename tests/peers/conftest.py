"""Environments of third-party programs, for tests; see `bench.peer_environments`.

Without the package index the tests that need one skip and say why; with
`BIFOCUS_PEERS=required`, as in CI, they fail.
"""

import os
from pathlib import Path

import pytest

from bench.peer_environments import PeerMissingError, ensure_environment

# Their programs run under the environments' own interpreter, never under ours.
collect_ignore_glob = ["clients/*"]


def peer_python(name: str, requirements: tuple[str, ...]) -> Path:
    """Return the interpreter of an environment that has these packages."""
    try:
        return ensure_environment(name, requirements)
    except PeerMissingError as error:
        if os.environ.get("BIFOCUS_PEERS") == "required":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def clients_python() -> Path:
    """An environment with the published clients of boards that we imitate."""
    return peer_python(
        "clients",
        (
            "pyserial==3.5",
            "sangaboard==0.4.1",
            "asitiger==0.2.1",
            "tigerasi==0.0.27",
            "grbl-streamer==2.0.2",
        ),
    )
