"""A stand-in for the TensorRT module of one recorded version.

It does what the paths need that cannot run without a GPU: timing cache, deserialising,
inspector. Every object is checked against the names recorded from the real bindings:
an attribute or keyword that the version does not have is an AttributeError or a
TypeError, as it would be on the user's board. Every call is kept in `calls`.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

NAMES = Path(__file__).parents[2] / "export" / "tensorrt_names"
VERSIONS = ("tensorrt-10.3.0", "tensorrt-10.16.1.11", "tensorrt-11.4.0.106")


class Recorded:
    """An object of a recorded class; `does` holds what its members do or are."""

    def __init__(self, trt: "FakeTensorRT", kind: str, does: Mapping[str, Any]) -> None:
        members = trt.names[kind]
        unknown = sorted(set(does) - set(members))
        assert not unknown, f"{trt.__version__} has no {kind}.{unknown}"
        object.__setattr__(self, "_state", SimpleNamespace(trt=trt, kind=kind))
        object.__setattr__(self, "_does", dict(does))

    def __getattr__(self, name: str) -> Any:
        state, does = self._state, self._does
        what = state.trt.names[state.kind].get(name)
        if what is None:
            raise AttributeError(f"{state.kind} of {state.trt.__version__}: no {name}")
        if what.startswith("property"):
            return does[name]
        return _checked_call(state, name, what, does.get(name))

    def __setattr__(self, name: str, value: Any) -> None:
        state = self._state
        what = state.trt.names[state.kind].get(name, "")
        if not what.startswith("property") or what.endswith("(read only)"):
            raise AttributeError(f"{state.kind}.{name} cannot be set")
        state.trt.calls.append((f"{state.kind}.{name} =", (value,)))
        self._does[name] = value

    def __bytes__(self) -> bytes:  # IHostMemory is a buffer
        content: bytes = self._does["content"]
        return content


def _checked_call(state: Any, name: str, signature: str, does: Any) -> Any:
    parameters = re.findall(r"(\w+): ", signature.partition(" -> ")[0])[1:]

    def call(*args: Any, **keywords: Any) -> Any:
        wrong = sorted(set(keywords) - set(parameters))
        if wrong or len(args) + len(keywords) > len(parameters):
            raise TypeError(f"{state.kind}.{name}{signature}: got {args}, {keywords}")
        state.trt.calls.append((f"{state.kind}.{name}", (*args, *keywords.values())))
        return does(*args, **keywords) if callable(does) else does

    return call


class FakeEnum:
    """The values of a recorded enumeration."""

    def __init__(self, members: Mapping[str, str]) -> None:
        for name, what in members.items():
            if what.startswith("value: "):
                value = _Value(name, int(what.removeprefix("value: ")))
                setattr(self, name, value)


class _Value(int):
    name: str

    def __new__(cls, name: str, value: int) -> "_Value":
        made = super().__new__(cls, value)
        made.name = name
        return made


class FakeLogger:
    """`ILogger`, to be subclassed."""


class FakeTensorRT:
    """A module of one version that builds the network it is told to have parsed.

    Parameters
    ----------
    version
        File name in export/tensorrt_names, without the ending.
    layers
        (layer type, output type) of the parsed network.
    inspection
        What the engine's inspector prints.
    fails
        `parse`, `build`, `load`, `builder`: what to refuse; `says` is then logged.
    """

    def __init__(
        self,
        version: str,
        *,
        layers: tuple[tuple[str, str], ...] = (("CONVOLUTION", "HALF"),),
        inspection: str = "",
        fails: str = "",
        says: str = "",
        shape: tuple[int, ...] = (-1, -1, -1, 3),
    ) -> None:
        text = (NAMES / f"{version}.json").read_text(encoding="utf-8")
        self.names: dict[str, Any] = json.loads(text)["names"]
        self.__version__ = version.partition("-")[2]
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.layers, self.inspection = layers, inspection
        self.fails, self.says, self.shape = fails, says, shape
        self.plan = b"plan of " + version.encode()
        self.cache = b""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name not in self.names:
            raise AttributeError(f"module tensorrt {self.__version__} has no {name}")
        if name in ("ILogger", "IProgressMonitor"):
            return FakeLogger
        members = self.names[name]
        assert any(what.startswith("value") for what in members.values()), name
        return FakeEnum(members)

    def object(self, kind: str, **does: Any) -> Recorded:
        return Recorded(self, kind, does)

    def called(self, name: str) -> list[tuple[Any, ...]]:
        return [arguments for call, arguments in self.calls if call == name]

    def Builder(self, logger: Any) -> Recorded:  # noqa: N802
        if self.fails == "builder":
            raise TypeError("pybind11::init(): factory function returned nullptr")

        def build(network: Any, config: Any) -> Recorded | None:
            del network
            if self.fails == "build":
                logger.log(_Value("ERROR", 1), self.says)
                return None
            config.progress_monitor.phase_start("Building", None, 2)
            assert config.progress_monitor.step_complete("Building", 0)
            config.progress_monitor.phase_finish("Building")
            self.cache += b"+timed"
            return self.memory(self.plan)

        return self.object(
            "Builder",
            create_network=lambda _flags: self.network(),
            create_builder_config=lambda: self.config(),
            create_optimization_profile=lambda: self.object("IOptimizationProfile"),
            build_serialized_network=build,
        )

    def memory(self, content: bytes) -> Recorded:
        made = self.object("IHostMemory", nbytes=len(content))
        made._does["content"] = content
        return made

    def config(self) -> Recorded:
        def create(content: bytes) -> Recorded:
            self.cache = content
            return self.object(
                "ITimingCache", serialize=lambda: self.memory(self.cache)
            )

        return self.object(
            "IBuilderConfig",
            create_timing_cache=create,
            set_timing_cache=True,
            get_timing_cache=lambda: create(self.cache),
            add_optimization_profile=0,
        )

    def tensor(self, name: str, kind: str, shape: tuple[int, ...] = ()) -> Recorded:
        return self.object(
            "ITensor", name=name, dtype=getattr(self.DataType, kind), shape=shape
        )

    def network(self) -> Recorded:
        layers = [
            self.object(
                "ILayer",
                name=f"layer {i}",
                type=getattr(self.LayerType, kind),
                num_inputs=1,
                num_outputs=1,
                get_output=lambda _i, kind=dtype, i=i: self.tensor(f"out {i}", kind),
            )
            for i, (kind, dtype) in enumerate(self.layers)
        ]
        shots = [self.tensor(name, "UINT8", self.shape) for name in ("minus", "plus")]
        return self.object(
            "INetworkDefinition",
            num_inputs=2,
            num_outputs=1,
            num_layers=len(layers),
            get_input=shots.__getitem__,
            get_output=lambda _i: self.tensor("fused", "UINT8", self.shape),
            get_layer=layers.__getitem__,
        )

    def OnnxParser(self, network: Any, logger: Any) -> Recorded:  # noqa: N802
        del network, logger
        error = self.object(
            "ParserError",
            node=lambda: 3,
            node_name=lambda: "transpose_3",
            node_operator=lambda: "Transpose",
            desc=lambda: self.says,
        )
        return self.object(
            "OnnxParser",
            parse=self.fails != "parse",
            num_errors=1,
            get_error=lambda _i: error,
        )

    def Runtime(self, logger: Any) -> Recorded:  # noqa: N802
        def load(content: bytes) -> Recorded | None:
            if self.fails == "load" or content != self.plan:
                logger.log(_Value("ERROR", 1), self.says)
                return None
            return self.engine()

        return self.object("Runtime", deserialize_cuda_engine=load)

    def engine(self) -> Recorded:
        names = ["minus", "plus", "fused"]
        inspector = self.object(
            "EngineInspector", get_engine_information=lambda _format: self.inspection
        )
        return self.object(
            "ICudaEngine",
            num_io_tensors=3,
            get_tensor_name=names.__getitem__,
            get_tensor_dtype=lambda _name: self.DataType.UINT8,
            create_engine_inspector=lambda: inspector,
        )


def inspection(version: str, kind: str, *, is_fused: bool = False) -> str:
    """Return the inspector's JSON of an engine with one convolution of that type.

    Keys as in NVIDIA's "Migrating IEngineInspector Usage from TensorRT 10.x to 11.x",
    formats as users posted them (TensorRT issues 2418 and 4020).
    """
    names = ["minus", "plus", "fused"]
    words = {"float16": ("FP16", "Half"), "float32": ("FP32", "Float")}[kind]
    if version.startswith("tensorrt-11"):
        tensor = {"Format": "Row major linear", "Datatype": words[1]}
        head: dict[str, Any] = {
            "I/O Tensors": [{"Name": name, "DataType": "UInt8"} for name in names]
        }
    else:
        text = f"Channel major {words[0]} format where channel % 8 == 0"
        tensor = {"Format/Datatype": text}
        head = {"Bindings": names}
    layer = {
        "Name": "conv_1",
        "LayerType": "kgen" if is_fused else "CaskConvolution",
        "Inputs": [{"Name": "a", "Dimensions": [1, 8, 8, 8], **tensor}],
        "Outputs": [{"Name": "b", "Dimensions": [1, 8, 8, 8], **tensor}],
    }
    return json.dumps({"Layers": [layer], **head})
