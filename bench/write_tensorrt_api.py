"""Write `bifocus/tensorrt_api.py`: what every recorded version of TensorRT has.

    python bench/write_tensorrt_api.py export/tensorrt_names bifocus/tensorrt_api.py

The Protocols hold a member only if each recorded version has it, so that mypy refuses
code that one of them would refuse at run time, on the user's board.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

# What the adapters touch; everything else of TensorRT stays out of the file.
CLASSES = {
    "IHostMemory": ("nbytes",),
    "ITensor": ("dtype", "name", "shape"),
    "ILayer": (
        "name",
        "type",
        "num_inputs",
        "num_outputs",
        "get_input",
        "get_output",
    ),
    "INetworkDefinition": (
        "num_inputs",
        "num_outputs",
        "num_layers",
        "get_input",
        "get_output",
        "get_layer",
    ),
    "IOptimizationProfile": ("set_shape",),
    "ITimingCache": ("serialize",),
    "IBuilderConfig": (
        "add_optimization_profile",
        "builder_optimization_level",
        "create_timing_cache",
        "get_timing_cache",
        "profiling_verbosity",
        "progress_monitor",
        "set_memory_pool_limit",
        "set_timing_cache",
    ),
    "Builder": (
        "build_serialized_network",
        "create_builder_config",
        "create_network",
        "create_optimization_profile",
    ),
    "ParserError": ("desc", "node", "node_name", "node_operator"),
    "OnnxParser": ("get_error", "num_errors", "parse"),
    "EngineInspector": ("get_engine_information",),
    "IExecutionContext": (
        "execute_async_v3",
        "get_tensor_shape",
        "infer_shapes",
        "set_input_shape",
        "set_tensor_address",
    ),
    "ICudaEngine": (
        "create_engine_inspector",
        "create_execution_context",
        "device_memory_size_v2",
        "get_tensor_dtype",
        "get_tensor_mode",
        "get_tensor_name",
        "get_tensor_profile_shape",
        "get_tensor_shape",
        "num_io_tensors",
    ),
    "Runtime": ("deserialize_cuda_engine",),
}
ENUMS = (
    "BuilderFlag",
    "DataType",
    "LayerInformationFormat",
    "LayerType",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "ProfilingVerbosity",
    "TensorIOMode",
)
BASES = ("ILogger", "IProgressMonitor")
# Made results that are None when TensorRT refuses; it never raises.
_NULLABLE = {"IHostMemory", "ICudaEngine", "IExecutionContext", "ITimingCache"}
_BUFFERS = {"buffer", "typing_extensions.Buffer", "Buffer"}
_TYPES = {
    "typing.SupportsInt": "int",
    "str": "str",
    "int": "int",
    "bool": "bool",
    "float": "float",
    "tuple": "tuple[int, ...]",
    "Dims": "Sequence[int]",
    "List[Dims]": "list[Sequence[int]]",
    "list[Dims]": "list[Sequence[int]]",
    "List[str]": "list[str]",
    "list[str]": "list[str]",
    "IParserError": "ParserError",
    "None": "None",
}
_HEAD = '''\
"""The names of TensorRT that every version from 10.3 to 11.4, and RTX, has.

Written by bench/write_tensorrt_api.py from the names recorded in export/tensorrt_names;
do not edit. `TensorRT` is the module itself: it is passed in, so that one code path
serves `tensorrt` and `tensorrt_rtx`, and a test can pass a stand-in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer


