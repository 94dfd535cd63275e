"""INT8: forms that runtimes fuse, a budget that holds, scales by their definition."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import numpy_helper

from bifocus.errors import ConfigError, EngineError
from bifocus.export.graph_audit import audit_graph
from bifocus.export.onnx_probe import levels_tensor, watch_tensors
from bifocus.export.parity import Pictures
from bifocus.export.pixel_graph import trace_pictures
from bifocus.export.pixel_network import PixelNetwork, picture_inputs
from bifocus.export.quantise import FORMS, Int8Plan, Runtime, plan_int8, quantise
from tests.export.small_networks import awake_network, silence_torch

SIZE_PX = (32, 48)


@pytest.fixture(scope="module")
def graph() -> onnx.ModelProto:
    silence_torch()
    network = awake_network("base")
    return trace_pictures(
        PixelNetwork(network), picture_inputs(network), size_px=SIZE_PX
    )


@pytest.fixture(scope="module")
def pictures() -> list[Pictures]:
    rng = np.random.default_rng(0)
    return [
        {
            name: rng.integers(60, 220, (1, *SIZE_PX, 3), dtype=np.uint8)
            for name in ("minus", "plus", "physics", "remainder")
        }
        for _ in range(4)
    ]


def levels(
    model: onnx.ModelProto, pictures: Sequence[Pictures]
) -> npt.NDArray[np.float32]:
    name = levels_tensor(model)
    return np.stack([one[name] for one in watch_tensors(model, [name], pictures)])


def mean_square(
    model: onnx.ModelProto, other: onnx.ModelProto, pictures: list[Pictures]
) -> float:
    values = (np.clip(levels(one, pictures), 0, 255) for one in (model, other))
    return float(np.square(np.subtract(*values)).mean())


@pytest.mark.parametrize("runtime", FORMS)
def test_the_plan_keeps_its_budget_together_and_alone(
    runtime: Runtime, graph: onnx.ModelProto, pictures: list[Pictures]
) -> None:
    free = plan_int8(graph, pictures, runtime, budget=1e9)
    assert len(free.chosen) == 8  # all but stem and head
    budget = sum(free.noise.values()) / 3
    plan = plan_int8(graph, pictures, runtime, budget=budget)
    assert set() < plan.chosen < free.chosen
    together = mean_square(quantise(graph, plan, runtime), graph, pictures)
    # Errors of single convolutions add up, as they are hardly correlated.
    assert together <= 1.5 * budget
    assert together < mean_square(quantise(graph, free, runtime), graph, pictures)


@pytest.mark.parametrize("runtime", FORMS)
def test_each_runtime_gets_its_form(
    runtime: Runtime, graph: onnx.ModelProto, pictures: list[Pictures]
) -> None:
    plan = plan_int8(graph, pictures, runtime, budget=1e9)
    model = quantise(graph, plan, runtime)
    onnx.checker.check_model(model)
    assert audit_graph(model, "int8", "base") == {"Conv float32": 2, "Conv int8": 8}
    stored = {one.name: one for one in model.graph.initializer}
    nodes = {node.output[0]: node for node in model.graph.node}
    zeros, biases, into_sums = set(), set(), set()
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            zero = numpy_helper.to_array(stored[node.input[2]])
            zeros.add((str(zero.dtype), bool((zero == 0).all())))
        weights = nodes.get(node.input[1]) if node.op_type == "Conv" else None
        if weights is not None:
            dequantised = nodes.get(node.input[2])
            biases.add(dequantised is not None)
            users = [one for one in model.graph.node if node.output[0] in one.input]
            into_sums.add(any(one.op_type == "Add" for one in users))
    # Sums of the residual blocks take float32, but where ONNX Runtime needs outputs
    # quantised to compute in 8 bits at all.
    assert (True in into_sums) == (runtime != "onnxruntime")
    if runtime == "tensorrt":  # its parser takes nothing else
        assert (zeros, biases) == ({("int8", True)}, {False})
    else:
        assert ({kind for kind, _ in zeros}, biases) == ({"uint8"}, {True})


def test_weights_are_rounded_to_a_127th_of_each_channels_largest(
    graph: onnx.ModelProto, pictures: list[Pictures]
) -> None:
    plan = plan_int8(graph, pictures, "tensorrt", budget=1e9)
    model = quantise(graph, plan, "tensorrt")
    before = {one.name: numpy_helper.to_array(one) for one in graph.graph.initializer}
    after = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    name = next(iter(plan.chosen)).split("#")[0]
    weights = before[name]
    scale = np.abs(weights).max(axis=(1, 2, 3), keepdims=True) / 127
    stored = after[f"{name}_quantized"]
    assert stored.dtype == np.int8
    np.testing.assert_allclose(stored, weights / scale, atol=0.501)


def test_half_precision_around_int8(
    graph: onnx.ModelProto, pictures: list[Pictures]
) -> None:
    # The plan is made in float32 at one size and fits a half graph of another.
    plan = plan_int8(graph, pictures, "tensorrt", budget=1e9)
    network = awake_network("base")
    half = trace_pictures(
        PixelNetwork(network, is_half=True),
        picture_inputs(network),
        size_px=(40, 40),
        opset=20,
    )
    model = quantise(half, plan, "tensorrt")
    assert audit_graph(model, "int8", "base") == {"Conv float16": 2, "Conv int8": 8}
    cut = [
        {k: v[:, :, :40].repeat(2, 1)[:, :40] for k, v in p.items()} for p in pictures
    ]
    assert np.isfinite(levels(model, cut)).all()


def test_shared_weights_are_quantised_in_one_path_and_kept_in_the_other() -> None:
    network = awake_network("tsva")
    model = trace_pictures(
        PixelNetwork(network), picture_inputs(network), size_px=(32, 32)
    )
    rng = np.random.default_rng(0)
    pictures = [
        {
            name: rng.integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
            for name in network.inputs
        }
    ]
    every = plan_int8(model, pictures, "openvino", budget=1e9)
    shared = next(name for name in every.chosen if name.startswith("network.contract"))
    mixed = quantise(model, every, "openvino", only=frozenset((shared,)))
    found = audit_graph(mixed, "int8", "tsva")
    assert found["Conv int8"] in (1, 2)  # one path, or both
    assert np.isfinite(levels(mixed, pictures)).all()


def test_no_pictures_or_no_room_is_refused(
    graph: onnx.ModelProto, pictures: list[Pictures]
) -> None:
    with pytest.raises(ConfigError, match="needs pictures to calibrate with"):
        plan_int8(graph, [], "openvino")
    with pytest.raises(EngineError, match=r"no convolution stays within 0 squared"):
        plan_int8(graph, pictures, "openvino", budget=0)


def test_nan_in_calibration_is_refused(
    graph: onnx.ModelProto, pictures: list[Pictures]
) -> None:
    broken = onnx.ModelProto()
    broken.CopyFrom(graph)
    weight = next(one for one in broken.graph.initializer if len(one.dims) == 4)
    values = np.full_like(numpy_helper.to_array(weight), np.nan)
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    with pytest.raises(EngineError, match="NaN or infinity"):
        plan_int8(broken, pictures, "openvino")


def test_a_plan_says_what_it_measured(
    graph: onnx.ModelProto, pictures: list[Pictures]
) -> None:
    plan = plan_int8(graph, pictures, "openvino")
    assert isinstance(plan, Int8Plan)
    first = next(node for node in graph.graph.node if node.op_type == "Conv")
    (values,) = watch_tensors(graph, [first.input[0]], pictures[:1])
    low, high = plan.inputs[f"{first.input[1]}#0"]
    assert low <= values[first.input[0]].min()
    assert high >= values[first.input[0]].max()
