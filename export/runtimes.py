"""Each runtime as the gate sees it: a function from named pictures to one picture.

PyTorch is the reference, and runs the network as training and evaluation do: not
through `pixel_network`, so that a mistake there shows.
"""

import importlib.util
import sys
from typing import Any

import numpy as np
import onnxruntime
import torch

from bifocus.errors import EngineError
from bifocus.export.onnx_probe import open_session
from bifocus.export.parity import Engine, Pictures, UInt8Batch
from bifocus.export.whole_pair import Feeds, Float32, WholeRun
from bifocus.model.fusion_network import FusionNetwork
from bifocus.tone import join_levels

TORCH_NAME = f"PyTorch {torch.__version__} fp32"
ONNXRUNTIME_NAME = f"ONNX Runtime {onnxruntime.__version__}"


def torch_engine(network: FusionNetwork) -> Engine:
    """Return the network itself, in float32, rounded to bytes at the end.

    It takes the pictures of `pixel_network.picture_inputs`.
    """
    reference = network.eval()

    def run(pictures: Pictures) -> UInt8Batch:
        levels = {name: pictures[name].astype(np.float32) for name in reference.inputs}
        if "physics" in levels:
            joined = join_levels(pictures["physics"], pictures["remainder"])
            levels["physics"] = joined
        images = [torch.from_numpy(levels[name] / 255) for name in reference.inputs]
        with torch.inference_mode():
            fused = reference(*(image.permute(0, 3, 1, 2) for image in images))
        unit = fused.permute(0, 2, 3, 1).numpy()
        return np.asarray(np.rint(255 * np.clip(unit, 0, 1)), dtype=np.uint8)

    return run


def onnx_engine(content: bytes, *, threads: int = 1) -> Engine:
    """Return a graph in ONNX Runtime on the CPU.

    Raises
    ------
    EngineError
        If ONNX Runtime refuses the graph; the function it returns, if the pictures do
        not fit.
    """
    session = open_session(content, threads=threads)
    names = [node.name for node in session.get_inputs()]

    def run(pictures: Pictures) -> UInt8Batch:
        try:
            fused = session.run(None, {name: pictures[name] for name in names})[0]
        except KeyError as error:
            raise EngineError(f"the graph asks for {error}, a pair has none") from error
        except Exception as error:  # onnxruntime raises its own, unexported kinds
            raise EngineError(f"{ONNXRUNTIME_NAME} failed: {error}") from error
        return np.asarray(fused, dtype=np.uint8)

    return run


def openvino_name() -> str:
    """Return OpenVINO's name and version; it is imported only where it is asked for."""
    return f"OpenVINO {import_openvino().get_version().split('-')[0]}"


def openvino_engine(graph: bytes, weights: bytes, *, threads: int = 1) -> Engine:
    """Return OpenVINO's intermediate representation on the CPU, in full precision.

    Raises
    ------
    EngineError
        If OpenVINO is absent, or refuses the graph.
    """
    compiled, request = _openvino_request(graph, weights, threads)
    names = [port.any_name for port in compiled.inputs]

    def run(pictures: Pictures) -> UInt8Batch:
        _infer(request, {name: pictures[name] for name in names})
        return np.array(request.get_output_tensor(0).data, dtype=np.uint8)

    return run


def openvino_whole_run(graph: bytes, weights: bytes, *, threads: int = 1) -> WholeRun:
    """Return a whole fusion in OpenVINO on the CPU, in full precision.

    Raises
    ------
    EngineError
        If OpenVINO is absent, or refuses the graph; the function it returns, if it
        fails.
    """
    compiled, request = _openvino_request(graph, weights, threads)

    def run(feeds: Feeds) -> tuple[UInt8Batch, dict[str, Float32]]:
        _infer(request, dict(feeds))
        found = {
            port.any_name: np.array(request.get_tensor(port).data)
            for port in compiled.outputs
        }
        return found.pop("fused"), found

    return run


def _openvino_request(graph: bytes, weights: bytes, threads: int) -> tuple[Any, Any]:
    """Return the compiled graph, and what runs it."""
    ov = import_openvino()
    # Without the hint, processors that have bfloat16 compute in it.
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    try:
        core = ov.Core()
        compiled = core.compile_model(core.read_model(graph, weights), "CPU", options)
    except RuntimeError as error:
        raise EngineError(f"OpenVINO refuses the graph: {error}") from error
    return compiled, compiled.create_infer_request()


def _infer(request: Any, feeds: dict[str, Any]) -> None:
    try:
        request.infer(feeds)
    except RuntimeError as error:
        raise EngineError(f"OpenVINO failed: {error}") from error


def import_openvino() -> Any:
    """Return the module.

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
        msg = "OpenVINO is not installed: pip install 'bifocus[openvino]'"
        raise EngineError(msg) from error
    return openvino


def has_openvino() -> bool:
    """Return whether OpenVINO is installed."""
    return importlib.util.find_spec("openvino") is not None
