"""A network in OpenVINO: as ONNX and as IR, against ONNX Runtime, and refusals."""

import hashlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bifocus.edge.network_fuser import NetworkEngine, NetworkFuser
from bifocus.edge.network_inputs import pair_pictures
from bifocus.edge.network_windows import plan_windows
from bifocus.edge.openvino_fuser import OpenvinoEngine, import_openvino
from bifocus.engine_manifest import manifest_path, write_manifest
from bifocus.errors import EngineError, EngineLostError
from bifocus.physics_fusion import fuse_measured
from bifocus.records import UInt8Image

if importlib.util.find_spec("openvino") is None:
    pytest.skip("openvino is the engine under test", allow_module_level=True)
pytest.importorskip("onnx", reason="makes the graphs; in the test group")
pytest.importorskip("onnxruntime", reason="the second runtime")

from tests.edge.network_files import (
    INPUTS,
    make_graph,
    make_manifest,
    measured_pair,
    random_pictures,
    run_whole,
    write_network,
)


def write_ir(folder: Path, content: bytes) -> Path:
    openvino = import_openvino(folder)
    graph, weights = folder / "tiny.xml", folder / "tiny.bin"
    source = folder / "source.onnx"
    source.write_bytes(content)
    openvino.save_model(
        openvino.Core().read_model(str(source)), str(graph), compress_to_fp16=False
    )
    source.unlink()
    files = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (graph, weights)
    }
    manifest = make_manifest(content, files=files, kind="openvino")
    write_manifest(manifest, manifest_path(graph))
    return graph


def fused(
    engine: NetworkEngine, pictures: dict[str, UInt8Image], most_window_px: int
) -> UInt8Image:
    shape = pictures["minus"].shape[:2]
    plan = plan_windows(
        engine.form, (shape[0], shape[1]), most_window_px=most_window_px
    )
    return plan.join(engine.stream(plan.cut(pictures)), (shape[0], shape[1]))


@pytest.fixture(params=["onnx", "ir"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "onnx":
        return write_network(tmp_path)
    return write_ir(tmp_path, make_graph())


def test_pixels_are_those_of_onnx_runtime(path: Path) -> None:
    pictures = random_pictures((128, 96))
    expected = run_whole(make_graph(), pictures)
    result = fused(OpenvinoEngine(path), pictures, 100_000)
    # Sums in another order: a value on the edge between two levels may fall either way.
    difference = np.abs(result.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


@pytest.mark.parametrize("most_window_px", [2_000, 6_000])
def test_tiled_is_whole_to_the_bit(path: Path, most_window_px: int) -> None:
    engine = OpenvinoEngine(path)
    pictures = random_pictures((128, 96))
    np.testing.assert_array_equal(
        fused(engine, pictures, most_window_px), fused(engine, pictures, 100_000)
    )


def test_a_pair_comes_out_as_from_the_graph(path: Path) -> None:
    measured = measured_pair()
    pictures = pair_pictures(
        measured, fuse_measured(measured, colours="together"), INPUTS
    )
    tile = NetworkFuser(OpenvinoEngine(path)).fuse(measured)
    expected = run_whole(make_graph(), pictures)
    assert np.abs(tile.pixels.astype(int) - expected).max() <= 1
    # Swapped or recoloured pictures would be far away.
    swapped = {**pictures, "minus": pictures["plus"], "plus": pictures["minus"]}
    recoloured = {name: part[..., ::-1].copy() for name, part in pictures.items()}
    for wrong in (swapped, recoloured):
        other = run_whole(make_graph(), wrong).astype(int)
        assert np.abs(other - expected).max() > 10


@pytest.mark.slow
def test_nothing_is_reported_to_anyone() -> None:
    """`import openvino` alone sends an event; through us no thread is started."""
    code = (
        "import sys, threading; from pathlib import Path;"
        "from bifocus.edge.openvino_fuser import import_openvino;"
        "import_openvino(Path('a')).Core();"
        "assert threading.active_count() == 1, threading.enumerate();"
        "assert sys.modules['openvino_telemetry'] is None"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_name_tells_library_device_and_threads(tmp_path: Path) -> None:
    engine = OpenvinoEngine(write_network(tmp_path), threads=3)
    assert engine.name.startswith("openvino 20")
    assert engine.name.endswith("CPU, 3 threads")


def test_changed_weights_are_never_loaded(tmp_path: Path) -> None:
    path = write_ir(tmp_path, make_graph())
    weights = path.with_suffix(".bin")
    content = bytearray(weights.read_bytes())
    content[100] ^= 1
    weights.write_bytes(bytes(content))
    with pytest.raises(EngineError, match=r"tiny\.bin: its SHA-256"):
        OpenvinoEngine(path)
    weights.unlink()
    with pytest.raises(EngineError, match=r"tiny\.bin: No such file"):
        OpenvinoEngine(path)


def test_rubbish_and_unverified_files_are_refused(tmp_path: Path) -> None:
    path = write_network(tmp_path, content=b"not a graph")
    with pytest.raises(EngineError, match=r"OpenVINO cannot read it.*Mend: bifocus"):
        OpenvinoEngine(path)
    path = write_network(tmp_path, verified=False)
    with pytest.raises(EngineError, match="unverified"):
        OpenvinoEngine(path)


def test_a_size_the_graph_does_not_take(tmp_path: Path) -> None:
    engine = OpenvinoEngine(
        write_network(tmp_path, content=make_graph(size=(1, 64, 64)))
    )
    with pytest.raises(EngineLostError, match="windows of 64x67 px"):
        list(engine.stream([random_pictures((67, 64))]))


def test_a_closed_engine_says_so(tmp_path: Path) -> None:
    engine = OpenvinoEngine(write_network(tmp_path))
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        list(engine.stream([random_pictures((64, 64))]))


def test_without_openvino_the_text_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_network(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(EngineError, match=r"pip install 'bifocus\[openvino\]'"):
        OpenvinoEngine(path)
