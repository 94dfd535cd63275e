"""Published clients drive the virtual boards and believe in them.

What a client reads back is held against where the motors truly are.
"""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from bifocus.hal.firmware_kinds import FirmwareKind, make_firmware
from bifocus.hal.pty_server import PtyServer
from bifocus.records import StagePosition

pytestmark = pytest.mark.slow

CLIENTS = Path(__file__).parent / "clients"
LIMIT_S = 60.0


def drive(
    python: Path, script: str, kind: FirmwareKind
) -> tuple[dict[str, Any], StagePosition]:
    """Run a client; return what it found, and where the motors truly are."""
    board = make_firmware(kind, now_s=time.monotonic(), seed=1)
    with PtyServer(board) as server:
        done = subprocess.run(
            [str(python), str(CLIENTS / script), server.port],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        truth = server.shared.motor_at(time.monotonic())
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(found, dict)
    return found, truth


@pytest.mark.parametrize(
    ("kind", "firmware", "board"),
    [
        ("sangaboard", "Sangaboard Firmware v0.5.1", "Sangaboard v0.3"),
        ("sangaboard-v1", "Sangaboard Firmware v1.0.4", "Sangaboard v0.5.5"),
    ],
)
def test_sangaboard(
    clients_python: Path, kind: FirmwareKind, firmware: str, board: str
) -> None:
    found, truth = drive(clients_python, "drive_sangaboard.py", kind)
    assert found == {
        "firmware": firmware,
        "board": board,
        "start": [0, 0, 0],
        "position": [10, 20, 30],
        "step_time": 1000,
    }
    assert (truth.x_um, truth.y_um) == pytest.approx((10 * 0.09, 20 * 0.09))
    assert truth.z_um == pytest.approx(30 * 0.05)


def test_asitiger(clients_python: Path) -> None:
    found, truth = drive(clients_python, "drive_asitiger.py", "asi-tiger")
    assert found["axes"] == ["X", "Y", "Z"]
    assert found["was_busy"] is True
    assert found["enabled"] == ["ENABLED"] * 3
    assert found["speed"] == {"X": "7.000000"}
    assert found["where"] == {"X": 11000.0, "Y": 2200.0, "Z": -1100.0}
    assert (truth.x_um, truth.y_um, truth.z_um) == pytest.approx((1100, 220, -110))


def test_tigerasi(clients_python: Path) -> None:
    found, truth = drive(clients_python, "drive_tigerasi.py", "asi-tiger")
    assert found["axes"] == ["X", "Y", "Z"]
    assert found["where"]["Z"] == -1100.0
    assert found["backlash"] == {"X": 0.0}
    assert found["upper"] == {"X": 1000.0}
    # It takes its own successful halt for an error, as on the real controller.
    assert "SERIAL_CMD_HALTED" in found["halted"]
    x = found["stopped"]["X"]
    assert 11000 <= x < 81000
    assert truth.x_um * 10 == pytest.approx(x, abs=0.2)


def test_grbl_streamer(clients_python: Path) -> None:
    found, truth = drive(clients_python, "drive_grbl_streamer.py", "grbl")
    assert found["booted"]
    assert found["was_answered"]
    assert found["errors"] == []
    assert "$100=1600.000" in found["settings"]
    assert found["last"] == ["Idle", [-3.5, 0.0, 0.0]]
    assert {state for state, _ in found["states"]} >= {"Idle", "Run", "Jog"}
    assert truth.x_um == pytest.approx(-3500)
