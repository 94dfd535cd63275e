"""Drives the controller on a port with the published `tigerasi`; prints JSON."""

import json
import sys
import time

from tigerasi.tiger_controller import TigerController

box = TigerController(sys.argv[1])
box.move_absolute(x=11000, z=-1100)
while box.is_axis_moving("x"):
    time.sleep(0.02)
box.move_relative(x=70000)
halted = "nothing raised"
try:
    box.halt()
except SyntaxError as error:
    halted = str(error)
stopped = box.get_position("x")
found = {
    "axes": box.ordered_axes,
    "where": box.get_position(),
    "stopped": stopped,
    "halted": halted,
    "backlash": box.get_axis_backlash("x"),
    "upper": box.get_upper_travel_limit("x"),
}
box.ser.close()
sys.stdout.write(json.dumps(found))
