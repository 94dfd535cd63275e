"""One graph from two shots to the tile: in OpenVINO, on a server, and the choice."""

import hashlib
import importlib.util
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="makes the graphs; in the test group")
pytest.importorskip("onnxruntime", reason="computes behind the server")
pytest.importorskip("tritonclient.grpc", reason="the client; in the test group")
if importlib.util.find_spec("openvino") is None:
    pytest.skip("openvino is one of the engines", allow_module_level=True)

from bifocus.edge.engine_choice import EngineWish, choose_fuser
from bifocus.edge.openvino_fuser import import_openvino
from bifocus.edge.whole_fuser import WholeFuser
from bifocus.edge.whole_onnx import WholeOnnxEngine
from bifocus.edge.whole_openvino import WholeOpenvinoEngine
from bifocus.edge.whole_server import WholeServerEngine
from bifocus.engine_manifest import load_manifest, manifest_path, write_manifest
from bifocus.errors import EngineError, EngineLostError
from bifocus.export.whole_pair import (
    measure_whole,
    onnx_whole_run,
    pack_whole_pair,
)
from tests.edge.kserve_server import WholeServicer, serving
from tests.edge.network_files import write_network
from tests.edge.test_whole_fuser import check_tile
from tests.edge.whole_files import (
    OPTICS,
    WIDER,
    make_whole_graph,
    whole_pair,
    whole_set,
    write_whole,
)

CONTENT = make_whole_graph()


def write_ir(folder: Path) -> Path:
    openvino = import_openvino(folder)
    source = folder / "source.onnx"
    source.write_bytes(CONTENT)
    graph = folder / "tiny.whole.xml"
    model = openvino.Core().read_model(str(source))
    openvino.save_model(model, str(graph), compress_to_fp16=False)
    write_whole(folder, graph.name, content=graph.read_bytes(), kind="openvino")
    found = load_manifest(graph)
    weights = graph.with_suffix(".bin")
    weight_hash = hashlib.sha256(weights.read_bytes()).hexdigest()
    files = {**found.files, weights.name: weight_hash}
    write_manifest(found.model_copy(update={"files": files}), manifest_path(graph))
    return graph


@pytest.mark.parametrize("write", [write_whole, write_ir], ids=["onnx", "ir"])
def test_openvino_fuses_with_the_optics_of_each_pair(
    tmp_path: Path, write: Any
) -> None:
    fuser = choose_fuser(str(write(tmp_path)), EngineWish(engine="openvino"))
    assert fuser.model == "tiny, physics inside"
    assert fuser.engine.startswith("openvino ")
    tiles = []
    for optics in (OPTICS, WIDER, OPTICS):
        tiles.append(fuser.fuse(whole_pair(optics)))
        check_tile(tiles[-1], whole_pair(optics))
    # What was given away is not overwritten by the next pair.
    np.testing.assert_array_equal(tiles[0].pixels, tiles[2].pixels)
    assert (tiles[0].pixels != tiles[1].pixels).any()
    fuser.close()
    fuser.close()
    with pytest.raises(EngineError, match="closed"):
        fuser.fuse(whole_pair())


def test_openvino_refuses_what_is_damaged_or_something_else(tmp_path: Path) -> None:
    path = write_ir(tmp_path)
    weights = path.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(EngineError, match=r"tiny.whole.bin: its SHA-256"):
        WholeOpenvinoEngine(path)
    cut = write_whole(tmp_path, "cut.whole.onnx", content=CONTENT[:-40])
    with pytest.raises(EngineError, match=r"cut.*OpenVINO cannot read it.*bifocus ex"):
        WholeOpenvinoEngine(cut)
    with pytest.raises(EngineError, match="not two shots of one size"):
        WholeOpenvinoEngine(write_network(tmp_path))


