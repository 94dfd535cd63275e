"""Drives the controller on a port with the published `asitiger`; prints JSON."""

import json
import sys

from asitiger.tigercontroller import TigerController

tiger = TigerController.from_serial_port(sys.argv[1])
labels = [axis.label for axis in tiger.axes()]
tiger.move({"X": 11000, "Z": -1100})
was_busy = tiger.is_busy()
tiger.wait_until_idle()
tiger.move_relative({"Y": 2200})
tiger.wait_until_idle()
statuses = [str(status.enabled.name) for status in tiger.rdstat(["X", "Y", "Z"])]
found = {
    "axes": labels,
    "was_busy": was_busy,
    "where": tiger.where(["X", "Y", "Z"]),
    "enabled": statuses,
    "speed": tiger.speed({"X": "?"}),
}
tiger.connection.disconnect()
sys.stdout.write(json.dumps(found))
