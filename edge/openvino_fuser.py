"""An exported network in OpenVINO on the CPU: an IR (`.xml`, `.bin`) or an ONNX file.

The graph is compiled for one window size at a time, with that size fixed, which is
faster than a graph of any size and takes a quarter of a second. Precision is that of
the file: without the hint OpenVINO computes in bfloat16 wherever the processor can.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bifocus.edge.cpu_threads import count_threads
from bifocus.edge.network_inputs import (
    NetworkForm,
    check_tensors,
    load_form,
    mend,
    read_file,
)
from bifocus.engine_manifest import TensorSpec
from bifocus.errors import EngineError, EngineLostError
from bifocus.records import UInt8Image


class OpenvinoEngine:
    """A network from one `.xml` or `.onnx` file; one thread at a time.

    Parameters
    ----------
    path
        The file; its manifest lies beside it, and names the weights of an IR.
    threads
        Of OpenVINO; by default all cores of this process but one.

    Raises
    ------
    EngineError
        If openvino is not installed, or a file is missing, damaged, changed,
        unverified, or takes what a pair does not have.
    """

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        self._openvino = import_openvino(path)
        self.form = load_form(path)
        self._threads = threads or count_threads()
        self._core: Any = self._openvino.Core()
        self._model: Any = read_graph(self._core, path, self.form)
        self.name = engine_name(self._openvino, self._threads)
        self._window: _CompiledWindow | None = None

    def stream(
        self, windows: Iterable[Mapping[str, UInt8Image]]
    ) -> Iterator[UInt8Image]:
        """Yield each fused window; see `bifocus.edge.network_fuser.NetworkEngine`."""
        for window in windows:
            height_px, width_px = window[self.form.inputs[0]].shape[:2]
            ready = self._window
            if ready is None or ready.size_px != (height_px, width_px):
                # First the old buffers go, then the new ones come.
                ready = self._window = None
                ready = self._window = self._compile((height_px, width_px))
            yield ready.run(window)

    def close(self) -> None:
        """Let the compiled graph go."""
        self._window = self._model = None

    def _compile(self, size_px: tuple[int, int]) -> "_CompiledWindow":
        if self._model is None:
            msg = f"{self.form.network}: the engine is closed"
            raise EngineError(msg)
        shape = [1, *size_px, 3]
        try:
            model = self._model.clone()
            model.reshape(dict.fromkeys(self.form.inputs, shape))
            compiled = compile_graph(self._core, model, self._threads)
            return _CompiledWindow(self._openvino, compiled, self.form, size_px)
        except RuntimeError as error:
            height_px, width_px = size_px
            msg = (
                f"{self.form.network}: OpenVINO cannot compile it for windows of "
                f"{width_px}x{height_px} px: {first_line(error)}"
            )
            raise EngineLostError(msg + mend(self.form)) from error


class _CompiledWindow:
    """The graph compiled for one window size, with its buffers bound."""

    def __init__(
        self,
        openvino: Any,
        compiled: Any,
        form: NetworkForm,
        size_px: tuple[int, int],
    ) -> None:
        self.size_px = size_px
        self._network = form.network
        shape = (1, *size_px, 3)
        self._inputs = {name: np.empty(shape, np.uint8) for name in form.inputs}
        self._output = np.empty(shape, np.uint8)
        self._request = compiled.create_infer_request()
        for name, buffer in self._inputs.items():
            self._request.set_tensor(name, openvino.Tensor(buffer, shared_memory=True))
        output = openvino.Tensor(self._output, shared_memory=True)
        self._request.set_tensor(form.output, output)

    def run(self, window: Mapping[str, UInt8Image]) -> UInt8Image:
        for name, buffer in self._inputs.items():
            buffer[0] = window[name]
        try:
            self._request.infer()
        except RuntimeError as error:
            msg = f"{self._network}: OpenVINO failed: {first_line(error)}"
            raise EngineLostError(msg + "; take --engine physics") from error
        pixels: UInt8Image = self._output[0]
        return pixels


def import_openvino(path: Path) -> Any:
    """Return the library, which `path` is to be run by.

    Raises
    ------
    EngineError
        If it is not installed.
    """
    # Importing openvino reports to Intel through Google Analytics, from a thread of its
    # own; without this package it takes a stub of its own instead.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        msg = (
            f"{path}: needs openvino; pip install 'bifocus[openvino]', or take "
            "--engine onnxruntime"
        )
        raise EngineError(msg) from error
    return openvino


def read_graph(core: Any, path: Path, form: NetworkForm) -> Any:
    """Return OpenVINO's model of a file, if its tensors are those of the form.

    Raises
    ------
    EngineError
        If OpenVINO cannot read it, or it takes or gives something else.
    """
    try:
        model = core.read_model(*_contents(path, form))
    except RuntimeError as error:
        msg = f"{path}: OpenVINO cannot read it: {first_line(error)}"
        raise EngineError(msg + mend(form)) from error
    found = [_spec(port) for port in (*model.inputs, *model.outputs)]
    check_tensors(form, found, str(path))
    return model


def compile_graph(core: Any, model: Any, threads: int) -> Any:
    """Return the model compiled for the CPU, in the precision that it has."""
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        # A pinned thread would hold its core against the capture.
        "ENABLE_CPU_PINNING": False,
    }
    return core.compile_model(model, "CPU", options)


def engine_name(openvino: Any, threads: int) -> str:
    """Return library, version and device, for the report."""
    version = openvino.__version__.split("-")[0]
    plural = "s" if threads > 1 else ""
    return f"openvino {version}, CPU, {threads} thread{plural}"


def _spec(port: Any) -> TensorSpec:
    """Return a tensor as the manifest names it; a shape where it is no picture."""
    shape = port.partial_shape
    is_byte = "uint8" in str(port.element_type)
    is_last = shape.rank.get_length() == 4 and str(shape[3]) == "3"
    is_picture = is_byte and shape.rank.get_length() == 4
    return TensorSpec(
        name=port.any_name,
        dtype="uint8" if is_byte else "float32",
        layout="NHWC" if is_last else "NCHW",
        shape=None if is_picture or shape.is_dynamic else tuple(port.shape),
    )


def _contents(path: Path, form: NetworkForm) -> tuple[bytes, bytes]:
    """Return the graph and its weights, both as the manifest names them."""
    graph = read_file(form, path)
    if path.suffix == ".onnx":
        return graph, b""
    return graph, read_file(form, path.with_suffix(".bin"))


def first_line(error: Exception) -> str:
    """Return OpenVINO's reason without the places in its source."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith("Exception from ")]
    return (said or lines or ["no reason given"])[0]
