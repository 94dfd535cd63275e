"""A model server on the loopback: bit-equal tiles, deadlines, wrong models."""

import hashlib
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tritonclient.grpc", reason="the client; in the test group")
pytest.importorskip("onnx", reason="makes the graphs; in the test group")
pytest.importorskip("onnxruntime", reason="computes behind the server")

from bifocus.edge.network_fuser import NetworkFuser
from bifocus.edge.network_inputs import pair_pictures
from bifocus.edge.network_windows import plan_windows
from bifocus.edge.server_fuser import ServerEngine
from bifocus.engine_manifest import (
    ParityReport,
    ParityTolerance,
    manifest_path,
    write_manifest,
)
from bifocus.errors import ConfigError, EngineError, EngineLostError
from bifocus.physics_fusion import fuse_measured
from tests.edge.kserve_server import Servicer, serving
from tests.edge.network_files import (
    INPUTS,
    make_graph,
    make_manifest,
    measured_pair,
    random_pictures,
    run_whole,
)

CONTENT = make_graph()
PARITY = ParityReport(
    subject="ONNX Runtime",
    against="PyTorch fp32",
    pictures="test pair",
    device="CPU",
    psnr_db=99,
    differing=0,
    max=0,
    nan=0,
    tolerance=ParityTolerance(max=1, differing=0.001, psnr_db=75),
    passed=True,
)


def write_served(folder: Path, **changes: Any) -> Path:
    """Write graph, manifest and test pair, as `bifocus export` does."""
    pictures = random_pictures((80, 72), seed=5)
    arrays: dict[str, Any] = {
        f"0:test pair:{name}": part[None] for name, part in pictures.items()
    }
    arrays["0:test pair:fused"] = run_whole(CONTENT, pictures)[None]
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    contents = {"tiny.onnx": CONTENT, "tiny.test.npz": buffer.getvalue()}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    values: dict[str, Any] = {
        "files": {
            name: hashlib.sha256(content).hexdigest()
            for name, content in contents.items()
        },
        "test_pair": "tiny.test.npz",
        "parity": (PARITY,),
        **changes,
    }
    path = folder / "tiny.onnx"
    write_manifest(make_manifest(CONTENT, **values), manifest_path(path))
    return path


@pytest.fixture
def servicer() -> Servicer:
    return Servicer(CONTENT)


@pytest.fixture
def port(servicer: Servicer) -> Iterator[int]:
    with serving(servicer) as bound:
        yield bound


def connect(folder: Path, port: int, *, deadline_s: float = 20, **changes: Any) -> Any:
    path = write_served(folder, **changes)
    return ServerEngine(path, f"127.0.0.1:{port}", deadline_s=deadline_s)


def test_tiles_are_bit_equal(tmp_path: Path, port: int) -> None:
    engine = connect(tmp_path, port)
    pictures = random_pictures((130, 96))
    plan = plan_windows(engine.form, (130, 96), most_window_px=3000)
    np.testing.assert_array_equal(
        plan.join(engine.stream(plan.cut(pictures)), (130, 96)),
        run_whole(CONTENT, pictures),
    )
    assert engine.name == f"server 127.0.0.1:{port}, loopback, version 1"
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="connection is closed"):
        list(engine.stream([pictures]))


def test_a_pair_comes_out_as_from_the_graph(tmp_path: Path, port: int) -> None:
    measured = measured_pair()
    pictures = pair_pictures(
        measured, fuse_measured(measured, colours="together"), INPUTS
    )
    fuser = NetworkFuser(connect(tmp_path, port))
    np.testing.assert_array_equal(
        fuser.fuse(measured).pixels, run_whole(CONTENT, pictures)
    )
    fuser.close()


def test_megabytes_pass(tmp_path: Path, port: int, servicer: Servicer) -> None:
    """gRPC's own limit is 4 MB; a window of a full frame has three times that."""
    engine = connect(tmp_path, port)
    servicer.compute = lambda pictures: pictures["plus"]
    big = random_pictures((1024, 1400))
    (pixels,) = engine.stream([big])
    np.testing.assert_array_equal(pixels, big["plus"])
    engine.close()


def test_a_deadline_is_kept(tmp_path: Path, port: int, servicer: Servicer) -> None:
    engine = connect(tmp_path, port)
    engine.served.deadline_s = 0.2
    servicer.let_go.clear()
    with pytest.raises(EngineLostError, match=r"no answer in 0\.2 s"):
        list(engine.stream([random_pictures((64, 64))]))
    servicer.let_go.set()
    engine.served.deadline_s = 20
    assert len(list(engine.stream([random_pictures((64, 64))]))) == 1
    engine.close()


