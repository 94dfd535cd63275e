"""What a graph is made of, read from the graph itself: types, operators, opset.

A claim about precision is checked against the types of the convolutions' weights, as
exporters and builders have quietly left float32 in place before.
"""

from collections import Counter
from typing import Final

import numpy as np
import onnx
from onnx import numpy_helper

from bifocus.engine_manifest import Precision
from bifocus.errors import EngineError
from bifocus.export.stored_weights import widen_weights

OPSETS: Final = range(9, 21)  # what JetPack's TensorRT 10 reads
# Each of these is read by ONNX Runtime, OpenVINO and TensorRT's parser; one that is not
# listed has been tried in none of them.
KNOWN_OPERATORS: Final = frozenset(
    {
        *("Add", "Cast", "Clip", "Concat", "Constant", "Conv", "DepthToSpace"),
        *("DequantizeLinear", "Max", "MaxPool", "Mod", "Mul", "Pad", "QuantizeLinear"),
        *("Relu", "Reshape", "Resize", "Shape", "Slice", "Squeeze", "Transpose", "Sub"),
        *("Div", "Mean", "ReduceMean", "Unsqueeze", "Gather", "Neg"),
    }
)
_PICTURE: Final = onnx.TensorProto.UINT8


def read_graph(content: bytes, name: str) -> onnx.ModelProto:
    """Return a graph from a file's content, whole, well-formed, its weights widened.

    Raises
    ------
    EngineError
        If it is damaged, cut short, or of an opset or with an operator unknown here.
    """
    try:
        model = onnx.load_model_from_string(content)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf and the checker have no common kind
        first = str(error).strip().splitlines()[0][:200]
        msg = f"{name}: not a whole ONNX file ({first}); export it again"
        raise EngineError(msg) from error
    versions = {one.domain or "ai.onnx": one.version for one in model.opset_import}
    foreign = sorted(set(versions) - {"ai.onnx"})
    if foreign or versions.get("ai.onnx") not in OPSETS:
        msg = (
            f"{name}: opsets {versions}; expected ai.onnx {OPSETS[0]} to {OPSETS[-1]} "
            "alone; export it again"
        )
        raise EngineError(msg)
    used = {node.op_type for node in model.graph.node}
    if used - KNOWN_OPERATORS:
        msg = f"{name}: unknown operators {', '.join(sorted(used - KNOWN_OPERATORS))}"
        raise EngineError(msg)
    return widen_weights(model)


def audit_graph(
    model: onnx.ModelProto, precision: Precision, name: str
) -> dict[str, int]:
    """Return the convolutions by the type of their weights, if they fit the claim.

    Returns
    -------
    dict
        As ``{"Conv int8": 14, "Conv float32": 4}``.

    Raises
    ------
    EngineError
        If the graph is not of that precision, takes or gives something other than
        bytes, or holds a weight that is not finite.
    """
    graph = model.graph
    for value in (*graph.input, *graph.output):
        kind = value.type.tensor_type.elem_type
        if kind != _PICTURE:
            given = onnx.TensorProto.DataType.Name(kind).lower()
            raise EngineError(f"{name}: '{value.name}' is {given}, expected uint8")
    _check_finite(model, name)
    found = Counter(_weight_types(model))
    claims = {
        "fp32": found.keys() == {"float32"},
        "fp16": found.keys() == {"float16"},
        "int8": "int8" in found,
    }
    if not claims[precision]:
        listed = ", ".join(f"{count} {kind}" for kind, count in sorted(found.items()))
        msg = (
            f"{name}: claims to be {precision}, but its convolutions are {listed}; "
            "it was not written"
        )
        raise EngineError(msg)
    return count_convolutions(model)


def count_convolutions(model: onnx.ModelProto) -> dict[str, int]:
    """Return the convolutions by the type of their weights; see `audit_graph`."""
    found = Counter(_weight_types(model))
    return {f"Conv {kind}": count for kind, count in sorted(found.items())}


def _weight_types(model: onnx.ModelProto) -> list[str]:
    stored = {one.name: one.data_type for one in model.graph.initializer}
    dequantised = {
        node.output[0]: node.input[0]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear"
    }
    types = []
    for node in model.graph.node:
        if node.op_type == "Conv":
            weight = dequantised.get(node.input[1], node.input[1])
            kind = stored.get(weight, onnx.TensorProto.UNDEFINED)
            dtype = onnx.helper.tensor_dtype_to_np_dtype(kind) if kind else None
            types.append("computed" if dtype is None else str(dtype))
    return types


def _check_finite(model: onnx.ModelProto, name: str) -> None:
    for one in model.graph.initializer:
        values = numpy_helper.to_array(one)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            msg = f"{name}: weights '{one.name}' hold NaN or infinity"
            raise EngineError(msg)