class Enumerator(Protocol):
    """One value of an enumeration."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    def __int__(self) -> int:
        """Return its number."""
        ...
'''


def main() -> int:
    """Write the file; return the exit code."""
    if len(sys.argv) != 3:
        sys.stderr.write(f"usage: {sys.argv[0]} FOLDER FILE\n")
        return 2
    versions = load_names(Path(sys.argv[1]))
    Path(sys.argv[2]).write_text(api_source(versions), encoding="utf-8")
    return 0


def load_names(folder: Path) -> list[dict[str, Any]]:
    """Return the names of each recorded version."""
    paths = sorted(folder.glob("*.json"))
    return [json.loads(path.read_text(encoding="utf-8"))["names"] for path in paths]


def api_source(versions: list[dict[str, Any]]) -> str:
    """Return the text of the module."""
    parts = [_HEAD]
    parts += [_enum_source(name, _common(versions, name)) for name in ENUMS]
    parts += [_class_source(name, _class_members(versions, name)) for name in CLASSES]
    parts.append(_module_source(versions))
    return "\n\n".join(parts)


def _common(versions: list[dict[str, Any]], name: str) -> dict[str, str]:
    """Return the members that each version has, as the first describes them."""
    shared = set.intersection(*(set(version[name]) for version in versions))
    members: dict[str, str] = versions[0][name]
    return {member: members[member] for member in sorted(shared)}


def _class_members(versions: list[dict[str, Any]], name: str) -> dict[str, str]:
    """Return the members that we use; each version must have them."""
    common = _common(versions, name)
    missing = sorted(set(CLASSES[name]) - set(common))
    if missing:
        raise SystemExit(f"{name}.{missing[0]} is not in every recorded version")
    return {member: common[member] for member in CLASSES[name]}


def _enum_source(name: str, members: dict[str, str]) -> str:
    values = [key for key, what in members.items() if what.startswith("value: ")]
    lines = [f'class {name}Values(Protocol):\n    """The values of `{name}`."""\n']
    lines += [f"    {value}: Enumerator" for value in values]
    return "\n".join(lines) + "\n"


def _class_source(name: str, members: dict[str, str]) -> str:
    doc = f'    """`{name}` of TensorRT."""\n'
    lines = [f"class {name}(Protocol):\n{doc}"]
    if name == "IHostMemory":
        # Buffers are not in the docstrings; bytes(memory) reads one.
        lines.append("    def __buffer__(self, flags: int, /) -> memoryview: ...")
    for member, what in members.items():
        if what.startswith("property: "):
            lines.append(_property_source(member, what.removeprefix("property: ")))
        else:
            parameters, _, result = what.rpartition(" -> ")
            kind = _type(result) + (" | None" if result in _NULLABLE else "")
            lines.append(f"    def {member}({_parameters(parameters)}) -> {kind}: ...")
    return "\n".join(lines) + "\n"


def _property_source(member: str, what: str) -> str:
    kind = _type(what.removesuffix(" (read only)"))
    if what.endswith("(read only)"):
        return f"    @property\n    def {member}(self) -> {kind}: ..."
    return f"    {member}: {kind}"


def _parameters(text: str) -> str:
    """Return `(self: Builder, flags: int = 0)` as `self, flags: int = ...`."""
    result = ["self"]
    for part in re.split(r", (?=\w+: )", text.strip("()"))[1:]:
        name, _, rest = part.partition(": ")
        kind, _, default = rest.partition(" = ")
        result.append(f"{name}: {_type(kind)}" + (" = ..." if default else ""))
    return ", ".join(result)


def _type(text: str) -> str:
    if text in _BUFFERS:
        return "Buffer"
    if text in _TYPES:
        return _TYPES[text]
    if text in CLASSES:
        return text
    return "Enumerator" if text in ENUMS else "Any"


def _module_source(versions: list[dict[str, Any]]) -> str:
    """Return the Protocol of the module: constructors, bases, enumerations."""
    lines = [
        "class TensorRT(Protocol):",
        '    """The module: `tensorrt`, `tensorrt_rtx`, or a stand-in."""\n',
        "    __version__: str",
    ]
    lines += [f"    {name}: type[Any]" for name in BASES]
    lines += [f"    {name}: {name}Values" for name in ENUMS]
    for name in CLASSES:
        made = _common(versions, name).get("__init__")
        if made:
            parameters = _parameters(made.rpartition(" -> ")[0])
            parameters = parameters.replace("logger: Any", "logger: object")
            lines.append(f"    def {name}({parameters}) -> {name}: ...")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
