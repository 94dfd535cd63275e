"""Traced graphs: their sizes, types and opsets, and what they say of themselves."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from bifocus.errors import ConfigError, EngineError
from bifocus.export import pixel_graph
from bifocus.export.graph_audit import audit_graph, read_graph
from bifocus.export.onnx_probe import count_not_finite
from bifocus.export.pixel_graph import describe_graph, trace_pictures
from bifocus.export.pixel_network import PixelNetwork, picture_inputs
from bifocus.export.runtimes import onnx_engine, torch_engine
from tests.export.small_networks import NARROW, awake_network, silence_torch

FACTS = {"network": "base", "halo_px": "72"}


@pytest.fixture(autouse=True)
def _one_quiet_thread() -> None:
    silence_torch()


@pytest.fixture(scope="module")
def base_content() -> bytes:
    silence_torch()
    network = awake_network("base")
    model = trace_pictures(PixelNetwork(network), picture_inputs(network))
    return describe_graph(model, FACTS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["base", "tsva", "burst-unet"])
def test_each_family_gives_torchs_bytes_at_any_size(
    name: str, base_content: bytes
) -> None:
    network = awake_network(name)
    content = base_content
    if name != "base":
        model = trace_pictures(PixelNetwork(network), picture_inputs(network))
        content = describe_graph(model, FACTS)
    model = read_graph(content, name)
    assert {node.op_type for node in model.graph.node}.isdisjoint(
        {"BatchNormalization", "If", "Loop"}
    )
    engine, reference = onnx_engine(content), torch_engine(network)
    rng = np.random.default_rng(0)
    for shape in ((1, 32, 33, 3), (2, 75, 51, 3)):
        pictures = {
            key: rng.integers(0, 256, shape, dtype=np.uint8)
            for key in picture_inputs(network)
        }
        error = np.abs(engine(pictures).astype(int) - reference(pictures))
        assert error.max() <= 1
        assert (error > 0).mean() < 1e-3


def test_names_types_and_facts(base_content: bytes) -> None:
    model = read_graph(base_content, "base")
    names = [one.name for one in (*model.graph.input, *model.graph.output)]
    assert names == ["minus", "plus", "physics", "remainder", "fused"]
    for one in (*model.graph.input, *model.graph.output):
        tensor = one.type.tensor_type
        assert tensor.elem_type == onnx.TensorProto.UINT8
        sizes = [size.dim_param or size.dim_value for size in tensor.shape.dim]
        assert sizes == ["batch", "height", "width", 3]
    assert {one.key: one.value for one in model.metadata_props} == FACTS
    assert audit_graph(model, "fp32", "base") == {"Conv float32": 10}


def test_the_file_holds_no_path_of_this_machine(base_content: bytes) -> None:
    for root in (Path(pixel_graph.__file__).parents[1], Path(onnx.__file__).parents[1]):
        assert str(root).encode() not in base_content
    assert b".py" not in base_content


def test_a_fixed_size_needs_no_padding_and_takes_no_other() -> None:
    network = awake_network("base")
    module = PixelNetwork(network, is_half=True)
    model = trace_pictures(module, module.inputs, size_px=(48, 64), opset=20)
    kinds = [node.op_type for node in model.graph.node]
    assert "Pad" not in kinds
    assert "Slice" not in kinds
    assert [one.version for one in model.opset_import] == [20]
    assert audit_graph(model, "fp16", "base") == {"Conv float16": 10}
    engine = onnx_engine(describe_graph(model, FACTS))
    good, bad = (np.zeros((1, 48, width, 3), np.uint8) for width in (64, 72))
    assert engine(dict.fromkeys(module.inputs, good)).shape == (1, 48, 64, 3)
    with pytest.raises(EngineError, match="failed"):
        engine(dict.fromkeys(module.inputs, bad))
    with pytest.raises(EngineError, match="asks for 'plus'"):
        engine({"minus": good})


@pytest.mark.parametrize("opset", [8, 17, 21])
def test_an_opset_that_a_device_cannot_read_is_refused(opset: int) -> None:
    network = awake_network("base")
    with pytest.raises(ConfigError, match=f"opset is {opset}; it must be one of"):
        trace_pictures(PixelNetwork(network), picture_inputs(network), opset=opset)


def test_a_size_that_is_too_small_is_refused() -> None:
    network = awake_network("base")
    with pytest.raises(ConfigError, match="64x16 px is too small"):
        trace_pictures(PixelNetwork(network), picture_inputs(network), size_px=(16, 64))


@pytest.mark.parametrize(("claim", "says"), [("fp16", "float32"), ("int8", "float32")])
def test_a_graph_that_is_not_what_it_claims_is_refused(
    base_content: bytes, claim: str, says: str
) -> None:
    model = read_graph(base_content, "base")
    with pytest.raises(EngineError, match=f"claims to be {claim}.*10 {says}"):
        audit_graph(model, claim, "base")  # type: ignore[arg-type]


def test_damage_is_refused(base_content: bytes) -> None:
    for content in (
        base_content[:-40],
        base_content[: len(base_content) // 2],
        b"",
        b"x",
    ):
        with pytest.raises(EngineError, match="not a whole ONNX file"):
            read_graph(content, "base")
        with pytest.raises(EngineError, match=r"ONNX Runtime .* refuses"):
            onnx_engine(content)


def test_an_unknown_operator_opset_or_nan_is_refused(base_content: bytes) -> None:
    foreign = onnx.load_model_from_string(base_content)
    foreign.opset_import[0].version = 21
    with pytest.raises(EngineError, match=r"opsets .*21.*expected ai.onnx 9 to 20"):
        read_graph(foreign.SerializeToString(), "base")
    strange = onnx.load_model_from_string(base_content)
    for node in strange.graph.node:
        if node.op_type == "Relu":
            node.op_type = "Softplus"
    with pytest.raises(EngineError, match="unknown operators Softplus"):
        read_graph(strange.SerializeToString(), "base")
    broken = onnx.load_model_from_string(base_content)
    weight = next(one for one in broken.graph.initializer if len(one.dims) == 4)
    values = onnx.numpy_helper.to_array(weight).copy()
    values.flat[3] = np.nan
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    with pytest.raises(EngineError, match="hold NaN or infinity"):
        audit_graph(broken, "fp32", "base")
    pictures = dict.fromkeys(
        ("minus", "plus", "physics", "remainder"), np.zeros((1, 32, 32, 3), np.uint8)
    )
    assert count_not_finite(broken, pictures) > 0
    assert count_not_finite(read_graph(base_content, "base"), pictures) == 0


def test_the_families_here_are_those_of_the_registry() -> None:
    from bifocus.model.network_registry import NETWORKS

    covered = {type(awake_network(name)) for name in NARROW}
    assert covered == {named.family for named in NETWORKS.values()}
