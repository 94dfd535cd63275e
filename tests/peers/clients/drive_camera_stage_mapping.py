"""Calibrates one axis with the published `camera-stage-mapping`; prints JSON.

Asks for moves and pictures on stdout, one JSON line each, and reads answers on stdin.
"""

import base64
import json
import sys
from typing import Any

import numpy as np
from camera_stage_mapping.camera_stage_calibration_1d import calibrate_backlash_1d
from camera_stage_mapping.camera_stage_tracker import Tracker


def ask(**request: Any) -> dict[str, Any]:
    sys.stdout.write(json.dumps(request) + "\n")
    sys.stdout.flush()
    answer = json.loads(sys.stdin.readline())
    assert isinstance(answer, dict)
    return answer


def grab() -> Any:
    answer = ask(do="grab")
    pixels = np.frombuffer(base64.b64decode(answer["pixels"]), np.uint8)
    return pixels.reshape(answer["shape"])


def position() -> Any:
    return np.array(ask(do="where")["steps"], dtype=float)


def move(target: Any) -> None:
    ask(do="move", steps=[round(float(value)) for value in target])


found = calibrate_backlash_1d(Tracker(grab, position), move, np.array([1, 0, 0]))
result = {
    "backlash": float(found["backlash"]),
    "pixels_per_step": float(found["pixels_per_step"]),
    "fractional_error": float(found["fractional_error"]),
}
sys.stdout.write(json.dumps({"do": "end", "found": result}) + "\n")
