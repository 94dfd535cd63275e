"""`bifocus export --whole`: the loop's pixels from one file, or no file."""

import hashlib
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="exports start from a checkpoint")
pytest.importorskip("onnxruntime", reason="the gate runs in it")

from bifocus import whole_job
from bifocus.edge.engine_choice import EngineWish, choose_fuser
from bifocus.edge.fusers import Fuser
from bifocus.edge.network_inputs import load_form, pair_pictures
from bifocus.engine_job import check_engine
from bifocus.engine_manifest import load_manifest, manifest_path, write_manifest
from bifocus.errors import EngineError
from bifocus.export import tensorrt_engine
from bifocus.export.parity import require_parity
from bifocus.export.parity_pictures import simulated_shots
from bifocus.export.pixel_network import picture_inputs
from bifocus.export.runtimes import has_openvino, torch_engine
from bifocus.export.tensorrt_build import build_engine
from bifocus.export.tensorrt_process import BuildRequest
from bifocus.export.whole_fusion import build_physics_parts
from bifocus.export.whole_pair import (
    measure_whole,
    onnx_whole_run,
    pack_whole_pair,
    unpack_whole_pair,
)
from bifocus.model.checkpoint import load_checkpoint, save_checkpoint
from bifocus.optics_inputs import transfer_inputs
from bifocus.physics_fusion import fuse_measured, measure_pair
from bifocus.records import FusedTile
from bifocus.tensorrt_module import load_tensorrt
from tests.cli.commands import run_cli
from tests.edge.whole_files import make_whole_graph, whole_set, write_whole
from tests.export.real_tensorrt import need_tensorrt_rtx
from tests.export.small_networks import NARROW, awake_network, silence_torch
from tests.imaging import psnr_db

SIZE = ("--tile", 96, 128)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    silence_torch()
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    network = awake_network("base")
    save_checkpoint(path, network, name="base", config=NARROW["base"], training={})
    return path


@pytest.fixture(scope="module")
def parts() -> Any:
    return build_physics_parts((96, 128))


