"""Export of a network to one ONNX file that names its inputs, halo and stride.

The graph takes any size from 32 px: padding to the stride and the crop are inside.
Batch normalisation is folded first. `PixelUnshuffle` has been exported with a wrong
channel order before (onnxscript issue 2891), so that every file is compared with torch
in ONNX Runtime before it is kept.
"""

import copy
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch.export import Dim

from bifocus import __version__
from bifocus.errors import ConfigError, EngineError
from bifocus.model.fusion_network import MIN_SIDE_PX, FusionNetwork
from bifocus.model.paper_blocks import fold_batch_norm
from bifocus.model.receptive import receptive_radius
from bifocus.whole_file import write_whole

OUTPUT_NAME = "fused"
PARITY_TOLERANCE = 1e-4  # of the range 0..1: a fortieth of an 8-bit level
_OPSETS = (18, 19, 20)  # torch's exporter starts at 18; JetPack's TensorRT ends at 20
# Not multiples of any stride, so that padding and crop are compared as well.
_PARITY_SIZES = ((64, 64), (77, 45))
_EXAMPLE_SIDE_PX = 96
_MAX_SIDE_PX = 65536
_EXPORTER_LOGGER = "torch.onnx._internal.exporter"


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxExport:
    """A written file, and how far its output is from torch's.

    Attributes
    ----------
    path
        The file.
    max_difference
        Largest absolute difference to torch on random images in 0..1.
    metadata
        What the file says of itself.
    """

    path: Path
    max_difference: float
    metadata: dict[str, str]


def export_onnx(
    network: FusionNetwork,
    path: Path | str,
    *,
    name: str,
    halo_px: int,
    opset: int = 18,
    extra_metadata: dict[str, str] | None = None,
) -> OnnxExport:
    """Write `network` to `path` as float32 ONNX, checked against torch.

    Parameters
    ----------
    network
        The network; it is not changed.
    path
        The file, by custom ending in ``.onnx``; replaced only by a checked one.
    name
        The network's name in the registry, for the metadata.
    halo_px
        The margin tiles need, in px: at least the receptive radius, and a multiple of
        the stride (`bifocus.model.receptive.halo_px`).
    opset
        18, 19 or 20.
    extra_metadata
        More to write into the file: data hash, trained ranges and the like.

    Returns
    -------
    OnnxExport
        The graph has one input (batch, 3, height, width) per name in
        ``network.inputs``, in that order, and the output "fused" of that shape.

    Raises
    ------
    ConfigError
        If the halo or the opset does not fit.
    EngineError
        If the graph disagrees with torch by more than `PARITY_TOLERANCE`, or the file
        cannot be written.
    """
    _check_request(network, halo_px, opset)
    plain = _plain_copy(network)
    model = _to_graph(plain, opset)
    metadata = {
        "bifocus_version": __version__,
        "network": name,
        "inputs": json.dumps(network.inputs),
        "halo_px": str(halo_px),
        "stride_px": str(network.stride),
        **(extra_metadata or {}),
    }
    onnx.helper.set_model_props(model, metadata)
    content = model.SerializeToString()
    difference = max_difference(content, plain)
    if not difference <= PARITY_TOLERANCE:
        raise EngineError(
            f"{name} in ONNX differs from torch by {difference:.2g} of 1, more than "
            f"{PARITY_TOLERANCE:.0g}: {path} was not written"
        )
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, content)
    return OnnxExport(path=Path(path), max_difference=difference, metadata=metadata)


def max_difference(content: bytes, network: FusionNetwork) -> float:
    """Return the largest absolute difference of an ONNX graph to `network`.

    Random images, of sizes that fit the stride and that do not, in ONNX Runtime.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        content, options, providers=["CPUExecutionProvider"]
    )
    random = np.random.default_rng(0)
    worst = 0.0
    for size in _PARITY_SIZES:
        images = {
            key: random.random((2, 3, *size), dtype=np.float32)
            for key in network.inputs
        }
        with torch.no_grad():
            expected = network(*map(torch.from_numpy, images.values())).numpy()
        fused = np.asarray(session.run([OUTPUT_NAME], images)[0])
        if fused.shape != expected.shape:
            raise EngineError(f"the graph gives {fused.shape}, torch {expected.shape}")
        worst = max(worst, float(np.abs(fused - expected).max()))
    return worst


def _check_request(network: FusionNetwork, halo_px: int, opset: int) -> None:
    radius = receptive_radius(network)
    if halo_px < radius or halo_px % network.stride:
        raise ConfigError(
            f"halo_px is {halo_px}; it must be a multiple of {network.stride} and at "
            f"least the receptive radius, {radius} px"
        )
    if opset not in _OPSETS:
        raise ConfigError(f"opset is {opset}; it must be one of {_OPSETS}")


def _plain_copy(network: FusionNetwork) -> FusionNetwork:
    """Return a float32 copy on the CPU, in evaluation mode, without batch norm."""
    plain = copy.deepcopy(network).to("cpu", torch.float32).eval()
    if getattr(plain.config, "batch_norm", False):
        return fold_batch_norm(plain)
    return plain


def _to_graph(network: FusionNetwork, opset: int) -> onnx.ModelProto:
    side = _EXAMPLE_SIDE_PX
    images = tuple(torch.zeros(1, 3, side, side) for _ in network.inputs)
    sizes = {
        0: Dim("batch", min=1, max=1024),
        2: Dim("height", min=MIN_SIDE_PX, max=_MAX_SIDE_PX),
        3: Dim("width", min=MIN_SIDE_PX, max=_MAX_SIDE_PX),
    }
    with _quiet_exporter():
        program: Any = torch.onnx.export(
            network,
            images,
            dynamo=True,
            opset_version=opset,
            input_names=list(network.inputs),
            output_names=[OUTPUT_NAME],
            dynamic_shapes={"images": tuple(sizes for _ in images)},
            verbose=False,
        )
    model: onnx.ModelProto = program.model_proto
    _name_output_sizes(model)
    _forget_source(model)
    return model


def _forget_source(model: onnx.ModelProto) -> None:
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
def _quiet_exporter() -> Iterator[None]:
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
