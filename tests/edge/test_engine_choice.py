"""Which engine runs, what it says about it, and who takes over when it fails."""

import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from bifocus.config import Scan
from bifocus.edge import engine_choice
from bifocus.edge.engine_chain import Candidate, EngineChain
from bifocus.edge.engine_choice import EngineWish, choose_fuser
from bifocus.edge.fusers import Fuser, PhysicsFuser
from bifocus.errors import ConfigError, EngineError, EngineLostError
from bifocus.focal_offset import PairOptics
from bifocus.physics_fusion import MeasuredPair
from bifocus.records import FusedTile

pytest.importorskip("onnx", reason="makes the graphs; in the test group")
pytest.importorskip("onnxruntime", reason="one of the engines")

from tests.edge.network_files import OPTICS, measured_pair, write_network

WIDE = replace(OPTICS, half_spacing_um=2.5)


class Scripted(PhysicsFuser):
    """Refuses optics, or fails after some tiles, as told."""

    def __init__(
        self, name: str, *, works: int = 10**6, refuses: PairOptics | None = None
    ) -> None:
        self.model = name
        self.engine = f"{name} 1.0"
        self._works = works
        self._refuses = refuses
        self.closed = 0

    def check_optics(self, optics: PairOptics) -> None:
        refused = self._refuses
        if refused and optics.half_spacing_um == refused.half_spacing_um:
            raise EngineError(f"{self.model} was not trained for this")

    def fuse(self, measured: MeasuredPair) -> FusedTile:
        self._works -= 1
        if self._works < 0:
            raise EngineLostError(f"{self.model} lost its GPU")
        return super().fuse(measured)

    def close(self) -> None:
        self.closed += 1


def chain(*fusers: Fuser | Exception, on_failure: Any = "stop") -> EngineChain:
    def opener(fuser: Fuser | Exception) -> Callable[[], Fuser]:
        def make() -> Fuser:
            if isinstance(fuser, Exception):
                raise fuser
            return fuser

        return make

    candidates = [
        Candidate(name=str(number), open=opener(fuser))
        for number, fuser in enumerate(fusers)
    ]
    return EngineChain(candidates, on_failure)


def test_the_first_that_opens_runs_and_the_log_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    with_gpu = EngineError("no module named tensorrt")
    chosen = chain(with_gpu, Scripted("onnx"), Scripted("never"))
    assert (chosen.model, chosen.engine) == ("onnx", "onnx 1.0")
    assert [record.getMessage() for record in caplog.records] == [
        "engine 0: not taken: no module named tensorrt",
        "engine 1: runs onnx on onnx 1.0",
    ]


def test_none_that_opens_gives_every_reason() -> None:
    with pytest.raises(EngineError, match="no GPU; no file"):
        chain(EngineError("no GPU"), EngineError("no file"))


def test_a_failure_stops_by_default() -> None:
    fuser = Scripted("onnx", works=1)
    chosen = chain(fuser, Scripted("next"))
    chosen.fuse(measured_pair())
    with pytest.raises(EngineLostError, match=r"GPU.*kept.*on_engine_failure: next"):
        chosen.fuse(measured_pair())
    assert chosen.faults == ()
    chosen.close()
    assert fuser.closed == 1


def test_the_next_one_takes_over_with_a_record() -> None:
    first, broken = Scripted("a", works=1), EngineError("b has no driver")
    second, third = Scripted("c", works=1), Scripted("d")
    chosen = chain(first, broken, second, third, on_failure="next")
    tiles = [chosen.fuse(measured_pair()) for _ in range(3)]
    assert (tiles[0].pixels == tiles[2].pixels).all()
    assert (first.closed, second.closed, third.closed) == (1, 1, 0)
    assert chosen.model == "d"
    assert chosen.faults == (
        "engine a, a 1.0 failed (a lost its GPU); c, c 1.0 went on",
        "engine c, c 1.0 failed (c lost its GPU); d, d 1.0 went on",
    )


def test_with_nobody_left_the_failure_is_raised() -> None:
    chosen = chain(Scripted("a", works=0), on_failure="next")
    with pytest.raises(EngineLostError, match="a lost its GPU"):
        chosen.fuse(measured_pair())
    chosen.close()


def test_optics_that_one_refuses_go_to_the_next() -> None:
    first = Scripted("a", refuses=OPTICS)
    chosen = chain(first, Scripted("b"))
    assert chosen.model == "a"
    chosen.fuse(measured_pair())
    assert (chosen.model, chosen.faults, first.closed) == ("b", (), 1)
    alone = chain(Scripted("a", refuses=OPTICS))
    with pytest.raises(EngineError, match="not trained for this"):
        alone.check_optics(OPTICS)


def test_auto_is_physics_where_nothing_is_shipped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(engine_choice, "files", lambda _: tmp_path)
    assert choose_fuser().model == "physics"
    assert choose_fuser("physics").model == "physics"
    assert choose_fuser("physics-joint").model == "physics-joint"
    with pytest.raises(EngineError, match=r"no network is shipped.*--engine openvino"):
        choose_fuser("auto", EngineWish(engine="openvino"))