def test_a_server_that_is_starting_is_asked_again(
    tmp_path: Path, port: int, servicer: Servicer
) -> None:
    engine = connect(tmp_path, port)
    before = servicer.requests
    servicer.refusals = 2
    (pixels,) = engine.stream([random_pictures((64, 64))])
    np.testing.assert_array_equal(pixels, run_whole(CONTENT, random_pictures((64, 64))))
    assert servicer.requests == before + 3
    engine.close()


@pytest.mark.slow
def test_a_server_gone_and_back_within_the_deadline(tmp_path: Path) -> None:
    servicer = Servicer(CONTENT)
    with serving(servicer) as port:
        engine = connect(tmp_path, port)
    results: list[Any] = []
    asking = threading.Thread(
        target=lambda: results.extend(engine.stream([random_pictures((64, 64))]))
    )
    asking.start()
    asking.join(0.3)
    assert asking.is_alive(), "it gave up at once"
    with serving(servicer, port):
        asking.join(20)
    engine.close()
    np.testing.assert_array_equal(
        results[0], run_whole(CONTENT, random_pictures((64, 64)))
    )


def test_a_server_gone_for_good_is_a_lost_engine(tmp_path: Path) -> None:
    with serving(Servicer(CONTENT)) as port:
        engine = connect(tmp_path, port)
    engine.served.deadline_s = 0.3
    with pytest.raises(EngineLostError, match="see whether the server runs"):
        list(engine.stream([random_pictures((64, 64))]))
    engine.close()
    with pytest.raises(EngineError, match=r"no answer in 0\.1 s"):
        connect(tmp_path, port, deadline_s=0.1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": "other"}, "the server has no such model"),
        (
            {"inputs": ("minus", "plus", "sharper")},
            r"it has sharper.*Mend: bifocus exp",
        ),
        ({"datatype": "FP32"}, "it has minus .float32 NHWC"),
    ],
)
def test_metadata_that_does_not_fit(
    tmp_path: Path, port: int, servicer: Servicer, change: Any, reason: str
) -> None:
    for key, value in change.items():
        setattr(servicer, key, value)
    with pytest.raises(EngineError, match=reason):
        connect(tmp_path, port)


def recoloured(pictures: Any) -> Any:
    return {
        name: np.ascontiguousarray(part[..., ::-1]) for name, part in pictures.items()
    }


def run(pictures: Any) -> Any:
    return run_whole(CONTENT, dict(pictures))


@pytest.mark.parametrize(
    "compute",
    [
        lambda part: run_whole(make_graph(seed=1), dict(part)),
        lambda part: run({**part, "minus": part["plus"], "plus": part["minus"]}),
        lambda part: run(recoloured(part)),
        lambda part: run(part)[::-1],
    ],
    ids=["another network", "swapped pair", "blue first", "upside down"],
)
def test_mutation_a_server_that_computes_something_else_is_refused(
    tmp_path: Path, port: int, servicer: Servicer, compute: Any
) -> None:
    """Names, types and shapes are right; only the pixels tell."""
    servicer.compute = compute
    with pytest.raises(EngineError, match="differs from the exported network by up to"):
        connect(tmp_path, port)


def test_mutation_a_missing_halo_is_refused(tmp_path: Path, port: int) -> None:
    with pytest.raises(EngineError, match="differs from the exported network"):
        connect(tmp_path, port, halo_px=2)


def test_without_a_test_pair_nothing_is_believed(tmp_path: Path, port: int) -> None:
    with pytest.raises(EngineError, match="came without a test pair"):
        connect(tmp_path, port, test_pair=None)
    path = write_served(tmp_path)
    (tmp_path / "tiny.test.npz").write_bytes(b"PK")
    with pytest.raises(EngineError, match=r"tiny\.test\.npz: its SHA-256"):
        ServerEngine(path, f"127.0.0.1:{port}", deadline_s=20)


def test_an_answer_of_another_shape_is_refused(
    tmp_path: Path, port: int, servicer: Servicer
) -> None:
    engine = connect(tmp_path, port)
    servicer.compute = lambda part: part["plus"][:10]
    with pytest.raises(EngineLostError, match=r"gave uint8 \(1, 10, 64, 3\), expected"):
        list(engine.stream([random_pictures((64, 64))]))
    engine.close()


def test_no_address_is_a_mistake_of_usage(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--server HOST:PORT"):
        ServerEngine(write_served(tmp_path), None, deadline_s=1)


def test_without_the_client_the_text_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = __import__("sys").modules
    monkeypatch.setitem(modules, "tritonclient", None)
    monkeypatch.setitem(modules, "tritonclient.grpc", None)
    with pytest.raises(EngineError, match=r"pip install 'bifocus\[server\]'"):
        ServerEngine(write_served(tmp_path), "127.0.0.1:1", deadline_s=1)
