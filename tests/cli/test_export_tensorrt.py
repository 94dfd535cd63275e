"""`bifocus export --to tensorrt` of an exported graph: no torch, GPU or false claim."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="makes the graph; in the test group")

from tests.cli.commands import run_cli
from tests.export.real_tensorrt import need_tensorrt_rtx
from tests.export.test_tensorrt_engine import Bench


@pytest.fixture(scope="module", autouse=True)
def _rtx() -> None:
    need_tensorrt_rtx()


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("tensorrt", "tensorrt_bindings"):
        monkeypatch.setitem(sys.modules, name, None)
    return Bench(tmp_path).graph


def export(graph: Path, *options: object) -> list[object]:
    out = graph.parent / "engines"
    return ["export", graph, "-o", out, "--to", "tensorrt", *options]


def test_a_graph_becomes_an_engine_that_says_it_never_ran(graph: Path) -> None:
    size = ("--precision", "fp16", "--tile", 64, 96)
    outcome = run_cli(*export(graph, *size, "--json"))
    assert outcome.code == 0, outcome.err
    document = outcome.document
    assert not document["verified"]
    assert document["parity"] is None
    assert document["never_run_on"] == ["any GPU"]
    assert document["audit"] == {"CONVOLUTION float16": 2}
    engine = Path(document["files"][0])
    assert engine.name == "base.fp16.96x64.engine"
    assert engine.stat().st_size > 10_000
    assert "steps of the build" in outcome.err
    assert "not there yet" in outcome.err
    again = run_cli(*export(graph, *size))
    assert again.code == 0, again.err
    assert "was built for this machine already" in again.err
    assert "UNVERIFIED" in again.out
    assert "parity" not in again.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--precision", "fp16"), "--tile H W"),
        (("--precision", "int8", "--tile", 64, 96), "is fp16: say --precision fp16"),
        (("--precision", "fp16", "--tile", 60, 96), "nearest legal side is 64 px"),
    ],
)
def test_what_cannot_be_is_a_usage_error(
    graph: Path, options: tuple[object, ...], words: str
) -> None:
    assert run_cli(*export(graph, *options)).fails(2, words)
    assert not (graph.parent / "engines").exists()


def test_a_changed_graph_and_one_without_manifest_are_refused(graph: Path) -> None:
    size = ("--precision", "fp16", "--tile", 64, 96)
    graph.write_bytes(graph.read_bytes()[:-1])
    assert run_cli(*export(graph, *size)).fails(1, "SHA-256", "Mend")
    stray = graph.with_name("stray.onnx")
    stray.write_bytes(b"x")
    assert run_cli(*export(stray, *size)).fails(1, "no such manifest")


def test_a_board_needs_no_torch() -> None:
    """Building from a graph imports neither torch nor the code that trains."""
    probe = (
        "import sys; sys.modules['torch'] = None\n"
        "import bifocus.engine_job\n"
        "assert not [m for m in sys.modules if m.startswith('bifocus.model')]"
    )
    subprocess.run([sys.executable, "-c", probe], check=True)