def shipped(folder: Path, *names: str) -> Path:
    weights = folder / "data" / "weights"
    weights.mkdir(parents=True)
    for name in names:
        write_network(weights, name)
    (weights / "default.yaml").write_text(yaml.safe_dump({"files": list(names)}))
    return weights


def test_auto_is_the_shipped_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shipped(tmp_path, "tiny.onnx")
    monkeypatch.setattr(engine_choice, "files", lambda _: tmp_path)
    chosen = choose_fuser()
    assert chosen.model == "tiny"
    # Not trained for such a pair: physics does it, and the log says why.
    chosen.check_optics(WIDE)
    assert chosen.model == "physics"


def test_a_named_network_is_never_replaced_by_physics(tmp_path: Path) -> None:
    path = write_network(tmp_path)
    chosen = choose_fuser(str(path), EngineWish(on_failure="next"))
    assert chosen.model == "tiny"
    with pytest.raises(EngineError, match="trained for"):
        chosen.check_optics(WIDE)


def test_but_physics_goes_on_where_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_network(tmp_path)
    wish = EngineWish(engine="onnxruntime", on_failure="next")
    chosen = choose_fuser(str(path), wish)
    session = chosen._running._engine._session  # type: ignore[attr-defined]
    monkeypatch.setattr(
        type(session),
        "run_with_iobinding",
        lambda *_: (_ for _ in ()).throw(RuntimeError("out of memory")),
    )
    chosen.fuse(measured_pair())
    assert chosen.model == "physics"
    assert "ONNX Runtime failed" in chosen.faults[0]


def test_a_forced_engine_that_is_missing_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_network(tmp_path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineError, match=r"pip install 'bifocus\[onnxruntime\]'"):
        choose_fuser(str(path), EngineWish(engine="onnxruntime"))


@pytest.mark.parametrize(
    ("model", "engine"),
    [
        ("tiny.onnx", "physics"),
        ("physics", "onnxruntime"),
        ("physics-joint", "openvino"),
    ],
)
def test_a_contradiction_is_a_mistake_of_usage(model: str, engine: Any) -> None:
    with pytest.raises(ConfigError, match="contradict"):
        choose_fuser(model, EngineWish(engine=engine))


def test_an_engine_for_other_files_is_refused(tmp_path: Path) -> None:
    path = write_network(tmp_path)
    with pytest.raises(EngineError, match=r"tensorrt runs files of kind"):
        choose_fuser(str(path), EngineWish(engine="tensorrt"))


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(
        EngineError, match=r"physics, physics-joint, a file NAME\.onnx.*default\.yaml"
    ):
        choose_fuser("magic")


@pytest.mark.parametrize(
    ("text", "error", "reason"),
    [
        (None, EngineError, "no default.yaml"),
        ("files: []", ConfigError, "files"),
        ("files: [../../etc/passwd]", ConfigError, "files"),
        ("filles: [a.onnx]", ConfigError, "files"),
        ("files: [", ConfigError, "cannot read it"),
    ],
)
def test_a_folder_needs_its_list(
    tmp_path: Path, text: str | None, error: type[Exception], reason: str
) -> None:
    if text is not None:
        (tmp_path / "default.yaml").write_text(text)
    with pytest.raises(error, match=reason):
        choose_fuser(str(tmp_path))


LIGHT = """
import importlib, pkgutil, sys
import bifocus.edge
for module in pkgutil.iter_modules(bifocus.edge.__path__, "bifocus.edge."):
    importlib.import_module(module.name)
heavy = {"torch", "onnx", "onnxruntime", "openvino", "tritonclient", "grpc", "cuda",
         "pycuda", "tensorrt", "tensorrt_rtx", "tensorrt_bindings"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
READY = """
import sys, time
from bifocus.edge.engine_choice import EngineWish, choose_fuser
start_s = time.process_time()
fuser = choose_fuser(sys.argv[1], EngineWish(engine=sys.argv[2]))
print(time.process_time() - start_s)
fuser.close()
"""


def run_fresh(code: str, *arguments: str) -> str:
    """Run code in a new process, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_no_engine_is_imported_before_it_is_asked_for() -> None:
    run_fresh(LIGHT)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_an_engine_is_ready_in_two_seconds(tmp_path: Path, engine: str) -> None:
    """Of the process's own time: a busy machine only adds waiting."""
    pytest.importorskip("onnxruntime")
    assert float(run_fresh(READY, str(write_network(tmp_path)), engine)) < 2.0


def test_the_weights_are_packaged_data() -> None:
    root = Path(__file__).parents[2]
    link = root / "bifocus" / "data" / "weights"
    assert link.samefile(root / "weights")
    assert not link.readlink().is_absolute()
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    for suffix in ("yaml", "json", "onnx", "xml", "bin", "npz"):
        assert f'"data/weights/*.{suffix}"' in text


def test_the_command_line_goes_before_the_file() -> None:
    scan = Scan(engine="openvino", on_engine_failure="next", server="gpu:8001")
    wish = EngineWish.of(scan)
    assert (wish.engine, wish.on_failure, wish.server) == (
        "openvino",
        "next",
        "gpu:8001",
    )
    assert EngineWish.of(scan, "physics").engine == "physics"
