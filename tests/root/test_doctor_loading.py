"""Engines are loaded in a child: what it says, and what happens when it dies."""

import importlib.util
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from bifocus.doctor_loading import load_module, load_tensorrt_module
from bifocus.errors import EngineError


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose Python files the child can import."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def test_a_module_tells_its_version() -> None:
    assert load_module("numpy").__version__ == np.__version__


def test_a_module_that_is_not_there() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_engine") as caught:
        load_module("no_such_engine")
    assert caught.value.name == "no_such_engine"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import os; os.abort()", "crashes when it is loaded"),
        ("import os; os._exit(3)", "exit code 3"),
        ("raise OSError('libx.so.1: cannot open shared object file')", "libx.so.1"),
        ("print('chatty'); raise ImportError('no')", "no"),
    ],
)
def test_a_module_that_breaks(modules: Path, source: str, words: str) -> None:
    (modules / "broken_engine.py").write_text(source, encoding="utf-8")
    with pytest.raises(ImportError, match=words):
        load_module("broken_engine")
    assert "broken_engine" not in sys.modules


def test_openvino_starts_nothing_here() -> None:
    if importlib.util.find_spec("openvino") is None:  # importing would start a thread
        pytest.skip("needs OpenVINO")
    before = threading.active_count()
    assert load_module("openvino").__version__
    assert threading.active_count() == before


def test_an_old_tensorrt_is_an_engine_error(modules: Path) -> None:
    (modules / "tensorrt.py").write_text("__version__ = '8.6.1'", encoding="utf-8")
    with pytest.raises(EngineError, match=r"8\.6\.1 is too old"):
        load_tensorrt_module("tensorrt")


def test_an_absent_tensorrt_is_caused_by_its_absence(
    modules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "raise ModuleNotFoundError('no', name='tensorrt')"
    for name in ("tensorrt", "tensorrt_bindings"):
        (modules / f"{name}.py").write_text(text, encoding="utf-8")
    with pytest.raises(EngineError, match="not installed") as caught:
        load_tensorrt_module("tensorrt")
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