@pytest.fixture
def quick(parts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every export the physics that was traced already: it is the same."""
    monkeypatch.setattr(
        whole_job,
        "build_physics_parts",
        lambda shape, opset: (
            parts if opset == 18 else build_physics_parts(shape, opset=opset)
        ),
    )


def check_against_the_loop(checkpoint: Path, fuser: Fuser) -> FusedTile:
    """Compare the tile of a whole fusion with NumPy's physics and PyTorch."""
    shots, optics = simulated_shots()
    minus, plus = (np.ascontiguousarray(shots[n][:96, -128:]) for n in shots)
    measured = measure_pair(minus, plus, optics)
    physics = fuse_measured(measured, colours="together")
    network = load_checkpoint(checkpoint).network
    pictures = pair_pictures(measured, physics, picture_inputs(network))
    given = {name: picture[None] for name, picture in pictures.items()}
    with closing(fuser):
        tile = fuser.fuse(measured)
    assert psnr_db(tile.pixels, torch_engine(network)(given)[0], margin_px=1) > 60
    assert tile.offset.offset_um == pytest.approx(physics.offset.offset_um, abs=0.01)
    assert tile.quality == pytest.approx(physics.quality, abs=0.005)
    assert tile.sharper_is_plus == physics.sharper_is_plus
    return tile


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_one_file_gives_the_loops_tile_and_becomes_an_engine(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--whole", *SIZE, "--precision", "fp16", "--json")
    outcome = run_cli("export", checkpoint, "-o", tmp_path, *options)
    assert outcome.code == 0, outcome.err
    document = outcome.document
    assert document["parity"]["psnr_db"] > 60
    assert document["parity"]["offset_um"] < 0.01
    assert document["audit"] == {"Conv float16": 10}
    assert document["never_run_on"] == ["any GPU"]
    path = Path(document["files"][0])
    manifest = load_manifest(path)
    assert manifest.physics == "inside"
    assert [(one.name, one.dtype, one.shape) for one in manifest.inputs] == [
        ("minus", "uint8", None),
        ("plus", "uint8", None),
        ("transfer", "float32", (3, 2, 161, 64)),
        ("in_focus", "float32", (3, 64)),
        ("scale_um", "float32", (3,)),
        ("trust", "float32", (1,)),
    ]
    assert manifest.export_command.endswith("--tile 96 128 --whole")
    check_against_the_loop(checkpoint, choose_fuser(str(path)))
    built = build_in_tensorrt(path, tmp_path / "engines", monkeypatch)
    assert built == {"CONVOLUTION float16": 10}


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_openvino_gets_the_loops_tile_as_well(checkpoint: Path, tmp_path: Path) -> None:
    if not has_openvino():  # importing it here would start its telemetry
        pytest.skip("openvino is the runtime under test")
    options = ("--whole", *SIZE, "--to", "openvino", "--json")
    outcome = run_cli("export", checkpoint, "-o", tmp_path, *options)
    assert outcome.code == 0, outcome.err
    document = outcome.document
    names = [Path(file).name for file in document["files"]]
    stem = "small.whole.128x96"
    assert names == [f"{stem}.xml", f"{stem}.bin", f"{stem}.test.npz"]
    # Both runtimes have passed, on the pair and on its shots swapped.
    assert len(document["reports"]) == 4
    assert {one["subject"].split()[0] for one in document["reports"]} == {
        "ONNX",
        "OpenVINO",
    }
    assert document["never_run_on"] == []
    manifest = load_manifest(tmp_path / names[0])
    assert manifest.export_command.endswith(
        "--to openvino --precision fp32 --tile 96 128 --whole"
    )
    check_against_the_loop(checkpoint, choose_fuser(str(tmp_path / names[0])))


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_triton_repository_is_served_with_bit_equal_tiles(
    checkpoint: Path, tmp_path: Path
) -> None:
    pytest.importorskip("tritonclient.grpc")
    from google.protobuf import text_format  # type: ignore[import-untyped]
    from tritonclient.grpc import model_config_pb2

    from tests.edge.kserve_server import WholeServicer, serving

    for version in (1, 2):
        options = ("--whole", *SIZE, "--to", "triton", "--json")
        outcome = run_cli("export", checkpoint, "-o", tmp_path, *options)
        assert outcome.code == 0, outcome.err
        name = "small-whole-128x96"
        graph = tmp_path / name / str(version) / "model.onnx"
        assert outcome.document["files"][0] == str(graph)
    assert outcome.document["never_run_on"] == ["any GPU", "a Triton server"]
    config = text_format.Parse(
        (tmp_path / name / "config.pbtxt").read_text(), model_config_pb2.ModelConfig()
    )
    assert (config.max_batch_size, config.HasField("dynamic_batching")) == (0, False)
    shapes = {one.name: [*one.dims] for one in (*config.input, *config.output)}
    assert shapes["minus"] == shapes["fused"] == [1, 96, 128, 3]
    assert shapes["transfer"] == [3, 2, 161, 64]
    assert shapes["offset_um"] == [1]
    assert config.output[1].HasField("reshape")
    with serving(WholeServicer(graph.read_bytes(), name)) as port:
        wish = EngineWish(engine="server", server=f"127.0.0.1:{port}")
        fuser = choose_fuser(str(tmp_path / f"{name}.manifest.json"), wish)
        tile = check_against_the_loop(checkpoint, fuser)
    run = onnx_whole_run(graph.read_bytes())
    shots, optics = simulated_shots()
    minus, plus = (np.ascontiguousarray(shots[n][:96, -128:]) for n in shots)
    tables = transfer_inputs(measure_pair(minus, plus, optics).optics, 128)
    fused, numbers = run({"minus": minus[None], "plus": plus[None], **tables})
    np.testing.assert_array_equal(tile.pixels, fused[0])
    assert tile.offset.offset_um == float(numbers["offset_um"])


@pytest.mark.slow
def test_int8_inside_is_built_as_well(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--whole", *SIZE, "--precision", "int8", "--json")
    outcome = run_cli("export", checkpoint, "-o", tmp_path, *options)
    assert outcome.code == 0, outcome.err
    document = outcome.document
    # Less than half a level on average: what 8 bits may cost a network alone.
    assert document["parity"]["psnr_db"] > 52
    assert document["parity"]["offset_um"] < 0.01
    audit = document["audit"]
    assert audit["Conv int8"] > 0
    assert sum(audit.values()) == 10
    path = Path(document["files"][0])
    assert load_manifest(path).int8_runtime == "tensorrt"
    made = build_in_tensorrt(path, tmp_path / "engines", monkeypatch)
    assert made["CONVOLUTION int8"] == audit["Conv int8"]
    assert made["CONVOLUTION float16"] == audit["Conv float16"]


def build_in_tensorrt(
    path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, int]:
    need_tensorrt_rtx()

    def build(request: BuildRequest, **_: Any) -> Any:
        # In this process: what a child adds is tried in tests/export.
        trt = load_tensorrt(request.flavour)
        return build_engine(trt, request.graph, request.options)

    monkeypatch.setattr(tensorrt_engine, "build_in_child", build)
    made = tensorrt_engine.export_engine(
        path, out, height_px=96, width_px=128, flavour="tensorrt_rtx"
    )
    assert (made.manifest.physics, made.manifest.verified) == ("inside", False)
    assert len(made.manifest.inputs) == 6
    assert made.manifest.export_command.endswith(
        f"--to tensorrt --precision {made.manifest.precision} --tile 96 128 --whole"
    )
    return dict(made.manifest.audit)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "--whole needs --tile H W"),
        (
            (*SIZE, "--to", "openvino", "--precision", "fp16"),
            "take --precision fp32 or int8",
        ),
        ((*SIZE, "--calibration", "pairs"), "--calibration is for --precision int8"),
    ],
)
def test_what_cannot_be_is_a_usage_error(
    checkpoint: Path, tmp_path: Path, options: tuple[object, ...], words: str
) -> None:
    outcome = run_cli("export", checkpoint, "-o", tmp_path, "--whole", *options)
    assert outcome.code == 2
    assert words in " ".join(outcome.err.split())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fault", ["swapped", "offset", "nan", "no tables"])
