"""Environments of third-party programs: their own, outside ours, made once and kept.

They lie in `.venv-peers/`. Without the package index the tests that need one skip and
say why; with `BIFOCUS_PEERS=required`, as in CI, they fail.
"""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / ".venv-peers"
INSTALL_S = 600.0

# Their programs run under the environments' own interpreter, never under ours.
collect_ignore_glob = ["clients/*"]


def peer_python(name: str, requirements: tuple[str, ...]) -> Path:
    """Return the interpreter of an environment that has these packages."""
    tag = f"{name}-py{sys.version_info.major}{sys.version_info.minor}"
    folder = ENVIRONMENTS / tag
    made = folder / "requirements.txt"
    wanted = "\n".join(requirements)
    python = folder / "bin" / "python"
    if made.is_file() and made.read_text() == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=False)
    command = [sys.executable, "-m", "pip", "--python", str(python), "install"]
    options = ["--quiet", "--retries", "1", "--timeout", "15"]
    done = subprocess.run(
        [*command, *options, *requirements],
        capture_output=True,
        text=True,
        timeout=INSTALL_S,
        check=False,
    )
    if done.returncode != 0:
        shutil.rmtree(folder, ignore_errors=True)
        why = done.stderr.strip().splitlines()[-1:] or ["pip failed"]
        text = f"no environment for {', '.join(requirements)}: {why[0]}"
        if os.environ.get("BIFOCUS_PEERS") == "required":
            pytest.fail(text)
        pytest.skip(text)
    made.write_text(wanted)
    return python


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
