"""Drives the board on a port with the published `grbl-streamer`; prints JSON."""

import json
import sys
import threading
import time
from typing import Any

from grbl_streamer import GrblStreamer

LIMIT_S = 20.0
booting = threading.Event()
answered = threading.Event()
seen: dict[str, list[Any]] = {"errors": [], "states": [], "settings": []}


def note(name: str, *data: Any) -> None:
    if name == "on_error":
        seen["errors"].append(str(data[0]))
    elif name == "on_stateupdate":
        seen["states"].append([data[0], list(data[1])])
    elif name == "on_read" and data[0].startswith("$"):
        seen["settings"].append(data[0])
    elif name == "on_read" and data[0].startswith("[GC:"):
        answered.set()
    elif name == "on_boot":
        booting.set()


def wait_for_place(x_mm: float) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline_s:
        if seen["states"] and seen["states"][-1][0] == "Idle":
            if abs(seen["states"][-1][1][0] - x_mm) < 0.0015:
                return
        time.sleep(0.02)


grbl = GrblStreamer(note)
grbl.setup_logging()
grbl.poll_interval = 0.1
grbl.cnect(sys.argv[1], 115200)
booted = booting.wait(LIMIT_S)
# After a reset it asks by itself for $$, $# and, last of all, $G; a board that moves
# answers the first two with error 8.
grbl.poll_start()
was_answered = answered.wait(LIMIT_S)
grbl.killalarm()
grbl.request_settings()
grbl.send_immediately("G91 G21")
grbl.send_immediately("G1 X-2 F150")
wait_for_place(-2.0)
grbl.send_immediately("$J=G91 X-1.5 F150")
wait_for_place(-3.5)
found = dict(seen, booted=booted, was_answered=was_answered, last=seen["states"][-1])
grbl.poll_stop()
grbl.disconnect()
sys.stdout.write("\n" + json.dumps(found))
