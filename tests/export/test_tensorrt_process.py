"""A build's death in its own process is a message here; nothing is left behind."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from bifocus.cuda_device import CudaDevice
from bifocus.errors import ConfigError, EngineError
from bifocus.export.tensorrt_audit import Claim
from bifocus.export.tensorrt_process import (
    MOST_WORKSPACE_BYTES,
    BuildRequest,
    build_in_child,
    explain_death,
    plan_workspace_bytes,
)
from bifocus.export.tensorrt_profile import BuildOptions
from tests.export.real_tensorrt import need_tensorrt_rtx
from tests.export.uint8_graphs import IMAGES, two_shot_graph

ROOT = Path(__file__).parents[2]
DOUBLE = """
import os, signal, sys
from tests.export.tensorrt_double import FakeTensorRT, inspection
_fake = FakeTensorRT("tensorrt-10.3.0", inspection=inspection("tensorrt-10.3.0", KIND))
__version__ = _fake.__version__
def __getattr__(name):
    return getattr(_fake, name)
"""


def make_request(**changes: Any) -> BuildRequest:
    options = BuildOptions(
        claim=Claim(precision="fp16", images=IMAGES),
        height_px=64,
        width_px=96,
        stride_px=8,
        workspace_bytes=1 << 28,
    )
    values: dict[str, Any] = {"flavour": "tensorrt", "graph": b"x", "options": options}
    return BuildRequest(**{**values, **changes})


@pytest.fixture
def fake_tensorrt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give the child a module `tensorrt` made of the stand-in and the text given."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr("tempfile.tempdir", None)

    def write(body: str = "", kind: str = "float16") -> None:
        text = DOUBLE.replace("KIND", repr(kind)) + body
        (tmp_path / "tensorrt.py").write_text(text, encoding="utf-8")
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))

    yield write
    assert list(scratch.iterdir()) == []  # whatever happened, the folder is gone


def test_the_child_builds_and_tells_its_steps(fake_tensorrt: Any) -> None:
    # TensorRT prints as it likes; that must not be taken for an event.
    fake_tensorrt("print('[TRT] loading'); sys.stderr.write('warning')\n")
    steps: list[tuple[str, int, int]] = []
    built = build_in_child(
        make_request(timing_cache=b"old"), on_progress=lambda *s: steps.append(s)
    )
    assert built.plan == b"plan of tensorrt-10.3.0"
    assert built.timing_cache == b"old+timed"
    assert built.audit == {"CONVOLUTION float16": 1, "kernel float16": 1}
    assert steps == [("Building", 0, 2), ("Building", 1, 2), ("Building", 2, 2)]


@pytest.mark.parametrize(
    ("death", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", r"was killed.*memory.*add swap"),
        ("sys.stderr.write('bad driver'); os.abort()", r"SIGABRT.*printed: bad driver"),
        ("os._exit(3)", r"ended with code 3 and no result"),
        ("os._exit(0)", r"ended with code 0 and no result"),
    ],
)
def test_a_child_that_dies_is_explained(
    fake_tensorrt: Any, death: str, words: str
) -> None:
    fake_tensorrt(f"def Builder(logger):\n    {death}\n")
    with pytest.raises(EngineError, match=words):
        build_in_child(make_request())


def test_an_error_of_the_child_is_raised_here_as_it_was(fake_tensorrt: Any) -> None:
    fake_tensorrt(kind="float32")
    with pytest.raises(EngineError, match="claims fp16, but its kernels are"):
        build_in_child(make_request())


def test_ctrl_c_here_stops_the_child(fake_tensorrt: Any) -> None:
    fake_tensorrt()
    started: list[str] = []

    def interrupt(phase: str, _done: int, _total: int) -> None:
        started.append(phase)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_in_child(make_request(), on_progress=interrupt)
    assert started == ["Building"]


def test_the_real_builder_runs_in_the_child() -> None:
    need_tensorrt_rtx()
    options = make_request().options
    request = make_request(flavour="tensorrt_rtx", graph=two_shot_graph())
    with pytest.raises(EngineError, match="cannot load the engine"):
        build_in_child(request)  # it is loaded to be inspected, and there is no GPU
    blind = BuildOptions(
        claim=options.claim,
        height_px=64,
        width_px=96,
        stride_px=8,
        workspace_bytes=1 << 28,
        can_run=False,
    )
    built = build_in_child(
        make_request(flavour="tensorrt_rtx", graph=two_shot_graph(), options=blind)
    )
    assert built.audit == {"CONVOLUTION float16": 2}
    assert len(built.plan) > 10_000


@pytest.mark.parametrize(
    ("code", "words"),
    [(-signal.SIGKILL, "memory"), (-signal.SIGSEGV, "SIGSEGV"), (1, "code 1")],
)
def test_a_death_has_a_sentence(code: int, words: str) -> None:
    assert words in explain_death(code, "")
    assert explain_death(code, "a\nb").endswith("It printed: a b")


def test_the_workspace_is_half_of_what_is_free_within_bounds() -> None:
    def device(free_bytes: int) -> CudaDevice:
        return CudaDevice(
            name="x",
            compute_capability="8.7",
            driver="CUDA 12.6",
            is_integrated=True,
            total_bytes=8 << 30,
            free_bytes=free_bytes,
        )

    assert plan_workspace_bytes(device(2 << 30)) == 1 << 30
    assert plan_workspace_bytes(device(99 << 30)) == MOST_WORKSPACE_BYTES
    with pytest.raises(EngineError, match=r"only 100 MiB .* 512 MiB .*add swap"):
        plan_workspace_bytes(device(100 << 20))
    assert 0 < plan_workspace_bytes(None) <= MOST_WORKSPACE_BYTES


def test_a_wrong_size_never_starts_a_child() -> None:
    with pytest.raises(ConfigError, match="stride"):
        BuildOptions(
            claim=Claim(precision="fp16"),
            height_px=63,
            width_px=96,
            stride_px=8,
            workspace_bytes=1,
        )
