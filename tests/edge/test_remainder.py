"""What rounding took from the physics image reaches a network, in every runtime."""

import importlib.util
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="makes the graphs; in the test group")
pytest.importorskip("onnxruntime", reason="the engine under test")

from onnx import TensorProto, helper, numpy_helper

from bifocus.edge.network_fuser import NetworkFuser
from bifocus.edge.network_inputs import PICTURES, pair_pictures
from bifocus.edge.onnx_fuser import OnnxEngine
from bifocus.edge.openvino_fuser import OpenvinoEngine
from bifocus.engine_manifest import TensorSpec
from bifocus.physics_fusion import fuse_measured
from bifocus.records import UInt8Image
from tests.edge.network_files import measured_pair, write_network

NAMES = ("physics", "remainder")


def make_graph(correction: float) -> bytes:
    """Return physics + (remainder - 128) / 256 + a correction in levels, rounded."""
    constants = {
        "zero": np.float32(128),
        "step": np.float32(1 / 256),
        "offset": np.float32(correction + 0.5),
        "low": np.float32(0),
        "high": np.float32(255),
    }
    add: Any = helper.make_node
    nodes = [
        *(add("Cast", [name], [f"{name}_f"], to=TensorProto.FLOAT) for name in NAMES),
        add("Sub", ["remainder_f", "zero"], ["a"]),
        add("Mul", ["a", "step"], ["part"]),
        add("Add", ["physics_f", "part"], ["levels"]),
        add("Add", ["levels", "offset"], ["b"]),
        add("Clip", ["b", "low", "high"], ["c"]),
        add("Cast", ["c"], ["fused"], to=TensorProto.UINT8),
    ]
    shape: list[str | int | None] = ["N", "H", "W", 3]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.UINT8, shape)
        for name in (*NAMES, "fused")
    ]
    weights = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    graph = helper.make_graph(nodes, "joined", ends[:2], ends[2:], weights)
    opsets = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    return bytes(model.SerializeToString())


def fuse(folder: Path, runtime: str, correction: float) -> UInt8Image:
    if runtime == "openvino" and importlib.util.find_spec("openvino") is None:
        pytest.skip("openvino is the engine under test")
    engine = OnnxEngine if runtime == "onnxruntime" else OpenvinoEngine
    inputs = tuple(TensorSpec(name=n, dtype="uint8", layout="NHWC") for n in NAMES)
    path = write_network(folder, content=make_graph(correction), inputs=inputs)
    # Windows that end inside the picture: both pictures are cut and padded alike.
    with closing(NetworkFuser(engine(path), most_window_px=9_000)) as fuser:
        return fuser.fuse(measured_pair(131)).pixels


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_fraction_of_a_level_counts(tmp_path: Path, runtime: str) -> None:
    measured = measured_pair(131)
    physics = fuse_measured(measured, colours="together")
    pixels = physics.pixels.astype(int)
    exact = 255 * np.clip(physics.linear.astype(np.float64), 0, 1)
    # Exactly half a level below stands for that and a little more.
    same = fuse(tmp_path, runtime, 0.0)
    np.testing.assert_array_equal(same, pixels)
    found = fuse(tmp_path, runtime, 0.4)
    sure = np.abs(exact + 0.4 - np.floor(exact + 0.4) - 0.5) > 1 / 128
    expected = np.clip(np.floor(exact + 0.9), 0, 255)
    np.testing.assert_array_equal(found[sure], expected[sure])
    # 0.4 of a level more lifts four values of ten. Of whole levels, it lifts none.
    inside = (pixels > 0) & (pixels < 255)
    lifted = (found.astype(int) - pixels)[inside]
    assert set(np.unique(lifted)) == {0, 1}
    assert lifted.mean() == pytest.approx(0.4, abs=0.02)


def test_only_what_is_named_is_made() -> None:
    measured = measured_pair(131)
    physics = fuse_measured(measured, colours="together")
    assert tuple(pair_pictures(measured, physics, PICTURES)) == PICTURES
    assert tuple(pair_pictures(measured, physics, ("minus",))) == ("minus",)
    part = pair_pictures(measured, physics, ("remainder", "plus"))["remainder"]
    np.testing.assert_array_equal(part, physics.remainder())
