"""One ONNX graph from two shots to the fused picture: physics and network together.

The physics part is `bifocus.export.physics_graph`; the network is any graph that
bifocus exports. Nothing is left for the CPU between the camera's bytes and the result.
"""

import json

import onnx
import torch
from onnx import TensorProto, helper

from bifocus import __version__
from bifocus.block_fusion import Colours
from bifocus.errors import ConfigError, EngineError
from bifocus.export.physics_graph import Fused, PhysicsGraph
from bifocus.export.pixel_graph import forget_source, quiet_exporter
from bifocus.pair_spectra import radial_bins
from bifocus.physics_fusion import MIN_SIDE_PX

SHOTS = ("minus", "plus")
OPTICS = ("transfer", "in_focus", "scale_um", "trust")
NUMBERS = (
    "offset_um",
    "sd_um",
    "confidence",
    "quality",
    "sharper_is_plus",
    "clearest",
    "shift_px",
)
_JOINT = "joint"
# The picture of a pair that each network input is made from.
_PICTURES = {
    "minus": "minus_moved",
    "plus": "plus_moved",
    "physics": _JOINT,  # networks start from all colours together
    "sharper": "sharper",
    "other": "other",
    "remainder": f"{_JOINT}_remainder",
}
_PREFIX = "network/"
_LEVELS = "physics/levels"


def build_physics_parts(
    shape: tuple[int, int], *, n_offsets: int = 161, opset: int = 18
) -> onnx.ModelProto:
    """Return the physics graph with both its pictures and all a network may ask for.

    Parameters
    ----------
    shape
        Rows and columns of the shots, at least 64; the graph takes no other.
    n_offsets
        Offsets in the optics' tables; odd.
    opset
        That of the network to be joined.

    Returns
    -------
    ModelProto
        Inputs `SHOTS` (uint8, (1, rows, columns, 3)) and `OPTICS`
        (`bifocus.optics_inputs`), outputs those of `physics_graph.Fused`.
    """
    if min(shape) < MIN_SIDE_PX:
        msg = f"shots of {shape[1]}x{shape[0]} px: sides must be >= {MIN_SIDE_PX} px"
        raise ConfigError(msg)
    graph = PhysicsGraph(shape, n_offsets=n_offsets).eval()
    bins = radial_bins(graph.layout.block_px).count.size
    # Each its own tensor: the exporter takes two inputs that share one for one.
    examples = (
        *(torch.zeros(1, *shape, 3, dtype=torch.uint8) for _ in SHOTS),
        torch.zeros(3, 2, n_offsets, bins),
        torch.zeros(3, bins),
        torch.ones(3),
        torch.ones(1),
    )
    with quiet_exporter():
        program = torch.onnx.export(
            graph,
            examples,
            dynamo=True,
            opset_version=opset,
            input_names=[*SHOTS, *OPTICS],
            output_names=list(Fused._fields),
            verbose=False,
        )
    if program is None:
        raise EngineError("torch.onnx.export gave no graph of the physics fusion")
    model: onnx.ModelProto = program.model_proto
    forget_source(model)
    metadata = {
        "bifocus_version": __version__,
        "network": "physics",
        "block_px": str(graph.layout.block_px),
        "size_px": json.dumps(shape),
    }
    helper.set_model_props(model, metadata)
    return model


def finish_physics(
    parts: onnx.ModelProto, *, colours: Colours = "apart"
) -> onnx.ModelProto:
    """Return the graph from two shots to ``physics`` (uint8) and `NUMBERS`.

    The picture is that of `bifocus.physics_fusion.fuse_measured`.
    """
    model = onnx.ModelProto()
    model.CopyFrom(parts)
    # The float picture makes room for the bytes' name.
    _rename(model.graph, "physics", _LEVELS)
    source = _LEVELS if colours == "apart" else _JOINT
    cast = helper.make_node("Cast", [source], ["physics"], to=TensorProto.UINT8)
    model.graph.node.append(cast)
    return _finish(model, "physics")


def compose_whole_fusion(
    network: onnx.ModelProto, parts: onnx.ModelProto
) -> onnx.ModelProto:
    """Return the graph from two shots and their optics to the network's output.

    Parameters
    ----------
    network
        An exported network: pictures in and out are uint8 (N, H, W, 3), or float
        (N, 3, H, W) in 0..1. Its own precision is kept; physics stays float32.
    parts
        `build_physics_parts`, of the same opset.

    Returns
    -------
    ModelProto
        Inputs `SHOTS` and `OPTICS`; outputs ``fused`` (uint8, (1, rows, columns, 3))
        and `NUMBERS`. The metadata are the network's.

    Raises
    ------
    EngineError
        If the network asks for other pictures, has several outputs, or another opset.
    """
    _check(network, parts)
    inner = onnx.compose.add_prefix(network, _PREFIX)
    model = onnx.ModelProto()
    model.CopyFrom(parts)
    graph, result = model.graph, inner.graph.output[0]
    for picture in inner.graph.input:
        source = _PICTURES[picture.name.removeprefix(_PREFIX)]
        graph.node.extend(_entrance(picture, source))
    graph.node.extend(inner.graph.node)
    graph.initializer.extend(inner.graph.initializer)
    graph.node.extend(_exit(result))
    _rename(graph, result.name, "fused")
    known = {entry.domain for entry in model.opset_import}
    for entry in inner.opset_import:
        if entry.domain not in known:
            model.opset_import.append(entry)
    model.ir_version = max(model.ir_version, inner.ir_version)
    del model.metadata_props[:]
    model.metadata_props.extend(network.metadata_props)
    return _finish(model, "fused")


