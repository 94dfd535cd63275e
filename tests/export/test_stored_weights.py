"""Weights in half the bytes: the very same values, wherever the file is read."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

pytest.importorskip("torch", reason="torch makes the graphs")

from bifocus.export.export_graph import GraphRequest, MadeGraph, make_graph
from bifocus.export.onnx_probe import levels_tensor, watch_tensors
from bifocus.export.openvino_ir import convert_to_ir
from bifocus.export.parity import Pictures
from bifocus.export.parity_pictures import coloured_noise
from bifocus.export.runtimes import has_openvino, onnx_engine, openvino_engine
from bifocus.export.stored_weights import LEAST_BYTES, store_half, widen_weights
from tests.export.small_networks import awake_network, silence_torch

INPUTS = ("minus", "plus", "physics", "remainder")


@pytest.fixture(scope="module")
def made() -> MadeGraph:
    """Return the graph of a network whose weights have been float16 once."""
    silence_torch()
    network = awake_network("base", widths=(32, 64)).half().float()
    request = GraphRequest(
        name="base", precision="fp32", size_px=None, runtime="onnxruntime"
    )
    return make_graph(network, request, facts={})


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return coloured_noise(INPUTS, (52, 76), 1)


def sums(**weights: npt.NDArray[Any]) -> onnx.ModelProto:
    """Return a graph that adds each of the weights to its one input."""
    shape = next(iter(weights.values())).shape
    value = helper.make_tensor_value_info
    ends = [*(f"sum {name}" for name in weights)]
    nodes = [
        helper.make_node("Add", [before, name], [after])
        for before, name, after in zip(["x", *ends], weights, ends, strict=False)
    ]
    graph = helper.make_graph(
        nodes,
        "sums",
        [value("x", TensorProto.FLOAT, shape)],
        [value(ends[-1], TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def kinds(model: onnx.ModelProto) -> dict[str, str]:
    return {
        one.name: str(helper.tensor_dtype_to_np_dtype(one.data_type))
        for one in model.graph.initializer
    }


def test_a_weight_is_halved_only_where_each_value_comes_back() -> None:
    n = LEAST_BYTES // 4
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)].astype(np.float32)
    whole = np.resize(finite, 64 * n)  # all values of float16: zeros, subnormals, signs
    off, large, nothing = whole.copy(), whole.copy(), whole.copy()
    off[77] = np.nextafter(off[77], np.float32(np.inf))
    large[0], nothing[0] = 65520, 1e-9  # they would become infinity and zero
    model = sums(whole=whole, off=off, large=large, nothing=nothing)
    stored = store_half(model)
    onnx.checker.check_model(stored, full_check=True)
    assert kinds(stored) == {
        "whole/half": "float16",
        "off": "float32",
        "large": "float32",
        "nothing": "float32",
    }
    casts = [node for node in stored.graph.node if node.op_type == "Cast"]
    assert [(node.input[0], node.output[0]) for node in casts] == [
        ("whole/half", "whole")
    ]
    # Both directions leave their argument alone, and lose no bit.
    assert kinds(model)["whole"] == "float32"
    assert widen_weights(stored) == model
    assert widen_weights(model) == model
    feeds: dict[str, Any] = {"x": np.zeros(whole.shape, np.float32)}
    (read,) = watch_tensors(stored, ["whole"], [feeds])
    np.testing.assert_array_equal(read["whole"].view("u4"), whole.view("u4"))


def test_small_weights_and_those_of_other_types_stay() -> None:
    n = LEAST_BYTES // 4
    small = sums(bias=np.ones(n - 1, np.float32))
    assert store_half(small) == small
    assert kinds(store_half(sums(weight=np.ones(n, np.float32)))) == {
        "weight/half": "float16"
    }
    half = np.ones(2 * n, np.float16)
    other = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Cast", ["own"], ["wide"], to=TensorProto.FLOAT),
                helper.make_node("Add", ["x", "wide"], ["y"]),
            ],
            "own",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, half.shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, half.shape)],
            [numpy_helper.from_array(half, "own")],
        )
    )
    # A cast that the network made itself is none of ours, in either direction.
    assert store_half(other) == other
    assert widen_weights(other) == other


def test_a_graph_of_half_the_bytes_computes_the_same_bits(
    made: MadeGraph, pictures: Pictures
) -> None:
    wide = made.model
    assert made.audit == {"Conv float32": 10}
    assert set(kinds(wide).values()) <= {"float32", "int64"}
    assert 0.4 < len(made.content) / wide.ByteSize() < 0.6
    name = levels_tensor(wide)
    stored = onnx.load_model_from_string(made.content)
    (before,), (after,) = (
        list(watch_tensors(model, [name, "fused"], [pictures]))
        for model in (wide, stored)
    )
    # The levels are float32, before anything is rounded to bytes.
    assert before[name].dtype == np.float32
    np.testing.assert_array_equal(before[name].view("u4"), after[name].view("u4"))
    np.testing.assert_array_equal(before["fused"], after["fused"])


def test_onnx_runtime_folds_the_casts_when_it_loads(
    made: MadeGraph, tmp_path: Path
) -> None:
    optimised = []
    for content in (made.model.SerializeToString(), made.content):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # it warns that the file fits this machine alone
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )
        optimised.append(onnx.load(str(tmp_path / "optimised.onnx")))
    wide, stored = optimised
    assert [node.op_type for node in stored.graph.node] == [
        node.op_type for node in wide.graph.node
    ]
    assert sorted(kinds(stored).values()) == sorted(kinds(wide).values())
    assert "float16" not in kinds(stored).values()


def test_openvino_reads_the_same_weights_in_both_formats(
    made: MadeGraph, pictures: Pictures
) -> None:
    if not has_openvino():  # importing it here would start its telemetry
        pytest.skip("openvino is the runtime under test")
    wide = made.model.SerializeToString()
    expected = openvino_engine(wide, b"")(pictures)
    np.testing.assert_array_equal(
        openvino_engine(made.content, b"")(pictures), expected
    )
    xml, weights = convert_to_ir(made.content)
    np.testing.assert_array_equal(openvino_engine(xml, weights)(pictures), expected)
    assert len(weights) < 0.6 * len(convert_to_ir(wide)[1])


@pytest.mark.slow
def test_weights_that_were_never_half_stay_float32(pictures: Pictures) -> None:
    silence_torch()
    network = awake_network("base", widths=(32, 64))
    request = GraphRequest(
        name="base", precision="fp32", size_px=(52, 76), runtime="onnxruntime"
    )
    made = make_graph(network, request, facts={})
    stored = onnx.load_model_from_string(made.content)
    assert "float16" not in kinds(stored).values()
    assert stored == made.model
    assert onnx_engine(made.content)(pictures).shape == (1, 52, 76, 3)
