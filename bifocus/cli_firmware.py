"""The command that runs virtual firmware on a pseudo-terminal."""

import json
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from bifocus.cli_output import out_console
from bifocus.clock import RealClock
from bifocus.errors import ConfigError
from bifocus.hal.fault_plan import FaultPlan, load_fault_plan
from bifocus.hal.faulty_firmware import FaultyFirmware
from bifocus.hal.firmware_kinds import KINDS, FirmwareKind, make_firmware
from bifocus.hal.pty_server import PtyServer

firmware = typer.Typer()


@firmware.command(
    "firmware", epilog="Example: `bifocus firmware grbl --link /tmp/stage`"
)
def serve_firmware(
    kind: Annotated[
        FirmwareKind, typer.Argument(metavar="KIND", help=f"One of {', '.join(KINDS)}.")
    ],
    link: Annotated[
        Path | None, typer.Option(help="Symbolic link to the terminal, to be made.")
    ] = None,
    faults: Annotated[
        Path | None, typer.Option(help="Fault plan (YAML) that the board suffers.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws whatever is random.")] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the port as one JSON line.")
    ] = False,
) -> None:
    """Run a virtual board for any program that opens a serial port, until Ctrl-C."""
    plan = load_fault_plan(faults) if faults else FaultPlan()
    if plan.camera_faults():
        names = ", ".join(sorted({fault.fault for fault in plan.camera_faults()}))
        msg = f"{faults}: a board has no camera; take out {names}"
        raise ConfigError(msg)
    board = make_firmware(kind, now_s=RealClock().monotonic_s(), seed=seed)
    board_with_faults = FaultyFirmware(board, plan, seed=seed)
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    signal.signal(signal.SIGINT, lambda *_: stopped.set())
    with PtyServer(board_with_faults, link=link) as server:
        if as_json:
            sys.stdout.write(json.dumps({"kind": kind, "port": server.port}) + "\n")
            sys.stdout.flush()
        else:
            out_console.print(
                f"virtual {kind} board on {server.port} (SIMULATED); Ctrl-C ends it",
                highlight=False,
                soft_wrap=True,
            )
        stopped.wait()
