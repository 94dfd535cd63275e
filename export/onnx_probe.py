"""Look inside a graph while ONNX Runtime computes it: any tensor by name.

Also the one place that opens ONNX Runtime for checks: on the CPU, without spinning.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from bifocus.errors import EngineError

Feeds = Mapping[str, npt.NDArray[np.uint8]]
_ERRORS_ONLY = 3  # it warns of each half constant that it cannot fold


def open_session(content: bytes, *, threads: int = 1) -> Any:
    """Return ONNX Runtime's session on a graph, on the CPU.

    Raises
    ------
    EngineError
        If the graph is damaged, or holds an operator or opset that it does not know.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime raises its own, unexported kinds
        msg = f"ONNX Runtime {onnxruntime.__version__} refuses the graph: {error}"
        raise EngineError(msg) from error


def watch_tensors(
    model: onnx.ModelProto, names: Sequence[str], feeds: Iterable[Feeds]
) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """Yield the named tensors for each of the feeds.

    Parameters
    ----------
    model
        The graph; it is not changed.
    names
        Tensors inside the graph, none twice.
    feeds
        Inputs of the graph by name.
    """
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    known = {output.name for output in probe.graph.output}
    for name in names:
        if name not in known:
            probe.graph.output.append(onnx.ValueInfoProto(name=name))
    session = open_session(probe.SerializeToString())
    for feed in feeds:
        values = session.run(list(names), dict(feed))
        yield dict(zip(names, values, strict=True))


def levels_tensor(model: onnx.ModelProto) -> str:
    """Return the tensor that holds the fused picture before it becomes bytes.

    Raises
    ------
    EngineError
        If the graph does not end as `bifocus.export.pixel_network` writes it.
    """
    clips = [node for node in model.graph.node if node.op_type == "Clip"]
    if len(clips) != 1:
        msg = f"the graph has {len(clips)} Clip nodes, expected one before its output"
        raise EngineError(msg)
    return str(clips[0].input[0])


def count_not_finite(model: onnx.ModelProto, feeds: Feeds) -> int:
    """Return how many values are NaN or infinite before they become bytes."""
    name = levels_tensor(model)
    (values,) = watch_tensors(model, [name], [feeds])
    return int((~np.isfinite(values[name])).sum())
