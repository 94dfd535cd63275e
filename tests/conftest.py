"""Fixtures for every test: no thread outlives its test; real data where it exists."""

import fcntl
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
THREAD_GRACE_S = 2.0  # a thread told to stop may still be on its way out


@pytest.fixture(autouse=True)
def _no_leaked_thread() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    deadline_s = time.monotonic() + THREAD_GRACE_S
    leaked = [thread for thread in threading.enumerate() if thread not in before]
    for thread in leaked:
        thread.join(max(0.0, deadline_s - time.monotonic()))
    names = [thread.name for thread in leaked if thread.is_alive()]
    if names:
        pytest.fail(f"the test left threads running: {', '.join(names)}")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder of real tissue images, or skip the test that asks for it."""
    named = os.environ.get("BIFOCUS_DATA")
    if named:
        folder = Path(named)
        if not folder.is_dir():
            pytest.fail(f"BIFOCUS_DATA={named} is not a folder")
        return folder
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs real images: set BIFOCUS_DATA, or put them in {folder}")
    return folder


@pytest.fixture
def gige_port() -> Iterator[None]:
    """Wait until no other test run on this machine serves a GigE camera."""
    path = Path(tempfile.gettempdir()) / "bifocus-gige-port.lock"
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
