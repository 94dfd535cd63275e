"""Whole exports: what is written, what is refused, and that nothing is half-written."""

import dataclasses
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from bifocus.engine_manifest import (
    TensorSpec,
    check_files,
    load_manifest,
    read_checked,
)
from bifocus.errors import BifocusError, ConfigError, EngineError, SlideFileError
from bifocus.export import export_model as subject
from bifocus.export.export_files import ExportRequest
from bifocus.export.export_graph import GraphRequest, MadeGraph, make_graph
from bifocus.export.export_model import export_model
from bifocus.export.parity_pictures import unpack_test_pair
from bifocus.export.pixel_graph import describe_graph
from bifocus.export.runtimes import has_openvino, onnx_engine, openvino_engine
from bifocus.export.triton_repository import make_config, next_version
from bifocus.model.checkpoint import load_checkpoint, save_checkpoint
from bifocus.model.receptive import halo_px
from tests.export.small_networks import NARROW, awake_network, silence_torch

INPUTS = ("minus", "plus", "physics", "remainder")


@pytest.fixture(autouse=True)
def _one_quiet_thread() -> None:
    silence_torch()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    training = {"config": {"network": "base"}, "data_hashes": ["ab12"]}
    save_checkpoint(
        path,
        awake_network("base"),
        name="base",
        config=NARROW["base"],
        training=training,
    )
    return path


@pytest.fixture(scope="module")
def made(checkpoint: Path) -> MadeGraph:
    silence_torch()
    request = GraphRequest(
        name="small", precision="fp32", size_px=None, runtime="onnxruntime"
    )
    return make_graph(load_checkpoint(checkpoint).network, request, facts={})


