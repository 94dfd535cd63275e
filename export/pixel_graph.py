"""From a module on pictures to an ONNX graph: traced by torch, cleaned, described.

Anything that takes and gives uint8 pictures (N, H, W, 3) can be traced, as
`bifocus.export.pixel_network`. The batch is always free; rows and columns are free or
fixed. Opsets end at 20, the highest that JetPack's TensorRT 10 reads.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import onnx
import torch
from torch import nn
from torch.export import Dim

from bifocus.errors import ConfigError, EngineError
from bifocus.model.fusion_network import MIN_SIDE_PX

OUTPUT_NAME = "fused"
OPSETS = (18, 19, 20)  # torch's exporter starts at 18
DEFAULT_OPSET = 18
_MAX_BATCH = 1024
_MAX_SIDE_PX = 65536
_EXAMPLE_SIDE_PX = 96
# An example of one picture would fix the batch at one.
_EXAMPLE_BATCH = 2
_EXPORTER_LOGGER = "torch.onnx._internal.exporter"

Size = tuple[int, int]


def trace_pictures(
    module: nn.Module,
    inputs: Sequence[str],
    *,
    size_px: Size | None = None,
    opset: int = DEFAULT_OPSET,
) -> onnx.ModelProto:
    """Return the graph of a module from uint8 pictures to one.

    Parameters
    ----------
    module
        Takes one picture (N, H, W, 3) per name in `inputs`, gives one of that shape.
    inputs
        Names of the graph's inputs; its output is "fused".
    size_px
        Rows and columns; None for any from 32 px.
    opset
        18, 19 or 20.

    Returns
    -------
    onnx.ModelProto
        Without notes of where it was made.

    Raises
    ------
    ConfigError
        If the opset is unknown or the size too small.
    EngineError
        If torch cannot trace the module.
    """
    if opset not in OPSETS:
        raise ConfigError(f"opset is {opset}; it must be one of {OPSETS}")
    if size_px is not None and not MIN_SIDE_PX <= min(size_px) <= _MAX_SIDE_PX:
        raise ConfigError(
            f"a tile of {size_px[1]}x{size_px[0]} px is too small: both sides must be "
            f"at least {MIN_SIDE_PX} px"
        )
    try:
        model = _traced(module, inputs, size_px, opset)
    except torch.onnx.OnnxExporterError as error:
        first = str(error).splitlines()[0]
        raise EngineError(f"torch cannot export this network: {first}") from error
    _name_output_sizes(model)
    forget_source(model)
    return model


def describe_graph(model: onnx.ModelProto, facts: Mapping[str, str]) -> bytes:
    """Return the file's content with `facts` as the graph's own metadata."""
    onnx.helper.set_model_props(model, dict(facts))
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _traced(
    module: nn.Module, inputs: Sequence[str], size_px: Size | None, opset: int
) -> onnx.ModelProto:
    rows, columns = size_px or (_EXAMPLE_SIDE_PX, _EXAMPLE_SIDE_PX)
    pictures = tuple(
        torch.zeros(_EXAMPLE_BATCH, rows, columns, 3, dtype=torch.uint8) for _ in inputs
    )
    free: dict[int, Any] = {0: Dim("batch", min=1, max=_MAX_BATCH)}
    if size_px is None:
        free[1] = Dim("height", min=MIN_SIDE_PX, max=_MAX_SIDE_PX)
        free[2] = Dim("width", min=MIN_SIDE_PX, max=_MAX_SIDE_PX)
    with quiet_exporter():
        program: Any = torch.onnx.export(
            module.eval(),
            pictures,
            dynamo=True,
            opset_version=opset,
            input_names=list(inputs),
            output_names=[OUTPUT_NAME],
            dynamic_shapes={"pictures": tuple(free for _ in pictures)},
            verbose=False,
        )
    model: onnx.ModelProto = program.model_proto
    return model


def forget_source(model: onnx.ModelProto) -> None:
    """Drop the exporter's notes: they hold paths of this machine."""
    graph = model.graph
    nodes = [*graph.node, *(node for part in model.functions for node in part.node)]
    tensors = [*graph.initializer, *graph.value_info, *graph.input, *graph.output]
    for part in (model, graph, *model.functions, *nodes, *tensors):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")


def _name_output_sizes(model: onnx.ModelProto) -> None:
    """Give the output the sizes of the inputs; the exporter may leave a formula."""
    sizes = model.graph.input[0].type.tensor_type.shape
    model.graph.output[0].type.tensor_type.shape.CopyFrom(sizes)


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Silence torch on its own deprecations and on torchvision being absent."""
    logger = logging.getLogger(_EXPORTER_LOGGER)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
