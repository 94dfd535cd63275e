"""Our Marlin driver against a foreign Marlin: OctoPrint's virtual printer.

200 MB to install, so only where `BIFOCUS_OCTOPRINT=1` asks for it. Its counts are
hundredths of a millimetre, cut and not rounded: targets are such as divide exactly.
Its way of saying `ok` before the output is not Marlin's, and is left out.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bifocus.clock import RealClock
from bifocus.hal.devices import Stage
from bifocus.hal.open_stage import open_stage
from bifocus.records import StagePosition
from tests.hal.boards import stage_config
from tests.peers.conftest import peer_python

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.environ.get("BIFOCUS_OCTOPRINT") != "1",
        reason="needs OctoPrint, 200 MB: set BIFOCUS_OCTOPRINT=1",
    ),
]

SERVER = Path(__file__).parent / "clients" / "serve_octoprint.py"
MARLIN_ERRORS = {
    "checksum_mismatch": "checksum mismatch",
    "checksum_missing": "No Checksum with line number",
    "lineno_mismatch": "Line Number is not Last Line Number+1",
    "lineno_missing": "No Line Number with checksum, Last Line: {}",
    "command_unknown": "Unknown command {}",
}
FLAVOURS: dict[str, dict[str, Any]] = {
    "plain": {},
    "ok after resend": {"okAfterResend": True, "resend_ratio": 10},
    "no ok after resend": {"okAfterResend": False, "resend_ratio": 10},
    "numbered ok": {"okFormatString": "ok N{lastN} P15 B{buffer}"},
    "busy": {"sendBusy": True, "busyInterval": 0.2},
}


@pytest.fixture(scope="session")
def octoprint_python() -> Path:
    return peer_python("octoprint", ("OctoPrint==1.11.8", "setuptools", "wheel"))


@contextmanager
def opened(python: Path, folder: Path, flavour: dict[str, Any]) -> Iterator[Stage]:
    settings = {"errors": MARLIN_ERRORS, **flavour}
    command = [str(python), str(SERVER), str(folder), json.dumps(settings)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline().strip()
            config = stage_config(
                "marlin",
                port=port,
                step_um=(10.0, 10.0, 10.0),
                x_um=(-5000.0, 5000.0),
                y_um=(-5000.0, 5000.0),
                z_um=(-5000.0, 5000.0),
                speed_um_per_s=(5000.0, 5000.0, 5000.0),
                take_up_um=(250.0, 250.0, 250.0),
            )
            stage = open_stage(config, clock=RealClock(), seed=0).stage
            try:
                yield stage
            finally:
                stage.close()
        finally:
            process.kill()


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_moves_arrive_and_are_read_back(
    octoprint_python: Path, tmp_path: Path, flavour: str
) -> None:
    with opened(octoprint_python, tmp_path, FLAVOURS[flavour]) as stage:
        for x_um, y_um, z_um in ((500, -250, 750), (-1000, 500, 0), (0, 0, 250)):
            target = StagePosition(x_um=x_um, y_um=y_um, z_um=z_um)
            assert stage.move_to(target).reported == target
            assert stage.position() == target
