"""Environments of third-party programs: their own, outside ours, made once and kept.

They lie in `.venv-peers/`. What is in them runs in processes of its own and is never
imported: some of it has licences that do not go with ours.
"""

import shutil
import subprocess
import sys
import venv
from pathlib import Path

ENVIRONMENTS = Path(__file__).parents[1] / ".venv-peers"
INSTALL_S = 600.0


class PeerMissingError(Exception):
    """A peer cannot be installed here; the text says why."""


def ensure_environment(name: str, requirements: tuple[str, ...]) -> Path:
    """Return the interpreter of an environment that has these packages.

    Raises
    ------
    PeerMissingError
        If pip cannot get them.
    """
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
        msg = f"no environment for {', '.join(requirements)}: {why[0]}"
        raise PeerMissingError(msg)
    made.write_text(wanted)
    return python
