"""Stacks: ascending planes, upward moves only, and nothing beyond the travel."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bifocus.calib.zstack import plan_planes, take_stack
from bifocus.errors import OutOfTravelError
from tests.scanner import CENTRE_UM, RecordingStage, open_scanner, scanner_config


@given(
    low_um=st.floats(-100, 100),
    span_um=st.floats(0, 50),
    step_um=st.floats(0.05, 5),
)
def test_planes_reach_from_end_to_end(
    low_um: float, span_um: float, step_um: float
) -> None:
    planes = plan_planes(low_um, low_um + span_um, step_um)
    assert planes[0] == low_um
    assert low_um + span_um - 1e-6 <= planes[-1] < low_um + span_um + step_um
    assert np.diff(planes) == pytest.approx(step_um)


def test_the_planes_are_visited_upward_and_none_twice() -> None:
    with open_scanner(scanner_config()) as instrument:
        stage = RecordingStage(instrument.stage)
        planes = plan_planes(148.0, 152.0, 0.5)
        stack = take_stack(stage, instrument.camera, *CENTRE_UM, planes)
    assert [target.z_um for target in stage.targets] == planes.tolist()
    assert {(t.x_um, t.y_um) for t in stage.targets} == {CENTRE_UM}
    assert stack.sharpness.shape == planes.shape
    assert stack.texture > 10
    assert len(stack.digest) == 64


def test_the_digest_is_that_of_the_pixels() -> None:
    digests = []
    for seed in (1, 1, 2):
        with open_scanner(scanner_config(seed=seed)) as instrument:
            planes = plan_planes(149.0, 151.0, 0.5)
            stack = take_stack(instrument.stage, instrument.camera, *CENTRE_UM, planes)
            digests.append(stack.digest)
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("x_um", "top_um", "axis"), [(-5.0, 151.0, "x"), (500.0, 301.0, "z")]
)
def test_a_stack_beyond_the_travel_moves_nothing(
    x_um: float, top_um: float, axis: str
) -> None:
    with open_scanner(scanner_config()) as instrument:
        stage = RecordingStage(instrument.stage)
        planes = plan_planes(top_um - 4, top_um, 0.5)
        with pytest.raises(OutOfTravelError, match=f"needs {axis} = "):
            take_stack(stage, instrument.camera, x_um, 400.0, planes)
    assert stage.targets == []
