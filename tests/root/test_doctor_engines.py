"""The doctor's reading of import errors, each as a real machine has said it."""

import types
from collections.abc import Callable

import pytest

from bifocus.config import EngineName
from bifocus.doctor_engines import (
    diagnose_client,
    diagnose_cuda_python,
    diagnose_gpu,
    diagnose_onnxruntime,
    diagnose_openvino,
    diagnose_packages,
    diagnose_tensorrt,
    diagnose_wish,
)
from bifocus.errors import EngineError
from bifocus.tensorrt_module import Flavour, check_version, explain_import
from tests.root.machines import states

NO_CUDA = "libcuda.so.1: cannot open shared object file: No such file or directory"
NO_PARSER = (
    "libnvonnxparser.so.11: cannot open shared object file: No such file or directory"
)
NO_DLA = (
    "libnvdla_compiler.so: cannot open shared object file: No such file or directory"
)

NO_MODULE = ModuleNotFoundError("No module named 'openvino'", name="openvino")


def raising(error: Exception) -> Callable[[str], types.ModuleType]:
    def load(name: str) -> types.ModuleType:
        raise error

    return load


def module(version: str) -> Callable[[str], types.ModuleType]:
    found = types.ModuleType("stand_in")
    found.__version__ = version  # type: ignore[attr-defined]
    return lambda name: found


def tensorrt_of(
    trouble: str | Exception, *, board: str = "", venv_is_closed: bool = False
) -> tuple[str, str, str]:
    """Diagnose a TensorRT of that version, or one whose import fails like that."""

    def load(flavour: Flavour) -> types.ModuleType:
        if isinstance(trouble, Exception):
            raise EngineError(explain_import(flavour, [trouble])) from trouble
        found = module(trouble)(flavour)
        check_version(found, flavour)
        return found

    row = diagnose_tensorrt(
        "tensorrt", load, board=board, venv_is_closed=venv_is_closed
    )
    return row.state, row.found, row.advice


@pytest.mark.parametrize("version", ["10.3.0", "10.16.1.11", "11.4.0"])
def test_supported_tensorrt(version: str) -> None:
    assert tensorrt_of(version) == ("ok", version, "")


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("8.6.2", ("too old", "10.3", "JetPack 6.1")),
        ("10.2.0", ("too old", "10.3")),
        ("12.0.1", ("newer", "12.0")),
    ],
)
def test_tensorrt_out_of_range(version: str, words: tuple[str, ...]) -> None:
    state, found, advice = tensorrt_of(version)
    assert state == "warn"
    for word in words:
        assert word in f"{found}; {advice}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (NO_PARSER, ("libnvonnxparser.so.11", "separate packages")),
        (NO_CUDA, ("libcuda.so.1", "driver")),
        (NO_DLA, ("libnvdla_compiler", "container")),
    ],
)
@pytest.mark.parametrize("kind", [ImportError, OSError])
def test_a_library_of_tensorrt_is_missing(
    kind: type[Exception], text: str, words: tuple[str, ...]
) -> None:
    state, found, advice = tensorrt_of(kind(text))
    assert state == "warn"
    for word in words:
        assert word in f"{found}; {advice}"


def test_no_tensorrt_is_worth_knowing_only() -> None:
    missing = ModuleNotFoundError("No module named 'tensorrt'", name="tensorrt")
    assert tensorrt_of(missing)[0] == "info"


def test_on_a_jetson_a_closed_venv_hides_tensorrt() -> None:
    missing = ModuleNotFoundError("No module named 'tensorrt'", name="tensorrt")
    state, _, advice = tensorrt_of(missing, board="Jetson Orin", venv_is_closed=True)
    assert state == "warn"
    assert "--system-site-packages" in advice
    assert tensorrt_of(missing, board="Jetson Orin")[0] == "info"