def _check(network: onnx.ModelProto, parts: onnx.ModelProto) -> None:
    names = [picture.name for picture in network.graph.input]
    unknown = [name for name in names if name not in _PICTURES]
    if unknown or len(network.graph.output) != 1 or network.functions:
        raise EngineError(
            f"the network takes {names} and gives {len(network.graph.output)} outputs; "
            f"a whole fusion needs one output, and inputs out of {list(_PICTURES)}"
        )
    sides = [side.dim_value for side in parts.graph.input[0].type.tensor_type.shape.dim]
    for picture in network.graph.input:
        own = [side.dim_value for side in picture.type.tensor_type.shape.dim]
        expected = sides if _type(picture) == TensorProto.UINT8 else _planar(sides)
        if any(a and a != b for a, b in zip(own, expected, strict=True)):
            raise EngineError(
                f"the network's input '{picture.name}' is {own}, the physics graph "
                f"gives {expected}; export both for one tile size"
            )
    opsets = [
        next(entry.version for entry in model.opset_import if not entry.domain)
        for model in (network, parts)
    ]
    if opsets[0] != opsets[1]:
        raise EngineError(
            f"the network has opset {opsets[0]}, the physics graph {opsets[1]}; "
            "build the physics graph with the network's opset"
        )


def _planar(sides: list[int]) -> list[int]:
    return [sides[0], sides[3], sides[1], sides[2]]


def _entrance(picture: onnx.ValueInfoProto, source: str) -> list[onnx.NodeProto]:
    """Return the nodes that make a network's input from a picture of whole levels."""
    if _type(picture) == TensorProto.UINT8:
        # Levels stay float: the network's own first step is a cast, and TensorRT
        # knows bytes at the edge of a graph alone.
        return [helper.make_node("Identity", [source], [picture.name])]
    planes, scale = f"{picture.name}/planes", f"{picture.name}/scale"
    value = helper.make_tensor(f"{scale}/value", TensorProto.FLOAT, [], [1 / 255])
    return [
        helper.make_node("Transpose", [source], [planes], perm=[0, 3, 1, 2]),
        helper.make_node("Constant", [], [scale], value=value),
        helper.make_node("Mul", [planes, scale], [picture.name]),
    ]


def _exit(result: onnx.ValueInfoProto) -> list[onnx.NodeProto]:
    """Return the nodes that turn float planes into bytes; they take over the name."""
    if _type(result) == TensorProto.UINT8:
        return []
    name = result.name
    steps = [("Clip", [0.0, 1.0]), ("Mul", [255.0]), ("Add", [0.5])]
    nodes, last = [], name
    for kind, values in steps:
        out = f"{name}/{kind}"
        inputs = [last]
        for number, value in enumerate(values):
            inputs.append(f"{out}/{number}")
            tensor = helper.make_tensor(inputs[-1], TensorProto.FLOAT, [], [value])
            nodes.append(helper.make_node("Constant", [], inputs[-1:], value=tensor))
        nodes.append(helper.make_node(kind, inputs, [out]))
        last = out
    levels, result.name = f"{name}/levels", f"{name}/bytes"
    return [
        *nodes,
        helper.make_node("Transpose", [last], [levels], perm=[0, 2, 3, 1]),
        helper.make_node("Cast", [levels], [result.name], to=TensorProto.UINT8),
    ]


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        node.output[:] = [new if name == old else name for name in node.output]
        node.input[:] = [new if name == old else name for name in node.input]


def _finish(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Return what leads to one picture of bytes and to `NUMBERS`."""
    graph = model.graph
    picture = onnx.ValueInfoProto(name=name)
    picture.type.CopyFrom(graph.input[0].type)
    numbers = [output for output in graph.output if output.name in NUMBERS]
    del graph.output[:], graph.value_info[:]
    graph.output.extend([picture, *numbers])
    return _without_dead_nodes(model)


def _without_dead_nodes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop nodes and weights that lead to no output; inputs all stay."""
    graph = model.graph
    needed = {output.name for output in graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    nodes = list(reversed(kept))
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(weights)
    onnx.checker.check_model(model)
    return model


def _type(value: onnx.ValueInfoProto) -> int:
    kind: int = value.type.tensor_type.elem_type
    return kind
