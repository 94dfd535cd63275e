"""Packages and engines: what is installed, what cannot be loaded, and why.

A missing engine is worth knowing only; one that is installed and cannot be loaded is a
warning, since `physics` always works.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any

from bifocus.config import EngineName
from bifocus.diagnosis import Diagnosis, State
from bifocus.errors import EngineError
from bifocus.tensorrt_module import Flavour

Import = Callable[[str], ModuleType]
"""`bifocus.doctor_loading.load_module`, or one that fails as a machine once did."""

NEEDED = ("numpy", "scipy", "pillow", "pyserial", "pydantic")
_LIBRARY = re.compile(r"(lib[\w.+-]+\.so[\w.]*): cannot open shared object file")
# Compute capabilities: TensorRT 10 and 11 need Turing or later; TensorRT for RTX 1.7
# lists its GPUs one by one, and neither H100 (9.0) nor Orin (8.7) is among them.
_LEAST_CAPABILITY = (7, 5)
_RTX_CAPABILITIES = ((7, 5), (8, 0), (8, 6), (8, 9), (12, 0), (12, 1))


def diagnose_packages(
    python: tuple[int, int], versions: Mapping[str, str | None]
) -> Iterator[Diagnosis]:
    """Yield the interpreter and the packages that nothing works without."""
    name = f"Python {python[0]}.{python[1]}"
    is_sound = python >= (3, 10)
    yield Diagnosis(
        topic="versions",
        name=name,
        state="ok" if is_sound else "fail",
        found="supported" if is_sound else "too old",
        advice="" if is_sound else "install Python 3.10 or later",
    )
    for package, version in versions.items():
        yield Diagnosis(
            topic="versions",
            name=package,
            state="ok" if version else "fail",
            found=version or "not installed",
            advice="" if version else f"pip install {package}",
        )


def diagnose_onnxruntime(
    load: Import, versions: Mapping[str, str | None]
) -> Iterator[Diagnosis]:
    """Yield whether ONNX Runtime loads, and whether two of it are installed."""
    both = [name for name in ("onnxruntime", "onnxruntime-gpu") if versions.get(name)]
    if len(both) == 2:
        yield Diagnosis(
            topic="engines",
            name="onnxruntime",
            state="fail",
            found="onnxruntime and onnxruntime-gpu are both installed, and overwrite "
            "each other's files",
            advice="pip uninstall both, then install one",
        )
        return
    yield _loaded("onnxruntime", "onnxruntime", load, "pip install onnxruntime")


def diagnose_openvino(load: Import) -> Diagnosis:
    """Return whether OpenVINO loads."""
    return _loaded("openvino", "openvino", load, "pip install openvino")


def diagnose_tensorrt(
    flavour: Flavour,
    load: Callable[[Flavour], Any],
    *,
    board: str,
    venv_is_closed: bool,
) -> Diagnosis:
    """Return whether TensorRT loads and is of a version that is known to work.

    Parameters
    ----------
    load
        `bifocus.doctor_loading.load_tensorrt_module`.
    board
        Name of the Jetson, '' elsewhere.
    venv_is_closed
        Whether Python runs in a venv that does not see the system's packages.
    """
    try:
        module = load(flavour)
    except EngineError as error:
        is_missing = isinstance(error.__cause__, ModuleNotFoundError)
        if is_missing and board and venv_is_closed:
            found = "not seen from this venv; JetPack installs it for the system"
            advice = "make the venv anew with --system-site-packages"
            return _engine(flavour, "warn", found, advice)
        found, _, advice = str(error).partition("; ")
        return _engine(flavour, "info" if is_missing else "warn", found, advice)
    return _engine(flavour, "ok", str(module.__version__))


def diagnose_cuda_python(load: Import) -> Iterator[Diagnosis]:
    """Yield pycuda and cuda-bindings, the two ways to a GPU's memory."""
    build = "pip install pycuda (it is compiled, and needs the CUDA toolkit)"
    yield _loaded("pycuda", "pycuda.driver", load, build)
    bindings = "pip install cuda-bindings (on JetPack 6 its 12.9 line)"
    yield _loaded("cuda-bindings", "cuda.bindings.driver", load, bindings)


