"""Import TensorRT, or TensorRT for RTX, and say in one sentence why it cannot be.

Both are one code path: the module is passed around as a value (`bifocus.tensorrt_api`).
A board's TensorRT comes from its JetPack, never from pip; see docs/jetson.md.
"""

import importlib
import re
from typing import Literal, cast

from bifocus.errors import EngineError
from bifocus.tensorrt_api import TensorRT

Flavour = Literal["tensorrt", "tensorrt_rtx"]

# The bindings alone (`pip install tensorrt-rtx-cu13-bindings`) have a longer name.
_MODULES = {
    "tensorrt": ("tensorrt", "tensorrt_bindings"),
    "tensorrt_rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings"),
}
# From the first with strong typing and uint8 on any board's JetPack, to the last whose
# names are recorded in export/tensorrt_names; RTX counts for itself.
_OLDEST = {"tensorrt": (10, 3), "tensorrt_rtx": (1, 1)}
_PAST = {"tensorrt": (12, 0), "tensorrt_rtx": (2, 0)}
_INSTALL = {
    "tensorrt": (
        "on a Jetson: sudo apt-get install python3-libnvinfer, and a venv made with "
        "--system-site-packages; on a desktop: pip install tensorrt from NVIDIA's index"
    ),
    "tensorrt_rtx": (
        "pip install tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings "
        "(GeForce RTX and RTX PRO on a desktop)"
    ),
}
_LIBRARY = re.compile(r"(lib[\w.+-]+\.so[\w.]*): cannot open shared object file")


def load_tensorrt(flavour: Flavour = "tensorrt") -> TensorRT:
    """Return the module.

    Parameters
    ----------
    flavour
        `tensorrt`, or `tensorrt_rtx`.

    Raises
    ------
    EngineError
        If it is not installed, a library of it is missing, or its version does not
        fit; the text names the library or the version, and what to do.
    """
    failures: list[Exception] = []
    for name in _MODULES[flavour]:
        try:
            module = cast("TensorRT", importlib.import_module(name))
        except (ImportError, OSError) as error:
            failures.append(error)
        else:
            check_version(module, flavour)
            return module
    raise EngineError(explain_import(flavour, failures)) from failures[0]


def explain_import(flavour: Flavour, failures: list[Exception]) -> str:
    """Return why the import failed, and what to do about it."""
    for error in failures:
        library = _LIBRARY.search(str(error))
        if library:
            return (
                f"{flavour} is installed, but its library {library[1]} cannot be "
                f"loaded: {_missing_library(library[1])}"
            )
    real = [error for error in failures if not isinstance(error, ModuleNotFoundError)]
    if real:
        return f"{flavour} is installed, but cannot be loaded: {real[0]}"
    return (
        f"{flavour} is not installed; {_INSTALL[flavour]}; or take --engine onnxruntime"
    )


def _missing_library(library: str) -> str:
    if library.startswith("libcuda.so"):
        return "it belongs to the NVIDIA driver; install the driver"
    if library.startswith("libnvdla_compiler"):
        return (
            "it belongs to JetPack's nvidia-l4t-dla-compiler; install it, or start the "
            "container with --runtime nvidia, which brings it from the host"
        )
    if library.startswith(("libcudart", "libcublas", "libcudnn")):
        return (
            "it belongs to the CUDA toolkit; install it, or add its folder to "
            "LD_LIBRARY_PATH"
        )
    return (
        "the Python bindings and the libraries come in separate packages of one "
        f"version; {_INSTALL['tensorrt']}"
    )


def check_version(module: TensorRT, flavour: Flavour) -> None:
    """Refuse a version that this code is not made for.

    Raises
    ------
    EngineError
        If it is too old, or newer than any whose names are recorded.
    """
    version = parse_version(module.__version__)
    oldest, past = _OLDEST[flavour], _PAST[flavour]
    if version < oldest:
        way_out = (
            "install JetPack 6.1 or later (it has TensorRT 10.3)"
            if flavour == "tensorrt"
            else _INSTALL[flavour]
        )
        msg = (
            f"{flavour} {module.__version__} is too old, at least "
            f"{oldest[0]}.{oldest[1]} is needed: {way_out}, or take --engine "
            "onnxruntime"
        )
        raise EngineError(msg)
    if version >= past:
        msg = (
            f"{flavour} {module.__version__} is newer than what bifocus has been "
            f"checked with, before {past[0]}.{past[1]}: take --engine onnxruntime, or "
            "a newer bifocus"
        )
        raise EngineError(msg)


def parse_version(text: str) -> tuple[int, int]:
    """Return the first two numbers: `10.16.1.11` is (10, 16).

    Raises
    ------
    EngineError
        If the text does not begin with two.
    """
    found = re.match(r"(\d+)\.(\d+)", text)
    if not found:
        msg = f"'{text}' is no version of TensorRT"
        raise EngineError(msg)
    return int(found[1]), int(found[2])


def is_rtx(module: TensorRT) -> bool:
    """Tell TensorRT for RTX: it alone builds for GPUs that are not there."""
    return hasattr(module, "ComputeCapability")


def full_name(module: TensorRT) -> str:
    """Return flavour and version, as `tensorrt 10.3.0`."""
    return f"{'tensorrt_rtx' if is_rtx(module) else 'tensorrt'} {module.__version__}"