def test_the_gate_sees_each_fault(fault: str) -> None:
    right = onnx_whole_run(make_whole_graph())

    def run(feeds: Any) -> Any:
        given = dict(feeds)
        if fault == "swapped":
            given |= {"minus": feeds["plus"], "plus": feeds["minus"]}
        if fault == "no tables":
            given["transfer"] = np.ones_like(feeds["transfer"])
        fused, numbers = right(given)
        if fault == "offset":
            numbers = {**numbers, "offset_um": numbers["offset_um"] + 0.011}
        if fault == "nan":
            numbers = {**numbers, "sd_um": np.full((), np.nan, np.float32)}
        return fused, numbers

    words: Any = {"subject": "it", "against": "the graph", "device": "CPU"}
    words["precision"] = "fp16"
    assert measure_whole(right, whole_set(), **words).passed
    report = measure_whole(run, whole_set(), **words)
    assert not report.passed
    with pytest.raises(EngineError, match="it differs from the graph"):
        require_parity([report], "tiny")


def test_the_pair_travels_whole() -> None:
    sent = whole_set()
    (came,) = unpack_whole_pair(pack_whole_pair([sent]), "pair")
    assert (came.name, came.offset_um) == (sent.name, sent.offset_um)
    for name, value in sent.feeds.items():
        np.testing.assert_array_equal(came.feeds[name], value)
    with pytest.raises(EngineError, match="not a whole test pair"):
        unpack_whole_pair(pack_whole_pair([sent])[:-200], "pair")


class Device:
    """A whole engine that is the graph itself, its shots swapped if told so."""

    name = "tensorrt 10.3.0, NVIDIA Orin"

    def __init__(self, path: Path, is_swapped: bool) -> None:
        self.form: Any = None
        self._run = onnx_whole_run(make_whole_graph())
        self._swapped, self._path = is_swapped, path
        self._tables: dict[str, Any] = {}

    def set_tables(self, tables: Any) -> None:
        self._tables = dict(tables)

    def fuse_pair(self, shots: Any) -> Any:
        names = ("plus", "minus") if self._swapped else ("minus", "plus")
        pair = dict(
            zip(("minus", "plus"), (shots[n][None] for n in names), strict=True)
        )
        fused, numbers = self._run({**pair, **self._tables})
        return fused[0], numbers

    def close(self) -> None:
        self._tables = {}


@pytest.mark.parametrize("is_swapped", [False, True])
def test_an_engine_is_verified_beside_its_graph(
    tmp_path: Path, is_swapped: bool
) -> None:
    pair = pack_whole_pair([whole_set()])
    (tmp_path / "pair.npz").write_bytes(pair)
    graph = write_whole(tmp_path)
    plan = write_whole(tmp_path, "tiny.engine", kind="tensorrt", content=b"plan")
    for path in (graph, plan):
        found = load_manifest(path)
        files = {**found.files, "pair.npz": hashlib.sha256(pair).hexdigest()}
        update = {"files": files, "test_pair": "pair.npz", "verified": path == graph}
        write_manifest(found.model_copy(update=update), manifest_path(path))

    def open_trial(path: Path) -> Any:
        device = Device(path, is_swapped)
        device.form = load_form(path, is_trial=True, is_whole=True)
        return device

    manifest = check_engine(graph, plan, open_trial)
    assert manifest.verified != is_swapped
    assert load_manifest(plan) == manifest
    assert manifest.parity[0].device == Device.name