def write_served(folder: Path, **changes: Any) -> Path:
    """Write graph, manifest and test pair, as `bifocus export --whole` does."""
    one = whole_set()
    pair = pack_whole_pair([one])
    (folder / "pair.npz").write_bytes(pair)
    words: Any = {"subject": "it", "against": "numpy", "device": "CPU"}
    report = measure_whole(onnx_whole_run(CONTENT), one, **words, precision="fp32")
    assert report.passed
    path = write_whole(folder, parity=(report,), test_pair="pair.npz", **changes)
    found = load_manifest(path)
    files = {**found.files, "pair.npz": hashlib.sha256(pair).hexdigest()}
    write_manifest(found.model_copy(update={"files": files}), manifest_path(path))
    return path


@pytest.fixture
def servicer() -> WholeServicer:
    return WholeServicer(CONTENT)


@pytest.fixture
def address(servicer: WholeServicer) -> Iterator[str]:
    with serving(servicer) as port:
        yield f"127.0.0.1:{port}"


def test_a_server_gives_bit_equal_tiles(tmp_path: Path, address: str) -> None:
    path = write_served(tmp_path)
    fuser = choose_fuser(str(path), EngineWish(engine="server", server=address))
    assert fuser.engine == f"server {address}, loopback, version 1"
    here = WholeFuser(WholeOnnxEngine(path))
    for optics in (OPTICS, WIDER, OPTICS):
        measured = whole_pair(optics)
        far, near = fuser.fuse(measured), here.fuse(measured)
        np.testing.assert_array_equal(far.pixels, near.pixels)
        assert far.offset == near.offset
        assert far.quality == near.quality
        check_tile(far, measured)
    fuser.close()
    with pytest.raises(EngineError, match="closed"):
        fuser.fuse(whole_pair())


def test_mutation_a_server_that_swaps_the_pair_is_refused(
    tmp_path: Path, address: str, servicer: WholeServicer
) -> None:
    servicer.shots = ("plus", "minus")
    with pytest.raises(EngineError, match="differs from the exported network by up to"):
        WholeServerEngine(write_served(tmp_path), address, deadline_s=20)


def test_mutation_a_server_that_reads_another_offset_is_refused(
    tmp_path: Path, address: str, servicer: WholeServicer
) -> None:
    """The picture is right; only the number beside it is not."""
    run = servicer.session.run

    class Lying:
        get_inputs = servicer.session.get_inputs
        get_outputs = servicer.session.get_outputs

        def run(self, names: list[str], feeds: Any) -> Any:
            found = run(names, feeds)
            place = names.index("offset_um")
            found[place] = found[place] + np.float32(0.02)
            return found

    servicer.session = Lying()
    with pytest.raises(EngineError, match=r"focal offset differs by 0\.0200 um"):
        WholeServerEngine(write_served(tmp_path), address, deadline_s=20)


def test_a_server_with_other_tables_or_gone_is_told(tmp_path: Path) -> None:
    path = write_served(tmp_path)
    with serving(WholeServicer(CONTENT)) as port:
        engine = WholeServerEngine(path, f"127.0.0.1:{port}", deadline_s=20)
    engine.served.deadline_s = 0.3
    shots = {"minus": whole_pair().minus, "plus": whole_pair().plus}
    with pytest.raises(EngineLostError, match="see whether the server runs"):
        engine.fuse_pair(shots)
    engine.close()


def test_where_the_engine_is_open_the_cheaper_one_is_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    whole, alone = write_whole(tmp_path), write_network(tmp_path)
    fuser = choose_fuser(str(whole))
    assert fuser.engine.startswith("openvino ")
    assert "the network alone, its physics by NumPy, is cheaper" in caplog.text
    fuser.close()
    caplog.clear()
    listed = f"files: [{whole.name}, {alone.name}]"
    (tmp_path / "default.yaml").write_text(listed, encoding="utf-8")
    fuser = choose_fuser(str(tmp_path))
    assert fuser.model == "tiny"
    assert "costs more than NumPy's" in caplog.text
    fuser.close()
    forced = choose_fuser(str(whole), EngineWish(engine="onnxruntime"))
    assert forced.engine.startswith("onnxruntime ")
    forced.close()
