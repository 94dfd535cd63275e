"""Drives the board on a port with the published `sangaboard` client; prints JSON."""

import json
import sys

from sangaboard import Sangaboard

board = Sangaboard(sys.argv[1])
start = list(board.position)
board.move_rel([100, -50, 30])
board.move_rel(20, axis="z")
board.move_abs([10, 20, 30])
found = {
    "firmware": board.firmware,
    "board": board.board,
    "start": start,
    "position": list(board.position),
    "step_time": board.step_time,
}
board.close()
sys.stdout.write(json.dumps(found))
