"""The gate that needs no GPU: TensorRT's own parser and builder take what we export.

TensorRT for RTX has real wheels and builds on a processor; its parser and its network
classes are those of TensorRT. The audit is printed, for whoever reads the run's log.
"""

import platform
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

pytest.importorskip("torch", reason="torch makes the graphs")

from bifocus.errors import EngineError
from bifocus.export.export_graph import GraphRequest, MadeGraph, make_graph
from bifocus.export.parity_pictures import make_test_pair
from bifocus.export.pixel_network import picture_inputs
from bifocus.export.runtimes import torch_engine
from bifocus.export.tensorrt_audit import Claim
from bifocus.export.tensorrt_build import BuiltEngine, build_engine
from bifocus.export.tensorrt_profile import BuildOptions
from bifocus.model.fusion_network import FusionNetwork
from bifocus.tensorrt_module import load_tensorrt
from tests.export import real_tensorrt
from tests.export.real_tensorrt import need_tensorrt_rtx
from tests.export.small_networks import awake_network, silence_torch

NAMES = ("base", "fast", "tsva")


@pytest.fixture(scope="module", autouse=True)
def _rtx() -> None:
    need_tensorrt_rtx()


@pytest.fixture(scope="module")
def graphs() -> dict[tuple[str, str], tuple[FusionNetwork, MadeGraph]]:
    """Return each network, and its graph in half precision; int8 of one of them."""
    silence_torch()
    made = {}
    for name in NAMES:
        network = awake_network(name)
        for precision in ("fp16", "int8") if name == "fast" else ("fp16",):
            made[name, precision] = network, _graph(network, name, precision)
    return made


def _graph(network: FusionNetwork, name: str, precision: Any) -> MadeGraph:
    sets = make_test_pair(torch_engine(network), picture_inputs(network), (64, 64))
    request = GraphRequest(
        name=name,
        precision=precision,
        size_px=None,
        runtime="tensorrt",
        calibration=[one.pictures for one in sets],
    )
    return make_graph(network, request, facts={})


def _build(network: FusionNetwork, content: bytes, claim: Claim) -> BuiltEngine:
    options = BuildOptions(
        claim=claim,
        batch=2,
        height_px=128,
        width_px=192,
        stride_px=network.stride,
        workspace_bytes=1 << 28,
        can_run=False,
    )
    return build_engine(load_tensorrt("tensorrt_rtx"), content, options)


def _claim(network: FusionNetwork, made: MadeGraph, precision: Any) -> Claim:
    wide = sum(n for kind, n in made.audit.items() if kind != "Conv int8")
    return Claim(
        precision=precision,
        n_other=wide if precision == "int8" else 0,
        images=(*picture_inputs(network), "fused"),
    )


@pytest.mark.parametrize(
    ("peers", "machine", "outcome"),
    [
        ("required", "x86_64", pytest.fail.Exception),
        ("required", "aarch64", pytest.skip.Exception),
        ("", "x86_64", pytest.skip.Exception),
    ],
)
def test_in_ci_the_gate_cannot_be_skipped(
    monkeypatch: pytest.MonkeyPatch, peers: str, machine: str, outcome: Any
) -> None:
    monkeypatch.setenv("BIFOCUS_PEERS", peers)
    monkeypatch.setattr(real_tensorrt, "find_spec", lambda _name: None)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(outcome):
        need_tensorrt_rtx()


