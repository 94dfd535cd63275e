"""One graph of a network in the precision asked for, audited: ready for the gate."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

from bifocus.engine_manifest import Precision
from bifocus.export.calibration import default_pictures
from bifocus.export.graph_audit import audit_graph, read_graph
from bifocus.export.parity import Pictures
from bifocus.export.pixel_graph import DEFAULT_OPSET, describe_graph, trace_pictures
from bifocus.export.pixel_network import PixelNetwork, picture_inputs
from bifocus.export.quantise import Runtime, plan_int8, quantise
from bifocus.export.stored_weights import store_half
from bifocus.model.fusion_network import FusionNetwork

logger = logging.getLogger(__name__)

# QuantizeLinear takes half precision from opset 19 on; torch writes 20 as well.
_HALF_INT8_OPSET = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphRequest:
    """What kind of graph to make; fields as in `export_model.ExportRequest`."""

    name: str
    precision: Precision
    size_px: tuple[int, int] | None
    runtime: Runtime
    opset: int = DEFAULT_OPSET
    calibration: Sequence[Pictures] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeGraph:
    """A graph that is what it claims to be.

    Attributes
    ----------
    content, model
        The file's bytes, and the same parsed, its weights as wide as they compute.
    audit
        Convolutions by type.
    int8_runtime, calibration
        Whose form of INT8 it is, and what it was calibrated with; None if not INT8.
    """

    content: bytes
    model: onnx.ModelProto
    audit: dict[str, int]
    opset: int
    int8_runtime: Runtime | None
    calibration: str | None


def make_graph(
    network: FusionNetwork, request: GraphRequest, *, facts: Mapping[str, str]
) -> MadeGraph:
    """Return the graph of a network.

    Parameters
    ----------
    network
        It is not changed.
    request
        Precision, size, opset, and for INT8 who runs it.
    facts
        Written into the graph as its metadata.

    Raises
    ------
    ConfigError
        If the opset or the size does not fit, or INT8 has no pictures.
    EngineError
        If the graph is not what was asked for.
    """
    calibration, opset = None, request.opset
    if request.precision == "int8":
        is_half = request.runtime == "tensorrt"
        opset = max(opset, _HALF_INT8_OPSET) if is_half else opset
        model, calibration = _quantised(network, request, opset, is_half)
    else:
        module = PixelNetwork(network, is_half=request.precision == "fp16")
        model = trace_pictures(
            module, module.inputs, size_px=request.size_px, opset=opset
        )
    facts = {**facts, "precision": request.precision}
    content = describe_graph(store_half(model), facts)
    parsed = read_graph(content, request.name)
    return MadeGraph(
        content=content,
        model=parsed,
        audit=audit_graph(parsed, request.precision, request.name),
        opset=opset,
        int8_runtime=request.runtime if request.precision == "int8" else None,
        calibration=calibration,
    )


def _quantised(
    network: FusionNetwork, request: GraphRequest, opset: int, is_half: bool
) -> tuple[onnx.ModelProto, str]:
    if request.calibration is None:
        pictures, origin = default_pictures(picture_inputs(network))
    else:
        pictures, origin = list(request.calibration), "pictures given by the user"
        origin = f"{len(pictures)} {origin}"
    logger.info("calibrating INT8 with %s", origin)
    # Planned in float32 at any size; what is asked for may be half, or of one size.
    inputs = picture_inputs(network)
    free = trace_pictures(PixelNetwork(network), inputs, opset=opset)
    plan = plan_int8(free, pictures, request.runtime)
    if is_half or request.size_px is not None:
        free = trace_pictures(
            PixelNetwork(network, is_half=is_half),
            inputs,
            size_px=request.size_px,
            opset=opset,
        )
    return quantise(free, plan, request.runtime), origin
