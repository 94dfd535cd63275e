"""Loads an engine in a process of its own, so that a broken one cannot hurt the doctor.

Some crash while they are loaded, some start threads, and OpenVINO would report its use
to its makers over the network.
"""

import json
import subprocess
import sys
from types import ModuleType

from bifocus.errors import EngineError
from bifocus.tensorrt_module import Flavour

_LONGEST_S = 120.0  # CUDA libraries of hundreds of MB on a memory card
_CHILD = """
import importlib, json, sys
sys.modules["openvino_telemetry"] = None  # nothing is reported over the network
name = sys.argv[1]
try:
    if name in ("tensorrt", "tensorrt_rtx"):
        from bifocus.tensorrt_module import load_tensorrt
        module = load_tensorrt(name)
    else:
        module = importlib.import_module(name)
    told = {"version": str(getattr(module, "__version__", "loads"))}
except Exception as error:
    told = {
        "is_missing": isinstance(error.__cause__ or error, ModuleNotFoundError),
        "module": getattr(error, "name", None),
        "text": str(error),
    }
sys.stdout.write("\\n" + json.dumps(told))
"""


def load_module(name: str) -> ModuleType:
    """Return a stand-in with the module's `__version__`, if it can be loaded.

    Raises
    ------
    ModuleNotFoundError
        If it, or a module that it needs, is not installed.
    ImportError
        If it cannot be loaded for any other reason, also when it crashes.
    """
    told = _ask_child(name)
    if "version" in told:
        module = ModuleType(name)
        module.__version__ = told["version"]  # type: ignore[attr-defined]
        return module
    kind = ModuleNotFoundError if told["is_missing"] else ImportError
    raise kind(told["text"], name=told["module"])


def load_tensorrt_module(flavour: Flavour) -> ModuleType:
    """Return a stand-in of TensorRT; as `bifocus.tensorrt_module.load_tensorrt`.

    Raises
    ------
    EngineError
        If it cannot be loaded or used; caused by ModuleNotFoundError if it is absent.
    """
    try:
        return load_module(flavour)
    except ImportError as error:
        raise EngineError(str(error)) from error


def _ask_child(name: str) -> dict[str, str]:
    try:
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, name],
            capture_output=True,
            text=True,
            check=False,
            timeout=_LONGEST_S,
        )
    except subprocess.TimeoutExpired as error:
        msg = f"does not load within {_LONGEST_S:g} s"
        raise ImportError(msg, name=name) from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        msg = f"crashes when it is loaded (exit code {done.returncode}: {last})"
        raise ImportError(msg, name=name)
    told: dict[str, str] = json.loads(done.stdout.rsplit("\n", 1)[-1])
    return told
