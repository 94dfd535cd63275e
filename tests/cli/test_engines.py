"""`--engine` and `--model`: what runs, and every mistake in asking for it."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="makes the graphs; in the test group")
pytest.importorskip("onnxruntime", reason="one of the engines")

from tests.cli.commands import run_cli, write_instrument
from tests.cli.pair_files import write_pairs
from tests.edge.network_files import write_network
from tests.imaging import MATCHED, shoot_incoherent
from tests.tissue import procedural_tissue


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import numpy as np

    rng = np.random.default_rng(1)
    pair = shoot_incoherent(procedural_tissue(160, seed=9), 0.5, 0.75, MATCHED, rng)
    return write_pairs(tmp_path_factory.mktemp("pairs"), {"field": pair})


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_the_wanted_engine_runs(pairs: Path, tmp_path: Path, engine: str) -> None:
    if find_spec(engine) is None:
        pytest.skip(f"{engine} is the engine under test")
    network = write_network(tmp_path)
    outcome = run_cli(
        *("fuse", "--pairs", pairs, "-o", tmp_path / "out"),
        *("--model", network, "--engine", engine, "--json"),
    )
    assert outcome.code == 0, outcome.err
    report = outcome.document
    assert report["engine"].startswith(engine)
    assert (report["model"], report["faults"]) == ("tiny", [])
    assert report["pairs"]["field"]["model"] == "tiny"
    stored = json.loads((tmp_path / "out" / "fuse.json").read_text(encoding="utf-8"))
    assert stored == report


def test_a_pair_of_other_optics_is_refused(pairs: Path, tmp_path: Path) -> None:
    wide = tmp_path / "wide"
    wide.mkdir()
    for path in pairs.iterdir():
        (wide / path.name).write_bytes(path.read_bytes())
    description = json.loads((wide / "pairs.json").read_text(encoding="utf-8"))
    description["half_spacing_um"] = 3.0
    (wide / "pairs.json").write_text(json.dumps(description), encoding="utf-8")
    arguments = ("fuse", "--pairs", wide, "-o", tmp_path / "out")
    outcome = run_cli(*arguments, "--model", write_network(tmp_path))
    assert outcome.fails(1, "half_spacing_um is 3", "trained for", "--model physics")
    assert not list((tmp_path / "out").iterdir())
    assert run_cli(*arguments, "--model", "physics").code == 0


def test_a_forced_engine_that_is_missing(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    outcome = run_cli(
        *("fuse", "--pairs", pairs, "-o", tmp_path / "out"),
        *("--model", write_network(tmp_path), "--engine", "onnxruntime"),
    )
    assert outcome.fails(1, "pip install 'bifocus[onnxruntime]'")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--engine", "server"), 2, "--server HOST:PORT"),
        (("--engine", "physics"), 2, "contradict"),
        (("--engine", "tensorrt"), 1, "runs files of kind .engine"),
        (("--engine", "cuda"), 2, "'cuda' is not one of"),
    ],
)
def test_mistakes_in_asking(
    pairs: Path, tmp_path: Path, arguments: tuple[str, str], code: int, words: str
) -> None:
    outcome = run_cli(
        *("fuse", "--pairs", pairs, "-o", tmp_path / "out"),
        *("--model", write_network(tmp_path), *arguments),
    )
    plain = " ".join(outcome.err.replace("│", " ").split())
    assert (outcome.code, outcome.out) == (code, "")
    assert words in plain


@pytest.mark.slow
def test_the_files_engine_runs_the_scan(tmp_path: Path) -> None:
    instrument = write_instrument(
        tmp_path / "small.yaml",
        scan={"engine": "onnxruntime", "region_um": [260.0, 200.0, 60.0, 60.0]},
    )
    network = write_network(tmp_path)
    scan = ("scan", instrument, "--model", network, "--json")
    outcome = run_cli(*scan, "-o", tmp_path / "scan")
    assert outcome.code == 0, outcome.err
    report = outcome.document
    assert report["model"] == "tiny"
    assert report["engine"].startswith("onnxruntime ")
    assert report["faults"] == []
    outcome = run_cli(*scan, "-o", tmp_path / "other", "--engine", "tensorrt")
    assert outcome.fails(1, "--engine tensorrt runs files of kind .engine")
    assert not (tmp_path / "other").exists()


def test_a_misspelt_engine_in_the_file(tmp_path: Path) -> None:
    instrument = write_instrument(
        tmp_path / "small.yaml", scan={"engine": "onxruntime"}
    )
    outcome = run_cli("plan", instrument)
    assert outcome.fails(2, "scan.engine", "onnxruntime")
