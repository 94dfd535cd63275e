"""The published `camera-stage-mapping` beside step `xy`, on one virtual instrument.

Its "backlash" is half the reversal value, in motor steps, from a list of values that
grows by a third each time: 71.0, 94.7, 126.3.
"""

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bifocus.calib.step_result import Bench
from bifocus.calib.xy_step import measure_xy
from bifocus.records import StagePosition
from tests.calib.small_bench import PLACE_UM, focus_from_truth, open_bench, small_config
from tests.peers.conftest import peer_python

pytestmark = pytest.mark.slow

CLIENT = Path(__file__).parent / "clients" / "drive_camera_stage_mapping.py"
STEP_UM = 0.1
HALF_GAP_STEPS = 100
KEYS = ("x_um", "y_um", "z_um")


@pytest.fixture(scope="session")
def mapping_python() -> Path:
    requirements = ("camera-stage-mapping==0.1.10", "numpy<3")
    return peer_python("camera-stage-mapping", requirements)


def serve(bench: Bench, z_um: float, python: Path) -> dict[str, float]:
    """Let the client move the stage and look, until it has found something."""
    stage: Any = bench.stage
    origin = np.array([*PLACE_UM, z_um])
    receipt = stage.move_to(StagePosition(**dict(zip(KEYS, origin, strict=True))))
    with subprocess.Popen(
        [str(python), str(CLIENT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        try:
            for line in client.stdout:
                request = json.loads(line)
                answer: dict[str, Any] = {}
                if request["do"] == "end":
                    return dict(request["found"])
                if request["do"] == "move":
                    place = origin + STEP_UM * np.array(request["steps"])
                    target = StagePosition(**dict(zip(KEYS, place, strict=True)))
                    receipt = stage.move_direct(target)
                elif request["do"] == "grab":
                    pixels = bench.camera.grab(after=receipt).pixels
                    encoded = base64.b64encode(pixels.tobytes()).decode("ascii")
                    answer = {"pixels": encoded, "shape": pixels.shape}
                else:
                    here = stage.position()
                    told = np.array([here.x_um, here.y_um, here.z_um]) - origin
                    answer = {"steps": np.round(told / STEP_UM).tolist()}
                client.stdin.write(json.dumps(answer) + "\n")
                client.stdin.flush()
        finally:
            client.kill()
    pytest.fail("the client ended without a result")


def test_backlash_of_100_steps_beside_the_published_program(
    mapping_python: Path,
) -> None:
    gap_um = 2 * HALF_GAP_STEPS * STEP_UM
    config = small_config(
        side_px=256,
        stage={
            "step_um": (STEP_UM, STEP_UM, 0.05),
            "take_up_um": (0.0, 0.0, 4.0),
            "mechanics": {"backlash_um": (gap_um, 0.0, 0.0)},
        },
        virtual_slide={"beyond": "mirror"},
    )
    with open_bench(config) as (bench, instrument):
        before = focus_from_truth(instrument)
        z_um = before["focus"].values["focus_um"].value
        theirs = serve(bench, z_um, mapping_python)
    with open_bench(config) as (bench, instrument):
        result = measure_xy(bench, focus_from_truth(instrument))
    ours = result.values["backlash_x_um"].value / 2 / STEP_UM
    scale = 0.25 / STEP_UM * abs(theirs["pixels_per_step"])
    print(  # noqa: T201 - the table is what the test is for
        f"half-gap of {HALF_GAP_STEPS} steps: camera-stage-mapping "
        f"{theirs['backlash']:.1f} steps, scale {scale:.4f}; bifocus {ours:.2f} "
        f"steps (u {result.values['backlash_x_um'].standard_uncertainty / 0.2:.2f}), "
        f"scale {result.values['scale_x'].value:.4f}"
    )
    assert theirs["backlash"] == pytest.approx(94.7, abs=0.1)
    assert ours == pytest.approx(HALF_GAP_STEPS, rel=0.01)
    assert abs(result.values["scale_x"].value - 1) < abs(scale - 1)