def diagnose_client(load: Import) -> Diagnosis:
    """Return whether the client of a model server loads."""
    install = "pip install tritonclient[grpc]"
    return _loaded("server", "tritonclient.grpc", load, install)


def diagnose_wish(engine: EngineName, rows: Iterable[Diagnosis]) -> Diagnosis:
    """Return whether the engine that the instrument file insists on can be had.

    `rows` are those of all engines; `auto` takes any, and `physics` is always there.
    """
    loads = [row.name for row in rows if row.state == "ok"]
    names = {"tensorrt": ("tensorrt", "tensorrt_rtx")}.get(engine, (engine,))
    if engine in ("auto", "physics") or any(name in loads for name in names):
        return _engine("scan.engine", "ok", engine)
    return Diagnosis(
        topic="engines",
        name="scan.engine",
        state="fail",
        found=f"the file insists on {engine}, which cannot be loaded",
        advice="see its row, or set `scan.engine: auto`",
    )


def diagnose_gpu(query: str | None) -> Iterator[Diagnosis]:
    """Yield each GPU of `nvidia-smi --query-gpu=name,compute_cap,driver_version`.

    `query` is its text with `--format=csv,noheader`, None where there is none.
    """
    if not query:
        found = "no NVIDIA driver answers"
        yield Diagnosis(topic="engines", name="GPU", state="info", found=found)
        return
    for line in query.strip().splitlines():
        fields = [field.strip() for field in line.split(",")]
        numbers = re.fullmatch(r"(\d+)\.(\d+)", fields[1]) if len(fields) == 3 else None
        if numbers is None:
            yield _gpu(line, "warn", "nvidia-smi failed", "reinstall the NVIDIA driver")
            continue
        capability = (int(numbers[1]), int(numbers[2]))
        yield _capability(fields[0], capability, fields[2])


def _capability(name: str, capability: tuple[int, int], driver: str) -> Diagnosis:
    text = f"compute capability {capability[0]}.{capability[1]}, driver {driver}"
    if capability < _LEAST_CAPABILITY:
        advice = "too old for TensorRT 10.3 and later; take --engine onnxruntime"
        return _gpu(name, "warn", text, advice)
    if capability not in _RTX_CAPABILITIES:
        text += "; TensorRT yes, TensorRT for RTX no"
    return _gpu(name, "ok", text)


def _gpu(name: str, state: State, found: str, advice: str = "") -> Diagnosis:
    return _engine(f"GPU {name}", state, found, advice)


def _loaded(name: str, module: str, load: Import, install: str) -> Diagnosis:
    try:
        loaded = load(module)
    except ModuleNotFoundError as error:
        if error.name and module.split(".")[0] != error.name.split(".")[0]:
            advice = f"pip install {error.name}"
            return _engine(name, "warn", f"{error.name} is missing", advice)
        return _engine(name, "info", "not installed", install)
    except (ImportError, OSError, AttributeError) as error:
        return _engine(name, "warn", *_explain(str(error)))
    return _engine(name, "ok", str(getattr(loaded, "__version__", "loads")))


def _explain(text: str) -> tuple[str, str]:
    """Return what an import error means, and what to do."""
    library = _LIBRARY.search(text)
    if library and library[1].startswith("libcuda.so"):
        found = f"{library[1]} is missing: it belongs to the NVIDIA driver"
        return found, "install the driver; in a container, start it with --gpus all"
    if library:
        found = f"the library {library[1]} is missing"
        return found, "install its package, or add its folder to LD_LIBRARY_PATH"
    if "undefined symbol" in text:
        found = f"built for another version of a library: {text}"
        return found, "pip install --force-reinstall --no-binary :all: the package"
    if "numpy" in text.lower():
        found = f"built for another numpy: {text}"
        return found, "install versions that fit; on JetPack 6: numpy < 2.3"
    if "GLIBC" in text:
        return f"built for a newer system: {text}", "install an older version of it"
    return f"cannot be loaded: {text}", "install it anew"


def _engine(name: str, state: State, found: str, advice: str = "") -> Diagnosis:
    return Diagnosis(
        topic="engines", name=name, state=state, found=found, advice=advice
    )