@pytest.mark.slow
def test_tensorrt_takes_our_graphs_and_finds_in_them_what_we_say(
    graphs: dict[tuple[str, str], tuple[FusionNetwork, MadeGraph]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = []
    for (name, precision), (network, made) in graphs.items():
        built = _build(network, made.content, _claim(network, made, precision))
        # Two readers of one graph: ours of the file, TensorRT's of its own network.
        ours = {kind.split()[1]: n for kind, n in made.audit.items()}
        theirs = {kind.split()[1]: n for kind, n in built.audit.items()}
        assert theirs == ours, (name, precision)
        assert len(built.plan) > len(made.content) / 4
        types = ", ".join(f"{n} {kind}" for kind, n in theirs.items())
        lines.append(
            f"TensorRT gate: {name} {precision}: convolutions {types}; "
            f"engine {len(built.plan) / 1e6:.1f} MB in {built.seconds:.1f} s"
        )
    with capsys.disabled():
        print("\n" + "\n".join(lines))  # noqa: T201 (for whoever reads the run's log)
    assert any("int8" in line for line in lines)


@pytest.mark.slow
def test_a_float32_graph_that_claims_half_is_caught() -> None:
    silence_torch()
    network = awake_network("fast")
    wide = _graph(network, "fast", "fp32")
    n_convolutions = wide.audit["Conv float32"]
    claim = Claim(precision="fp16", images=(*picture_inputs(network), "fused"))
    words = rf"claims fp16, but of {n_convolutions} convolutions {n_convolutions} in fl"
    with pytest.raises(EngineError, match=words):
        _build(network, wide.content, claim)


@pytest.mark.slow
def test_weights_stored_in_half_become_the_engine_that_wide_ones_do() -> None:
    """TensorRT folds the casts: an engine that kept them would be half as large."""
    silence_torch()
    network = awake_network("fast", widths=(32, 64)).half().float()
    made = _graph(network, "fast", "fp32")
    wide = made.model.SerializeToString()
    assert len(made.content) < 0.6 * len(wide)
    claim = Claim(precision="fp32", images=(*picture_inputs(network), "fused"))
    engines = [_build(network, graph, claim) for graph in (made.content, wide)]
    sizes = [len(engine.plan) for engine in engines]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.02)
    assert min(sizes) > 0.9 * len(wide)
    assert engines[0].audit == engines[1].audit


@pytest.mark.slow
def test_a_graph_that_turns_bytes_before_it_casts_them_is_caught(
    graphs: dict[tuple[str, str], tuple[FusionNetwork, MadeGraph]],
) -> None:
    """Mutation of our own graph: Cast, Transpose becomes Transpose, Cast."""
    network, made = graphs["fast", "fp16"]
    model = onnx.ModelProto()
    model.CopyFrom(made.model)
    picture = model.graph.input[0].name
    cast = _reader(model, picture, "Cast")
    turn = _reader(model, cast.output[0], "Transpose")
    turn.input[0], cast.input[0] = picture, turn.output[0] + "/bytes"
    turned = turn.output[0]
    turn.output[0], cast.output[0] = cast.input[0], turned
    nodes = list(model.graph.node)
    at_cast, at_turn = nodes.index(cast), nodes.index(turn)
    nodes[at_cast], nodes[at_turn] = nodes[at_turn], nodes[at_cast]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    del model.graph.value_info[:]
    with pytest.raises(EngineError, match=r"UInt8.* only next to a cast"):
        _build(network, model.SerializeToString(), _claim(network, made, "fp16"))


def _reader(model: onnx.ModelProto, name: str, kind: str) -> Any:
    return next(
        node for node in model.graph.node if node.op_type == kind and name in node.input
    )


@pytest.mark.slow
def test_a_picture_that_is_not_bytes_is_caught(
    graphs: dict[tuple[str, str], tuple[FusionNetwork, MadeGraph]],
) -> None:
    network, made = graphs["fast", "fp16"]
    model = onnx.ModelProto()
    model.CopyFrom(made.model)
    shape = [dim.dim_param or dim.dim_value for dim in _dims(model)]
    wide = helper.make_tensor_value_info(network.inputs[0], TensorProto.FLOAT, shape)
    model.graph.input[0].CopyFrom(wide)
    with pytest.raises(EngineError, match="is FLOAT in the graph, and must be UINT8"):
        _build(network, model.SerializeToString(), _claim(network, made, "fp16"))


def _dims(model: onnx.ModelProto) -> Any:
    return model.graph.input[0].type.tensor_type.shape.dim
