"""Import of TensorRT: each known way to fail is explained; versions are judged."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bifocus.errors import EngineError
from bifocus.tensorrt_module import (
    Flavour,
    check_version,
    is_rtx,
    load_tensorrt,
    parse_version,
)


@pytest.fixture
def fake_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write a package `tensorrt` with the body that is given, first on the path."""

    def write(body: str) -> None:
        (tmp_path / "tensorrt.py").write_text(body, encoding="utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "tensorrt", raising=False)

    yield write
    sys.modules.pop("tensorrt", None)


def test_the_module_of_a_fitting_version_is_returned(fake_package: Any) -> None:
    fake_package('__version__ = "10.3.0"')
    assert load_tensorrt("tensorrt").__version__ == "10.3.0"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            # The bindings' own words without their libraries.
            'raise ImportError("libnvonnxparser.so.11: cannot open shared object '
            'file: No such file or directory")',
            r"libnvonnxparser.so.11 cannot be loaded: .*separate packages",
        ),
        (
            # A JetPack 7 container, frigate pull request 23582.
            'raise OSError("libnvdla_compiler.so: cannot open shared object file: '
            'No such file or directory")',
            "nvidia-l4t-dla-compiler",
        ),
        (
            'raise ImportError("libcuda.so.1: cannot open shared object file: No")',
            "NVIDIA driver",
        ),
        (
            'raise ImportError("libcudart.so.12: cannot open shared object file: No")',
            "CUDA toolkit",
        ),
        ('raise OSError("/x.so: invalid ELF header")', "invalid ELF header"),
        ('__version__ = "8.6.1"', r"8\.6\.1 is too old, at least 10\.3.*JetPack 6\.1"),
        ('__version__ = "10.2.0"', "too old"),
        ('__version__ = "12.0.0"', "newer than"),
        ('__version__ = "soon"', "no version"),
    ],
)
def test_each_trouble_is_one_sentence_with_a_way_out(
    fake_package: Any, body: str, words: str
) -> None:
    fake_package(body)
    with pytest.raises(EngineError, match=words):
        load_tensorrt("tensorrt")


def test_what_is_not_installed_is_said_with_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_bindings", None)
    with pytest.raises(EngineError, match=r"not installed; on a Jetson.*system-site"):
        load_tensorrt("tensorrt")


@pytest.mark.parametrize(
    ("flavour", "version"),
    [("tensorrt", "10.3.0"), ("tensorrt", "11.4.0.106"), ("tensorrt_rtx", "1.7.1.116")],
)
def test_supported_versions_pass(flavour: Flavour, version: str) -> None:
    module: Any = SimpleNamespace(__version__=version)
    check_version(module, flavour)
    assert parse_version(version) == tuple(int(n) for n in version.split(".")[:2])


def test_rtx_is_told_by_what_only_it_has() -> None:
    rtx: Any = SimpleNamespace(ComputeCapability=object())
    plain: Any = SimpleNamespace()
    assert is_rtx(rtx)
    assert not is_rtx(plain)
