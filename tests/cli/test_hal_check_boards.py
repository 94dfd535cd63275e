"""`bifocus hal-check` over virtual boards on pseudo-terminals: all in real time."""

import ctypes.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from bifocus.clock import RealClock
from bifocus.hal.firmware_axes import AxesFacts
from bifocus.hal.firmware_kinds import FirmwareKind, make_firmware
from bifocus.hal.pty_server import PtyServer
from tests.cli.commands import Outcome, run_cli, write_instrument
from tests.hal.boards import stage_config

pytestmark = pytest.mark.slow

# Quick mechanics and short waits: the protocols are the boards' own, the time is ours.
PACE: dict[str, Any] = {
    "speed_um_per_s": (400.0, 400.0, 400.0),
    "acceleration_um_per_s2": (1e6, 1e6, 1e6),
    "take_up_um": (3.0, 3.0, 3.0),
    "settle_s": 0.01,
    "stop_latency_s": 0.2,
    "deadlines": {
        "reply_s": 0.2,
        "motion_factor": 1.5,
        "motion_extra_s": 0.3,
        "boot_s": 3.0,
    },
}
ENVELOPE = (60.0, 60.0, 20.0)
SIDES = ("below", "above")


def serve(kind: FirmwareKind) -> PtyServer:
    facts = AxesFacts(
        step_um=(0.022, 0.022, 0.0055) if kind == "asi" else (0.1, 0.1, 0.1),
        speed_um_per_s=PACE["speed_um_per_s"],
        acceleration_um_per_s2=PACE["acceleration_um_per_s2"],
        is_closed_loop=kind == "asi",
    )
    board = make_firmware(kind, facts, now_s=RealClock().monotonic_s(), seed=3)
    board.resets_on_open = False
    return PtyServer(board)


def check(
    kind: FirmwareKind, server: PtyServer, folder: Path, *arguments: object
) -> Outcome:
    path = write_instrument(folder / "scanner.yaml")
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    stage = stage_config(kind, port=server.port, step_um=(0.1, 0.1, 0.1), **PACE)
    document["clock"] = "real"
    document["stage"] = stage.model_dump(mode="json")
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    arguments = (*arguments, "--json", "--stage-only", "--envelope", *ENVELOPE)
    return run_cli("hal-check", path, *arguments)


# What real time can tell that virtual time cannot, and quickly; GRBL is asked all.
QUICK = ("target-reached", "limits-raise", "stop-in-motion", "error-reply-raises")


@pytest.mark.parametrize(
    ("kind", "names"),
    [("grbl", ()), ("sangaboard", QUICK), ("marlin", QUICK), ("asi", QUICK)],
)
def test_every_board_passes_on_a_terminal(
    kind: FirmwareKind, names: tuple[str, ...], tmp_path: Path
) -> None:
    chosen = [word for name in names for word in ("--only", name)]
    with serve(kind) as server:
        outcome = check(kind, server, tmp_path, *chosen, "--record", tmp_path / "wire")
    document = outcome.document
    checks = {one["name"]: one for one in document["checks"]}
    assert document["failed"] == [], [checks[name] for name in document["failed"]]
    assert outcome.code == 0
    asked = set(names or ("lost-reply-moves-once", "silence-ends", "unplugging"))
    assert asked <= set(checks)
    assert checks["error-reply-raises"]["outcome"] == "pass"
    assert (tmp_path / "wire" / "open-01" / "journal.jsonl").exists()


@pytest.mark.skipif(
    ctypes.util.find_library("aravis-0.8") is None,
    reason="needs libaravis: apt install libaravis-0.8-0",
)
@pytest.mark.usefixtures("gige_port")
def test_a_board_on_a_terminal_and_a_gige_camera_pass_together(tmp_path: Path) -> None:
    """Both real protocols; the picture must tell the play that the glass has."""
    slide = {"x_um": -60.0, "y_um": -60.0, "focus_um": 3.0}
    path = write_instrument(tmp_path / "scanner.yaml", virtual_slide=slide)
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    mechanics = {"repeatability_um": (0.3, 0.3, 0.0)}
    firmware = {"link": "pty", "mechanics": mechanics}
    stage = stage_config("grbl", step_um=(0.1, 0.1, 0.1), virtual_firmware=firmware)
    document["clock"] = "real"
    document["stage"] = stage.model_dump(mode="json")
    document["camera"] = {
        **{"kind": "aravis", "address": "virtual", "frame_rate_hz": 30.0},
        **{"width_px": 256, "height_px": 256},
    }
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    names = ("repeatability", "frame-is-fresh", "exposure-is-kept", "frame-wait-ends")
    chosen = [word for name in names for word in ("--only", name)]
    outcome = run_cli("hal-check", path, "--json", "--envelope", *ENVELOPE, *chosen)
    assert outcome.code == 0, (outcome.out, outcome.err)
    checks = {check["name"]: check for check in outcome.document["checks"]}
    figures = checks["repeatability"]["figures"]
    spread = [figures[f"sd_{side}_{axis}_um"] for side in SIDES for axis in "xy"]
    # Four estimates of 0.3 um from five visits each: the chi-squared law gives 99.9 %
    # of their mean square (16 degrees) between 0.22 and 2.58 of the true one.
    mean_square = float(np.mean(np.square(spread)))
    assert 0.22 * 0.3**2 < mean_square < 2.58 * 0.3**2
    assert checks["frame-is-fresh"]["figures"]["stale_share"] < 0.25
