"""Record the names of TensorRT's Python bindings, so that tests can hold code to them.

    python bench/record_tensorrt_names.py export/tensorrt_names

fetches the bindings of each version in `VERSIONS` from the package index (1 MB each),
imports them on stub libraries that gcc makes of nine symbols, and writes
`tensorrt-10.3.0.json` and so on: classes with their members, enumerations with their
values, signatures as the docstrings give them. No NVIDIA library, driver or GPU is
needed, and nothing of TensorRT runs. An installed TensorRT for RTX is recorded too.
"""

import ctypes
import importlib
import inspect
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

# The oldest that JetPack 6 has, the last of the 10 line, and the newest.
VERSIONS = {
    "10.3.0": "tensorrt-cu12-bindings",
    "10.16.1.11": "tensorrt-cu13-bindings",
    "11.4.0.106": "tensorrt-cu13-bindings",
}
RTX_MODULE = "tensorrt_rtx_bindings"
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
STUB_SOURCE = "\n".join(
    f"void *{symbol}(void) {{ return 0; }}"
    for symbol in (
        "createInferBuilder_INTERNAL",
        "createInferRefitter_INTERNAL",
        "createInferRuntime_INTERNAL",
        "createNvOnnxParser_INTERNAL",
        "createNvOnnxParserRefitter_INTERNAL",
        "getBuilderPluginRegistry",
        "getNvOnnxParserVersion",
        "getPluginRegistry",
        "initLibNvInferPlugins",
    )
)
# Not for us: plugins, and the layers that one adds by hand instead of parsing ONNX.
_LEFT_OUT = re.compile(
    r"I?Plugin|I\w+Layer$|Dims|I(If|Loop|Expr|Attention)|add_(?!optimization_profile)"
)
_MODULE_PREFIX = re.compile(r"\b(tensorrt\w*\.)+|nvonnxparser::|nvinfer1::")


def main() -> int:
    """Record every version into the folder that is named; return the exit code."""
    if len(sys.argv) == 4 and sys.argv[1] == "--child":
        record_child(sys.argv[2], Path(sys.argv[3]))
        return 0
    if len(sys.argv) != 2:
        sys.stderr.write(f"usage: {sys.argv[0]} FOLDER\n")
        return 2
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        for version, package in VERSIONS.items():
            root = Path(temporary) / version
            fetch_bindings(package, version, root)
            make_stubs(root, major=version.partition(".")[0])
            record("tensorrt_bindings", root, folder)
        record(RTX_MODULE, Path(temporary), folder)
    return 0


def fetch_bindings(package: str, version: str, root: Path) -> None:
    """Download one wheel for this Python, and unpack it into `root`."""
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    subprocess.run([*download, "-d", root, f"{package}=={version}"], check=True)
    (wheel,) = root.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(root)


def make_stubs(root: Path, major: str) -> None:
    """Compile the three libraries that the bindings want, empty, into `root`."""
    source = root / "stub.c"
    source.write_text(STUB_SOURCE, encoding="utf-8")
    for name in LIBRARIES:
        library = f"lib{name}.so.{major}"
        link = ["-shared", "-fPIC", f"-Wl,-soname,{library}"]
        subprocess.run(["gcc", *link, "-o", root / library, source], check=True)


def record(module: str, root: Path, folder: Path) -> None:
    """Record one module in a process of its own, since two versions cannot share one.

    A module that is not installed is left out, and its file as it was.
    """
    command = [sys.executable, __file__, "--child", module, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(f"{module}: not recorded: {done.stderr.strip()[-300:]}\n")
        return
    document = json.loads(done.stdout)
    path = folder / f"{document['module']}-{document['version']}.json"
    path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", "utf-8")
    print(f"{path}: {len(document['names'])} names")


def record_child(module: str, root: Path) -> None:
    """Import `module` on the stubs in `root`, and print its names as JSON."""
    for library in root.glob("lib*.so.*"):
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    sys.path.insert(0, str(root))
    bindings = importlib.import_module(module)
    document = {
        "module": module.removesuffix("_bindings"),
        "version": bindings.__version__,
        "names": module_names(bindings),
    }
    sys.stdout.write(json.dumps(document))


def module_names(module: ModuleType) -> dict[str, Any]:
    """Return what each public name of the module is, members of classes included."""
    names: dict[str, Any] = {"__version__": "str"}
    for name, value in sorted(vars(module).items()):
        if name.startswith("_") or inspect.ismodule(value) or _LEFT_OUT.match(name):
            continue
        if inspect.isclass(value):
            names[name] = class_members(value)
        elif callable(value):
            names[name] = signature(value, name)
        else:
            names[name] = type(value).__name__
    return names


def class_members(kind: type) -> dict[str, str]:
    """Return what each member is: a signature, `property: TYPE`, or an enum's value."""
    members: dict[str, str] = {}
    for name, value in inspect.getmembers(kind):
        if (name.startswith("_") and name != "__init__") or _LEFT_OUT.match(name):
            continue
        if isinstance(value, property):
            result = signature(value.fget, "").rpartition("-> ")[2] or "Any"
            can_set = "" if value.fset else " (read only)"
            members[name] = f"property: {result}{can_set}"
        elif isinstance(value, kind) or type(value).__name__ == "Severity":
            members[name] = f"value: {int(value)}"
        elif inspect.isclass(value):
            members[name] = "class"
        elif callable(value):
            members[name] = signature(value, name)
    is_enum = any(what.startswith("value: ") for what in members.values())
    if is_enum or not members.get("__init__", "").startswith("("):
        members.pop("__init__", None)  # Python's own: cannot be made by a caller
    return members


def signature(function: Any, name: str) -> str:
    """Return the first signature of a docstring, without name and module; or empty."""
    pattern = rf"(?:1\. )?{re.escape(name)}(\(.*)"
    for line in (function.__doc__ or "").splitlines():
        found = re.match(pattern, line.strip())
        if found and found[1] != "(*args, **kwargs)":
            return _MODULE_PREFIX.sub("", found[1])
    return ""


if __name__ == "__main__":
    sys.exit(main())