@pytest.fixture
def quick(made: MadeGraph, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give every export the graph that was traced already."""
    monkeypatch.setattr(subject, "make_graph", lambda *_, **__: made)
    yield


def request(checkpoint: Path, folder: Path, **changes: Any) -> ExportRequest:
    values: dict[str, Any] = {
        "source": checkpoint,
        "folder": folder,
        "kind": "onnx",
        "precision": "fp32",
        **changes,
    }
    return ExportRequest(**values)


@pytest.mark.usefixtures("quick")
def test_an_export_says_what_it_is_and_can_be_checked_again(
    checkpoint: Path, tmp_path: Path
) -> None:
    done = export_model(request(checkpoint, tmp_path / "new"))
    manifest = load_manifest(tmp_path / "new" / "small.onnx")
    assert manifest == done.manifest
    check_files(manifest, tmp_path / "new")
    assert set(manifest.files) == {"small.onnx", "small.test.npz"}
    assert (manifest.network, manifest.precision) == ("base", "fp32")
    assert tuple(one.name for one in manifest.inputs) == INPUTS
    assert manifest.halo_px == halo_px(load_checkpoint(checkpoint).network)
    assert (manifest.stride_px, manifest.physics) == (4, "input")
    assert (manifest.verified, manifest.opset) == (True, 18)
    assert manifest.data_hashes == ("ab12",)
    assert manifest.trained is not None
    assert manifest.trained.na == (0.4, 0.95)
    # The test pair alone is enough to repeat the check, without torch.
    content = read_checked(manifest, tmp_path / "new", "small.onnx")
    engine = onnx_engine(content)
    pair = read_checked(manifest, tmp_path / "new", "small.test.npz")
    for pictures in unpack_test_pair(pair, "pair"):
        error = np.abs(engine(pictures.pictures).astype(int) - pictures.fused)
        assert (error.max() <= 1) and (error > 0).mean() <= 0.001


@pytest.mark.slow
def test_int8_for_openvino_from_pictures_of_the_user(
    checkpoint: Path, tmp_path: Path
) -> None:
    if not has_openvino():  # importing it here would start its telemetry
        pytest.skip("openvino is the runtime under test")
    rng = np.random.default_rng(0)
    pictures = [
        {name: rng.integers(60, 220, (1, 48, 64, 3), dtype=np.uint8) for name in INPUTS}
        for _ in range(4)
    ]
    done = export_model(
        request(
            checkpoint,
            tmp_path,
            kind="openvino",
            precision="int8",
            calibration=pictures,
            size_px=(96, 112),
        )
    )
    manifest = done.manifest
    assert done.calibration == "4 pictures given by the user"
    name = "small.int8.112x96"
    assert set(manifest.files) == {f"{name}.xml", f"{name}.bin", f"{name}.test.npz"}
    assert manifest.audit["Conv int8"] >= 1
    assert (manifest.height_px, manifest.width_px) == (96, 112)
    graph, weights, pair = (
        read_checked(manifest, tmp_path, one) for one in manifest.files
    )
    assert str(tmp_path).encode() not in graph
    assert b"/tmp" not in graph
    engine = openvino_engine(graph, weights)
    for pictures_set in unpack_test_pair(pair, "pair"):
        fused = engine(pictures_set.pictures).astype(int)
        assert np.abs(fused - pictures_set.fused).mean() < 1


@pytest.mark.usefixtures("quick")
def test_a_triton_repository_is_what_the_server_parses(
    checkpoint: Path, tmp_path: Path
) -> None:
    pytest.importorskip("tritonclient")
    from google.protobuf import text_format  # type: ignore[import-untyped]
    from tritonclient.grpc import model_config_pb2

    for version in (1, 2):
        done = export_model(request(checkpoint, tmp_path, kind="triton"))
        assert done.manifest.main_file == f"small/{version}/model.onnx"
        assert done.path == tmp_path / "small.manifest.json"
    check_files(done.manifest, tmp_path)
    text = (tmp_path / "small" / "config.pbtxt").read_text()
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    assert (config.name, config.platform) == ("small", "onnxruntime_onnx")
    uint8 = model_config_pb2.DataType.Value("TYPE_UINT8")
    assert tuple(one.name for one in config.input) == INPUTS
    for one in (*config.input, *config.output):
        assert (one.data_type, list(one.dims)) == (uint8, [-1, -1, 3])
    assert config.HasField("dynamic_batching")
    assert config.max_batch_size > 1
    assert config.version_policy.latest.num_versions == 1
    assert config.parameters["stride_px"].string_value == "4"


def test_a_fixed_size_is_in_the_servers_file_and_a_file_in_the_way_is_told(
    tmp_path: Path,
) -> None:
    picture = TensorSpec(name="minus", dtype="uint8", layout="NHWC")
    text = make_config("a", (picture,), (), size_px=(96, 112), facts={})
    assert "dims: [96, 112, 3]" in text
    (tmp_path / "a").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        next_version(tmp_path, "a")


def swap_inputs(model: onnx.ModelProto) -> None:
    names = {"minus": "plus", "plus": "minus"}
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]


def turn_channels(model: onnx.ModelProto) -> None:
    """Give the red plane as blue: the first convolution's inputs in another order."""
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    weight = next(one for one in model.graph.initializer if one.name == conv.input[1])
    values = onnx.numpy_helper.to_array(weight)
    turned = values.reshape(values.shape[0], -1, 3, *values.shape[2:])[:, :, ::-1]
    copy = np.ascontiguousarray(turned.reshape(values.shape))
    weight.CopyFrom(onnx.numpy_helper.from_array(copy, weight.name))


@pytest.mark.parametrize("spoil", [swap_inputs, turn_channels])
def test_a_spoilt_graph_is_caught_and_nothing_is_written(
    checkpoint: Path,
    made: MadeGraph,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Any,
) -> None:
    model = onnx.load_model_from_string(made.content)
    spoil(model)
    content = describe_graph(model, {})
    spoilt = dataclasses.replace(made, content=content, model=model)
    monkeypatch.setattr(subject, "make_graph", lambda *_, **__: spoilt)
    with pytest.raises(EngineError, match=r"ONNX Runtime .* differs from PyTorch"):
        export_model(request(checkpoint, tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("quick")
def test_a_halo_that_is_too_small_is_caught(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "halo_px", lambda _network: 4)
    with pytest.raises(EngineError, match="beyond its halo of 4 px"):
        export_model(request(checkpoint, tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("quick")
def test_a_full_disk_keeps_the_older_export(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_model(request(checkpoint, tmp_path))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def no_space(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(SlideFileError, match="No space left on device"):
        export_model(request(checkpoint, tmp_path))
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert after == before
    check_files(load_manifest(tmp_path / "small.onnx"), tmp_path)


@pytest.mark.usefixtures("quick")
def test_a_file_where_the_folder_should_be_is_told(
    checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(ConfigError, match="a file is where a folder is to be"):
        export_model(request(checkpoint, tmp_path / "out"))


def test_bad_checkpoints_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    content = checkpoint.read_bytes()
    bad = tmp_path / "bad.safetensors"
    out = tmp_path / "out"
    for damaged in (content[: len(content) // 2], b"", b"GIF89a"):
        bad.write_bytes(damaged)
        with pytest.raises(EngineError, match="not a whole safetensors file"):
            export_model(request(bad, out))
    with pytest.raises(ConfigError, match="there is no checkpoint"):
        export_model(request(tmp_path / "none.safetensors", out))
    named = b'\\"network\\": \\"base\\", \\"training'
    assert named in content
    bad.write_bytes(content.replace(named, named.replace(b"base", b"bass")))
    with pytest.raises(BifocusError, match="bass"):
        export_model(request(bad, out))
    assert not out.exists()


def test_half_precision_has_no_use_in_openvino(checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match="take --precision fp32 or int8"):
        request(checkpoint, Path("out"), kind="openvino", precision="fp16")
