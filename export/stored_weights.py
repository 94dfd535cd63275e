"""Weights stored in half the bytes, where that loses nothing, and back again.

A checkpoint in half precision becomes float32 in the network, since processors compute
in that; its graph need not store the zeros. A large float32 weight of which each value
is a float16 is stored as float16 with one Cast behind it, under the weight's own name:
whoever reads it finds the very values. ONNX Runtime and OpenVINO fold such a Cast when
they load the graph.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

# Biases and constants are smaller: a Cast for each would cost more than it saves.
LEAST_BYTES = 4096
_STORED = "/half"


def store_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with its large float32 weights as float16, where that is exact.

    Parameters
    ----------
    model
        It is not changed.

    Returns
    -------
    onnx.ModelProto
        It computes in float32 as before, of the same values bit by bit. Weights that
        float16 does not hold exactly stay as they are.
    """
    stored = onnx.ModelProto()
    stored.CopyFrom(model)
    graph = stored.graph
    casts = []
    for tensor in graph.initializer:
        half = _as_half(tensor)
        if half is None:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, name + _STORED))
        casts.append(
            helper.make_node(
                "Cast", [tensor.name], [name], name=f"{name}/wide", to=TensorProto.FLOAT
            )
        )
    _put_nodes(graph, [*casts, *graph.node])
    return stored


def widen_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with the weights of `store_half` in float32 again.

    Other graphs come back equal. The argument is not changed.
    """
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    graph = wide.graph
    casts = {node.input[0]: node for node in graph.node if _widens_weight(node)}
    for tensor in graph.initializer:
        cast = casts.get(tensor.name)
        if cast is not None:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, cast.output[0]))
    _put_nodes(graph, [node for node in graph.node if not _widens_weight(node)])
    return wide


def _as_half(tensor: TensorProto) -> npt.NDArray[np.float16] | None:
    """Return a weight in float16; None if it is small, or float16 cannot hold it."""
    if tensor.data_type != TensorProto.FLOAT:
        return None
    values = numpy_helper.to_array(tensor)
    if values.nbytes < LEAST_BYTES:
        return None
    with np.errstate(over="ignore"):  # too large for float16: seen just below
        half = values.astype(np.float16)
    # As bits, so that a NaN or the sign of a zero counts as well.
    is_exact = np.array_equal(
        half.astype(np.float32).view(np.uint32), values.view(np.uint32)
    )
    return half if is_exact else None


def _widens_weight(node: onnx.NodeProto) -> bool:
    # The name alone: the exporter's own casts have others.
    return node.op_type == "Cast" and node.input[0] == node.output[0] + _STORED


def _put_nodes(graph: Any, nodes: list[onnx.NodeProto]) -> None:
    kept = [onnx.NodeProto() for _ in nodes]
    for copy, node in zip(kept, nodes, strict=True):
        copy.CopyFrom(node)
    del graph.node[:]
    graph.node.extend(kept)
