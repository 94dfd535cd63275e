"""Exported graphs: equal to torch at any size, self-describing, refused when wrong."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from bifocus.errors import ConfigError, EngineError
from bifocus.export import to_onnx
from bifocus.export.to_onnx import export_onnx
from bifocus.model.fusion_network import FusionNetwork
from bifocus.model.hybrid import HybridNet
from bifocus.model.network_registry import build_network
from bifocus.model.receptive import halo_px

NARROW: dict[str, dict[str, Any]] = {
    "base": {"widths": (8, 16), "blocks": (1, 1)},
    "fast": {"widths": (8, 16), "blocks": (1, 1)},
    "tsva": {"base": 4},
}


@pytest.fixture(autouse=True)
def _one_quiet_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    # pytest's log handler makes torch write its whole trace, which takes seconds.
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "disabled", True)
    torch.set_num_threads(1)
    torch.manual_seed(0)


def _awake(name: str) -> FusionNetwork:
    network = build_network(name, **NARROW[name])
    if isinstance(network, HybridNet):
        nn.init.normal_(network.decoder.head.weight, std=0.01)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None:
            nn.init.normal_(part.running_mean)
    return network


@pytest.mark.slow
@pytest.mark.parametrize("name", NARROW)
def test_the_graph_equals_torch_at_sizes_that_fit_no_stride(
    tmp_path: Path, name: str
) -> None:
    network = _awake(name)
    path = tmp_path / f"{name}.onnx"
    halo = halo_px(network)
    export = export_onnx(
        network, path, name=name, halo_px=halo, extra_metadata={"data_hash": "ab12"}
    )
    assert network.training  # the network itself is left alone
    assert export.max_difference <= 1e-4
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == list(network.inputs)
    assert [one.name for one in session.get_outputs()] == ["fused"]
    assert session.get_outputs()[0].shape == ["batch", 3, "height", "width"]
    for size in ((333, 511), (32, 33)):
        _check_size(network.eval(), session, size)
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata == export.metadata
    assert (metadata["network"], metadata["data_hash"]) == (name, "ab12")
    assert int(metadata["halo_px"]) == halo
    assert int(metadata["stride_px"]) == network.stride
    assert json.loads(metadata["inputs"]) == list(network.inputs)
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert "BatchNormalization" not in kinds


def _check_size(network: FusionNetwork, session: Any, size: tuple[int, int]) -> None:
    images = {key: torch.rand(1, 3, *size) for key in network.inputs}
    with torch.no_grad():
        expected = network(*images.values()).numpy()
    feed = {key: image.numpy() for key, image in images.items()}
    (fused,) = session.run(["fused"], feed)
    assert np.abs(fused - expected).max() <= 1e-4 * max(1, np.abs(expected).max())


@pytest.mark.parametrize(
    ("halo", "opset", "words"),
    [(64, 18, "receptive radius, 67"), (70, 18, "multiple of 8"), (72, 21, "opset")],
)
def test_a_halo_or_opset_that_does_not_fit_is_refused(
    tmp_path: Path, halo: int, opset: int, words: str
) -> None:
    network = build_network("base")
    with pytest.raises(ConfigError, match=words):
        export_onnx(network, tmp_path / "x", name="base", halo_px=halo, opset=opset)


def test_a_graph_that_disagrees_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = _awake("fast")
    path = tmp_path / "fast.onnx"
    path.write_bytes(b"the last good file")
    shape: list[str | int | None] = ["batch", 3, "height", "width"]
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name in (*network.inputs, to_onnx.OUTPUT_NAME)
    ]
    node = onnx.helper.make_node("Identity", ["minus"], [to_onnx.OUTPUT_NAME])
    graph = onnx.helper.make_graph([node], "wrong", values[:-1], values[-1:])
    opset = onnx.helper.make_opsetid("", 18)
    wrong = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10)
    monkeypatch.setattr(to_onnx, "_to_graph", lambda _network, _opset: wrong)
    with pytest.raises(EngineError, match="differs from torch"):
        export_onnx(network, path, name="fast", halo_px=halo_px(network))
    assert path.read_bytes() == b"the last good file"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_holds_no_path_of_this_machine(tmp_path: Path) -> None:
    network = _awake("fast")
    path = tmp_path / "fast.onnx"
    export_onnx(network, path, name="fast", halo_px=halo_px(network))
    content = path.read_bytes()
    for root in (Path(to_onnx.__file__).parents[1], Path(onnx.__file__).parents[1]):
        assert str(root).encode() not in content
    assert b".py" not in content