def test_two_onnxruntimes_overwrite_each_other() -> None:
    versions = {"onnxruntime": "1.31.1", "onnxruntime-gpu": "1.31.1"}
    (row,) = diagnose_onnxruntime(module("1.31.1"), versions)
    assert row.state == "fail"
    (row,) = diagnose_onnxruntime(module("1.31.1"), {"onnxruntime": "1.31.1"})
    assert (row.state, row.found) == ("ok", "1.31.1")


@pytest.mark.parametrize(
    ("error", "state", "words"),
    [
        (
            ModuleNotFoundError("No module named 'openvino'", name="openvino"),
            "info",
            (),
        ),
        (
            ModuleNotFoundError("No module named 'numpy'", name="numpy"),
            "warn",
            ("numpy is missing", "pip install numpy"),
        ),
        (
            ImportError("libtbb.so.12: cannot open shared object file"),
            "warn",
            ("libtbb.so.12", "LD_LIBRARY_PATH"),
        ),
        (
            ImportError("/x/_pycapi.so: undefined symbol: cuArrayCreate_v2"),
            "warn",
            ("another version", "reinstall"),
        ),
        (
            ImportError("numpy.core.multiarray failed to import"),
            "warn",
            ("another numpy", "numpy <"),
        ),
        (
            OSError("/lib/libc.so.6: version `GLIBC_2.38' not found"),
            "warn",
            ("newer system", "older version"),
        ),
    ],
)
def test_why_a_package_cannot_be_loaded(
    error: Exception, state: str, words: tuple[str, ...]
) -> None:
    row = diagnose_openvino(raising(error))
    assert row.state == state
    for word in words:
        assert word in f"{row.found}; {row.advice}"


def test_pycuda_without_a_driver() -> None:
    rows = list(diagnose_cuda_python(raising(ImportError(NO_CUDA))))
    assert states(rows) == {"pycuda": "warn", "cuda-bindings": "warn"}
    assert "NVIDIA driver" in rows[0].found


@pytest.mark.parametrize(
    ("line", "state", "word"),
    [
        ("NVIDIA H200, 9.0, 570.1", "ok", "TensorRT for RTX no"),
        ("NVIDIA GeForce RTX 4060, 8.9, 560.2", "ok", "compute capability 8.9"),
        ("Tesla P4, 6.1, 535.9", "warn", "compute capability 6.1"),
        ("NVIDIA-SMI has failed because it couldn't", "warn", "failed"),
    ],
)
def test_gpus_by_compute_capability(line: str, state: str, word: str) -> None:
    (row,) = diagnose_gpu(f"{line}\n")
    assert row.state == state
    assert word in row.found
    assert ("for RTX" in row.found) == ("H200" in line)


@pytest.mark.parametrize(
    ("engine", "state"),
    [
        ("auto", "ok"),
        ("physics", "ok"),
        ("onnxruntime", "ok"),
        ("openvino", "fail"),
        ("tensorrt", "ok"),
        ("server", "fail"),
    ],
)
def test_an_engine_that_the_file_insists_on(engine: EngineName, state: str) -> None:
    rows = [
        *diagnose_onnxruntime(module("1.31.1"), {"onnxruntime": "1.31.1"}),
        diagnose_openvino(raising(NO_MODULE)),
        diagnose_tensorrt(
            "tensorrt_rtx",
            lambda flavour: module("1.7.1")(flavour),
            board="",
            venv_is_closed=False,
        ),
        diagnose_client(raising(ModuleNotFoundError("no", name="tritonclient"))),
    ]
    row = diagnose_wish(engine, rows)
    assert row.state == state
    assert bool(row.advice) == (state == "fail")


def test_no_gpu_is_worth_knowing_only() -> None:
    assert [row.state for row in diagnose_gpu(None)] == ["info"]


def test_an_old_python_and_a_missing_package_fail() -> None:
    rows = list(diagnose_packages((3, 9), {"numpy": None, "scipy": "1.15"}))
    assert states(rows) == {"Python 3.9": "fail", "numpy": "fail", "scipy": "ok"}
